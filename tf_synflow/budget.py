"""Budgets in real units: the lowest compression whose model meets one."""

import dataclasses
import inspect
import math
import numbers
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tf_synflow import errors, progress

# Of the exported file, of one inference, of one inference.
UNITS = {"bytes": "bytes", "flops": "FLOPs", "latency_ms": "ms"}

CLOSE = 0.02
_MOST = 12


@dataclasses.dataclass(frozen=True)
class Found:
    """What a search found.

    Attributes:
      compression: the lowest of those tried that meets the budget.
      amount: what was measured there, in the budget's unit.
      limit: the budget.
      tried: compression and amount of every trial, in order; NaN where no flow was left.
    """

    unit: str
    compression: float
    amount: float
    limit: float
    tried: tuple[tuple[float, float], ...]

    def __str__(self) -> str:
        return (
            f"compression {self.compression:.4g} meets the budget: {self.amount:,.6g} of "
            f"{self.limit:,.6g} {UNITS[self.unit]} (tried {len(self.tried)})"
        )


def search(
    unit: str,
    limit: float,
    amount_at: Callable[[float], float],
    highest: float,
    verbose: bool | str = False,
    lowest: float = 1.0,
) -> Found:
    """Finds the lowest compression at which an amount is within a limit.

    The amount is taken to fall with the compression. Trials narrow a bracket by a power law
    through its ends, until one lies within 2 % below the limit or the bracket within 2 %.

    Args:
      unit: `"bytes"`, `"flops"` or `"latency_ms"`.
      limit: above 0.
      amount_at: measures it at a compression; may raise `LayerCollapseError`.
      highest: compression that is tried at most.
      verbose: True, False or `"auto"`: a progress bar on what takes over two seconds.
      lowest: compression that is tried at least.

    Raises:
      QuantityError: a limit that is no positive number.
      BudgetError: not met at any compression; says the nearest.

    Example:
      >>> search("bytes", 1000, lambda compression: 90_000 / compression, highest=1e4).compression
      90.0
    """
    if isinstance(limit, bool) or not isinstance(limit, numbers.Real) or not 0 < limit < math.inf:
        raise errors.QuantityError(
            f"target_{unit}: received {limit!r}; expected a number of {UNITS[unit]} above 0."
        )
    tried: list[tuple[float, float]] = []

    def trial(compression: float) -> float:
        try:
            amount = float(amount_at(compression))
        except errors.LayerCollapseError:
            amount = math.nan
        tried.append((compression, amount))
        steps.set_postfix_str(f"{amount:,.4g} {UNITS[unit]} at {compression:.4g}×", refresh=False)
        steps.update()
        return amount

    with progress.bar(
        desc=f"searching {limit:,.6g} {UNITS[unit]}", unit="trial", verbose=verbose, leave=False
    ) as steps:
        above, below = _bracket(trial, limit, lowest, highest)
        while below is not None and len(tried) < _MOST:
            if below[1] >= (1 - CLOSE) * limit or below[0] <= (1 + CLOSE) * above[0]:
                break
            compression = _between(above, below, limit)
            amount = trial(compression)
            if amount <= limit:
                below = compression, amount
            else:
                above = compression, amount
    if below is None:
        nearest = min((a, c) for c, a in tried if not math.isnan(a))
        raise errors.BudgetError(
            f"target_{unit}: received {limit:,.6g}; expected at least {nearest[0]:,.6g} "
            f"{UNITS[unit]}, the nearest that was found, at compression {nearest[1]:.4g}. "
            "Beyond it nothing flows from input to output, or nothing more is gained. Take a "
            "smaller model, or a smaller number format where the file is what counts."
        )
    return Found(unit, *below, float(limit), tuple(tried))


Point = tuple[float, float]


