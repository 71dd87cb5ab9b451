"""Runs TFLite bytes in the runtimes that users have and compares them with the Keras model."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from tf_synflow import errors
from tf_synflow.export import runtimes
from tf_synflow.export.following import Following
from tf_synflow.export.samples import Batch
from tf_synflow.process import quiet

TOLERANCES = {None: 1e-4, "float16": 1e-2, "dynamic": 1e-1, "int8": 2e-1}
"""Largest accepted difference, relative to the largest output, by quantization.

Measured (docs/export.md): at most 1.2e-6, 4.2e-3, 6.5e-2 and 1.2e-1 over 293 files of six small
networks, and no more on VGG-16. Deeper ones add up more roundings; wrong encodings gave 0.3 to NaN.
"""

SAME_FORMAT_TOLERANCES = {None: 1e-5, "float16": 1e-5, "dynamic": 1e-5, "int8": 2e-2}
"""Of a sparse file against the dense file of the same format, on the same kind of kernels.

The kernel for int8 blocks rounds some results to the neighbouring one of the 256 steps.
"""

Probes = Iterable[tuple[str, Batch]]


@dataclasses.dataclass(frozen=True)
class Agreement:
    """How far a file is from its model.

    Attributes:
      max_abs: largest absolute difference over all outputs and inputs.
      max_rel: largest difference relative to the largest magnitude of its own output.
      worst_output: the output where `max_rel` was.
      argmax: share of rows (last axis) whose largest entry is the same; None without such rows.
      n_inputs: how many single inputs were run.
      unfollowed: of the output that the file follows least, the share of what the model's varies
        by over the inputs that is not in the file's, see `following`: at 1 a constant would do as
        well. None where no output varies.
      tolerance: what `max_rel` was held against.
      runtimes: in which the file was run, and the largest relative difference there.
      not_run: in which it was not, and why.
      notes: on outputs that the file follows only just.
    """

    max_abs: float
    max_rel: float
    worst_output: str
    argmax: float | None
    n_inputs: int
    unfollowed: float | None
    tolerance: float
    runtimes: dict[str, float]
    not_run: dict[str, str]
    notes: tuple[str, ...] = ()


# Hardly any of the input reaches an output no larger than this; in int8 all of it is rounding.
_VANISHED = 1e-6


def verify(
    content: bytes,
    reference: Callable[..., Mapping[str, Any]],
    batches: Probes,
    tolerance: float = TOLERANCES[None],
    must_follow: bool = True,
) -> Agreement:
    """Runs a file beside its model: in each of `RUNTIMES`, with their default delegates.

    Two errors are looked at: the largest, against the largest value of an output; and that of all
    inputs, against what the output varies by over them, see `following`.

    Args:
      content: the TFLite file's bytes, with a signature.
      reference: called with named arrays, returns the outputs by name: a `Signature`.
      batches: what each probe is called, and its arrays by input name.
      tolerance: largest accepted difference, relative to the largest magnitude of an output.
      must_follow: whether an output is refused that follows what the model's varies by no better
        than a constant would.

    Returns:
      The `Agreement`.

    Raises:
      ExportError: the file does not load or run in one of them, gives NaN or infinity, differs
        by more, or does not follow the model.
    """
    cases = _cases(reference, batches)
    seen: dict[str, list[_Output]] = {}
    not_run = {}
    for runtime, load in runtimes.RUNTIMES.items():
        try:
            with quiet():  # to the runtime's end, of which it speaks too
                seen[runtime] = _compare(load(content), cases, runtime)
        except runtimes.NotRunError as error:
            not_run[runtime] = str(error)
    outputs = [output for found in seen.values() for output in found]
    worst = _worst(outputs, tolerance)
    if must_follow:
        for output in outputs:
            output.following.check()
    shares = [output.following.unfollowed for output in outputs]
    rows = sum(output.rows for output in outputs)
    return Agreement(
        max_abs=max(output.difference for output in outputs),
        max_rel=worst.relative,
        worst_output=worst.name,
        argmax=sum(output.same for output in outputs) / rows if rows else None,
        n_inputs=sum(len(next(iter(case.batch.values()))) for case in cases),
        unfollowed=max((share for share in shares if share is not None), default=None),
        tolerance=tolerance,
        runtimes={name: max(o.relative for o in found) for name, found in seen.items()},
        not_run=not_run,
        notes=tuple(
            note for output in next(iter(seen.values())) for note in output.following.notes()
        ),
    )


def check_same(
    content: bytes, dense: bytes, batches: Probes, tolerance: float = SAME_FORMAT_TOLERANCES[None]
) -> None:
    """Compares a sparse file with the dense file of the same format, without any delegate.

    There both go through TFLite's own kernels, so that what is left is the order of summation. It
    finds an error that the tolerance of a coarse number format would hide.

    Args:
      content: the bytes of the sparse file.
      dense: the bytes of the file that it was encoded from.
      batches: as in `verify`.
      tolerance: as in `verify`.

    Raises:
      ExportError: they differ by more.
    """
    plain = runtimes.interpreter(dense, delegate=False)
    cases = [_Case(kind, batch, plain(batch)) for kind, batch in batches]
    cases = [case for case in cases if all(np.isfinite(v).all() for v in case.outputs.values())]
    if not cases:
        return  # the model is wrong itself, which `verify` says
    run = runtimes.interpreter(content, delegate=False)
    outputs = _compare(run, cases, "the Interpreter without a delegate")
    _worst(outputs, tolerance, "the dense file of the same format")


class _Case(NamedTuple):
    """A batch, what it is called, and the outputs that it should give."""

    kind: str
    batch: Batch
    outputs: dict[str, np.ndarray]


def _cases(reference: Callable[..., Mapping[str, Any]], batches: Probes) -> list[_Case]:
    """The batches with the model's outputs."""
    cases = []
    for kind, batch in batches:
        outputs = _outputs_of(reference, kind, batch)
        broken = [name for name, value in outputs.items() if not np.isfinite(value).all()]
        if broken and kind in ("zeros", "ones"):
            continue  # x / |x| and the like: the model is undefined there, and so is the file
        if broken:
            raise errors.ExportError(
                f"The Keras model itself gives NaN or infinity in output {broken[0]!r} on a {kind} "
                "input; expected finite outputs. Check its weights."
            )
        cases.append(_Case(kind, batch, outputs))
    if not cases:
        raise errors.ExportError("No input was left to compare on; expected at least one.")
    return cases