def _bracket(
    trial: Callable[[float], float], limit: float, lowest: float, highest: float
) -> tuple[Point, Point | None]:
    """The last trial over the limit, and the first within; tenfold steps, then to the end."""
    compression, amount = lowest, trial(lowest)
    if amount <= limit:
        return (lowest, amount), (lowest, amount)
    above = lowest, amount
    while compression < highest:
        # As if the amount were in proportion to the weights that stay, but not too far at once.
        step = min(max(1.05 * above[1] / limit, 1.5), 10.0)
        compression = min(step * compression, highest)
        amount = trial(compression)
        if amount <= limit:
            return above, (compression, amount)
        if math.isnan(amount):
            return above, _within_flow(trial, above[0], compression, limit)
        above = compression, amount
    return above, None


def _within_flow(
    trial: Callable[[float], float], flows: float, collapses: float, limit: float
) -> Point | None:
    """A point within the limit between a compression that leaves flow and one that does not."""
    while collapses > 1.1 * flows:
        compression = math.sqrt(flows * collapses)
        amount = trial(compression)
        if amount <= limit:
            return compression, amount
        flows, collapses = (flows, compression) if math.isnan(amount) else (compression, collapses)
    return None


def _between(above: Point, below: Point, limit: float) -> float:
    """Where a power law through both points meets the limit, well inside the bracket."""
    spread = math.log(below[0] / above[0])
    fall = math.log(above[1] / max(below[1], 1e-9))
    share = math.log(above[1] / (limit * (1 - CLOSE / 2))) / fall if fall > 0 else 0.5
    return above[0] * math.exp(spread * min(max(share, 0.1), 0.9))


def amount_of(unit: str, options: Mapping[str, Any]) -> Callable[[Any], float]:
    """What measures a pruned model in a unit.

    Args:
      unit: `"bytes"`, `"flops"` or `"latency_ms"`.
      options: of `export_tflite`, for what is measured of the file.

    Raises:
      QuantityError: options that are no mapping, or beside FLOPs.
      UnknownNameError: `export_tflite` knows no such option, or value of it.
      ExportError: a number format that its target does not run.
    """
    _check_options(options)
    return {"bytes": _bytes, "flops": _flops, "latency_ms": _latency_ms}[unit](dict(options))


def _check_options(options: Any) -> None:
    """Finds what is misspelt before the minutes of a search."""
    from tf_synflow import export
    from tf_synflow.export import arguments

    if not isinstance(options, Mapping):
        raise errors.QuantityError(
            f"export_options: received {options!r}; expected arguments of export_tflite by name, "
            '{"quantize": "float16"}.'
        )
    known = inspect.signature(export.export_tflite).parameters.keys() - {"model", "path"}
    for name in options:
        if name not in known:
            raise errors.UnknownNameError("export option", name, known)
    names = {"sparse": "auto", "quantize": None, "target": "cpu-x86", "shrink": True}
    arguments.check_names(**{name: options.get(name, default) for name, default in names.items()})


def _flops(options: dict) -> Callable[[Any], float]:
    from tf_synflow import report

    if options:
        raise errors.QuantityError(
            f"export_options: received {options!r} beside target_flops; expected none, for FLOPs "
            "are counted in the model and not in a file."
        )
    return lambda model: report.summary(model).flops


def _bytes(options: dict) -> Callable[[Any], float]:
    from tf_synflow import export

    def measure(model: Any) -> float:
        with tempfile.TemporaryDirectory(prefix="tf_synflow_") as folder:
            path = Path(folder) / "model.tflite"
            return export.export_tflite(model, path, **{"verbose": False, **options}).file_bytes

    return measure


def _latency_ms(options: dict) -> Callable[[Any], float]:
    from tf_synflow import export
    from tf_synflow.deployment import benchmark

    def measure(model: Any) -> float:
        with tempfile.TemporaryDirectory(prefix="tf_synflow_") as folder:
            path = Path(folder) / "model.tflite"
            arguments = {"batch_size": 1, "verbose": False, **options}
            export.export_tflite(model, path, **arguments)
            measured = benchmark.benchmark(path, threads=[1], seconds=1.0, verbose=False)
            return measured.of(path).latency_ms

    return measure