def _outputs_of(
    reference: Callable[..., Mapping[str, Any]], kind: str, batch: Batch
) -> dict[str, np.ndarray]:
    import tensorflow as tf

    try:
        return {name: np.asarray(value) for name, value in reference(**batch).items()}
    except (tf.errors.InvalidArgumentError, ValueError) as error:
        raise errors.DataError(
            f"The Keras model cannot be run on a {kind} input ({errors.first_line(error)}); "
            "expected inputs that it takes: tokens within its vocabulary, and shapes that fit. "
            "Correct samples= or representative_data=."
        ) from error


def _compare(run: runtimes.Run, cases: list[_Case], runtime: str) -> list["_Output"]:
    """Runs the cases; what was seen of each output."""
    seen: dict[str, _Output] = {}
    for case in cases:
        received = run(case.batch)
        if set(received) != set(case.outputs):
            raise errors.ExportError(
                f"The file has outputs {sorted(received)}; expected {sorted(case.outputs)}. TFLite "
                "holds once what a model returns twice, also behind a layer that does nothing in "
                "inference, like Dropout. Leave one of them off."
            )
        for name, value in case.outputs.items():
            where = f"{case.kind} input in {runtime}"
            seen.setdefault(name, _Output(name, runtime)).add(where, value, received[name])
    return list(seen.values())


def _worst(outputs: list["_Output"], tolerance: float, other: str = "the Keras model") -> "_Output":
    """The output that differs most; an error if that is too much."""
    worst = max(outputs, key=lambda output: output.relative)
    if not worst.relative <= tolerance:
        vanished = (
            "Outputs so small are those of a network that was pruned and not trained yet: train it "
            "before it is quantized. "
        )
        elsewhere = "".join(
            f", {output.relative:.3g} in {output.runtime}"
            for output in outputs
            if output.name == worst.name and output is not worst
        )
        raise errors.ExportError(
            f"The TFLite file differs from {other} in output {worst.name!r} by "
            f"{worst.relative:.3g} of its largest value {worst.scale:.3g} (on a {worst.where}"
            f"{elsewhere}); expected at most {tolerance:.3g}.",
            f"No file was written. {vanished if worst.scale < _VANISHED else ''}Try another "
            "quantize, or a larger tolerance if that difference is acceptable.",
        )
    return worst


class _Output:
    """What was seen of one output."""

    def __init__(self, name: str, runtime: str):
        self.name, self.runtime = name, runtime
        self.where = ""
        self.difference = self.scale = 0.0
        self.rows = self.same = 0
        self.following = Following(name, runtime)

    def add(self, where: str, expected: np.ndarray, received: np.ndarray) -> None:
        broken = np.count_nonzero(~np.isfinite(received))
        if received.shape != expected.shape or broken:
            amiss = f"{broken} NaN or infinite values"
            if received.shape != expected.shape:
                amiss = f"shape {received.shape}"
            raise errors.ExportError(
                f"The TFLite file gives {amiss} in output {self.name!r} on a {where}; expected "
                f"{expected.shape}, all finite.",
                "No file was written. Try another quantize.",
            )
        expected = expected.astype(np.float64)
        received = received.astype(np.float64)
        difference = float(np.abs(expected - received).max(initial=0))
        if difference > self.difference or not self.where:
            self.difference, self.where = difference, where
        self.scale = max(self.scale, float(np.abs(expected).max(initial=0)))
        self.following.add(expected, received)
        if expected.ndim > 1 and expected.shape[-1] > 1:
            same = expected.argmax(-1) == received.argmax(-1)
            self.rows += same.size
            self.same += int(same.sum())

    @property
    def relative(self) -> float:
        return self.difference / self.scale if self.scale else (np.inf if self.difference else 0.0)
