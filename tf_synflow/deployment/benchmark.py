"""Latency, load time and memory of files side by side, in one interleaved run."""

import contextlib
import dataclasses
import importlib.metadata
import json
import math
import numbers
import os
import pathlib
import platform
import statistics
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from tf_synflow import errors, files, progress
from tf_synflow.deployment.child import Child
from tf_synflow.deployment.machine import machine
from tf_synflow.deployment.worker import RUNTIMES
from tf_synflow.tables import table


@dataclasses.dataclass(frozen=True)
class Measurement:
    """What was measured of one file, in one runtime, on so many threads.

    Attributes:
      path: the file.
      runtime: `interpreter` or `compiled`.
      threads: of the runtime.
      inputs: types and shapes of the random inputs.
      latency_ms: the median over rounds of a round's median.
      latency_low_ms, latency_high_ms: between them lies half of the rounds.
      times_faster: than the first file: the median over rounds of the ratio within a round.
      load_ms: the median time to load it from the page cache and prepare it; one load a round.
      peak_bytes: most memory while it was loaded and run, over an idle process with the runtime
          imported; None where the system does not tell.
      inferences: how many were timed.
    """

    path: str
    runtime: str
    threads: int
    inputs: tuple[str, ...]
    latency_ms: float
    latency_low_ms: float
    latency_high_ms: float
    times_faster: float
    load_ms: float
    peak_bytes: int | None
    inferences: int


@dataclasses.dataclass(frozen=True)
class BenchmarkReport:
    """What a benchmark measured, and where: print it, `to_dict()` it or `save` it.

    Attributes:
      measurements: runtime by runtime and thread count by thread count, files in the given order.
      file_bytes: sizes by path.
      seconds: of timed running for each measurement, in `rounds` rounds.
      rounds: in each, every file is loaded and run in turn.
      machine: of `machine()`.
      versions: of Python and the runtime.
    """

    measurements: tuple[Measurement, ...]
    file_bytes: dict[str, int]
    seconds: float
    rounds: int
    machine: dict[str, Any]
    versions: dict[str, str]

    def of(self, path: str | os.PathLike) -> Measurement | None:
        """The first measurement of a file: of the first runtime and thread count."""
        return next((m for m in self.measurements if m.path == os.fspath(path)), None)

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain Python values."""
        return dataclasses.asdict(self)

    def save(self, path: str | os.PathLike) -> None:
        """Writes `to_dict()` as JSON.

        Raises:
          OutputError: the file cannot be written.
        """
        with files.whole(path) as temporary:
            temporary.write_text(json.dumps(self.to_dict(), indent=2) + "\n")

    def __str__(self) -> str:
        header = ("file", "bytes", "runtime", "threads", "latency ms", "half of the rounds")
        header += ("times faster", "load ms", "peak memory")
        names = self.names()
        rows = [
            (
                names[m.path],
                f"{self.file_bytes[m.path]:,}",
                m.runtime,
                str(m.threads),
                f"{m.latency_ms:.3g}",
                f"{m.latency_low_ms:.3g} to {m.latency_high_ms:.3g}",
                f"{m.times_faster:.2f}",
                f"{m.load_ms:.3g}",
                "not measured" if m.peak_bytes is None else f"{m.peak_bytes / 1e6:.1f} MB",
            )
            for m in self.measurements
        ]
        return "\n".join([*table([header, *rows], left=(0, 2)), "", *self.conditions()])

    def names(self) -> dict[str, str]:
        """What to call each path: file names where they differ, whole paths where they do not."""
        names = [pathlib.Path(path).name for path in self.file_bytes]
        return {
            path: name if names.count(name) == 1 else path
            for path, name in zip(self.file_bytes, names, strict=True)
        }

    def conditions(self) -> list[str]:
        """How and where it was measured, in sentences."""
        first = next(iter(self.file_bytes))
        shapes = ", ".join(self.measurements[0].inputs)
        at = self.machine
        load = at["load_average"]
        runtime = ", ".join(f"{name} {version}" for name, version in self.versions.items())
        return [
            f"Random inputs ({shapes}). {self.rounds} rounds, {self.seconds:g} s of timed running "
            f"for each line, files in turn within a round; ratios are to {first}."
            + self._other_inputs(),
            "Peak memory is that of a process of its own, over an idle one with the runtime "
            "imported; load time with the file in the page cache.",
            f"{at['processor']}, {at['cores']} cores, {at['system']}"
            + (f", load average {load} at the start" if load is not None else "")
            + f"; {runtime}.",
        ]

    def _other_inputs(self) -> str:
        """Which files take other inputs than the first."""
        measured = [self.of(path) for path in self.file_bytes]
        return "".join(
            f" {self.names()[one.path]} takes others ({', '.join(one.inputs)}), so that its times "
            "are of another amount of work."
            for one in measured
            if one.inputs != measured[0].inputs
        )


def benchmark(
    paths: str | os.PathLike | Iterable[str | os.PathLike],
    *,
    threads: int | Iterable[int] | None = None,
    seconds: float = 2.0,
    rounds: int = 10,
    runtimes: str | Iterable[str] = ("interpreter",),
    seed: int = 0,
    verbose: bool | str = "auto",
) -> BenchmarkReport:
    """Measures .tflite files against each other in ai-edge-litert.

    Every file has a process of its own. Within a round all files are loaded and run in turn, in the
    opposite order in every other round, so that what else the machine does falls on all alike;
    ratios are taken within a round.

    Args:
      paths: the files; the first is what the others are compared with.
      threads: thread count of the runtime, or several; 1 and the number of cores by default.
      seconds: of timed running for each file, thread count and runtime; above 0.
      rounds: over which they are spread; at least 1.
      runtimes: "interpreter" (with its default delegate, XNNPACK), "compiled" (CompiledModel).
      seed: of the random inputs.
      verbose: True, False or "auto": a progress bar on what takes over two seconds.

    Returns:
      A `BenchmarkReport`.

    Raises:
      OutputError: there is no such file.
      ModelError: the runtime refuses a file, crashes at it or hangs.
      QuantityError: a number out of its range.
      UnknownNameError: another runtime.

    Example:
      >>> print(tf_synflow.benchmark(["dense.tflite", "sparse.tflite"], threads=[1]))
    """
    paths = _checked_paths(paths)
    counts = _checked_threads(threads)
    runtimes = (runtimes,) if isinstance(runtimes, str) else tuple(dict.fromkeys(runtimes))
    if not runtimes:
        raise errors.QuantityError(f"runtimes is empty; expected one or both of {list(RUNTIMES)}.")
    for runtime in runtimes:
        if runtime not in RUNTIMES:
            raise errors.UnknownNameError("runtime", runtime, RUNTIMES)
    if not isinstance(seconds, numbers.Real) or not 0 < seconds < math.inf:
        raise errors.QuantityError(f"seconds is {seconds!r}; expected a number above 0.")
    for name, value, least in (("rounds", rounds, 1), ("seed", seed, 0)):
        if not isinstance(value, numbers.Integral) or value < least:
            raise errors.QuantityError(
                f"{name} is {value!r}; expected a whole number of at least {least}."
            )
    at = machine()
    measurements = []
    total = len(runtimes) * len(counts) * rounds
    with progress.bar(total=total, desc="measuring", unit="round", verbose=verbose) as steps:
        for runtime in runtimes:
            for count in counts:
                found = _interleaved(paths, runtime, count, seconds, rounds, seed, steps.update)
                measurements.extend(found)
    versions = {"python": platform.python_version()}
    versions["ai-edge-litert"] = importlib.metadata.version("ai-edge-litert")
    sizes = {path: pathlib.Path(path).stat().st_size for path in paths}
    return BenchmarkReport(tuple(measurements), sizes, seconds, rounds, at, versions)


def _interleaved(
    paths: Sequence[str],
    runtime: str,
    threads: int,
    seconds: float,
    rounds: int,
    seed: int,
    tick: Any,
) -> Iterator[Measurement]:
    with contextlib.ExitStack() as stack:
        children = [stack.enter_context(Child(path, runtime, threads, seed)) for path in paths]
        inputs, peaks = [], []
        for child in children:
            child.ask("idle")
            inputs.append(child.ask("load")["inputs"])
            child.ask("run", min(seconds / rounds, 0.1))
            peaks.append(child.ask("peak")["bytes"])
        medians = [[] for _ in paths]
        loads = [[] for _ in paths]
        inferences = [0] * len(paths)
        for turn in range(rounds):
            order = range(len(paths)) if turn % 2 == 0 else reversed(range(len(paths)))
            for i in order:
                loads[i].append(children[i].ask("load")["seconds"])
                found = children[i].ask("run", seconds / rounds)
                medians[i].append(statistics.median(found["seconds"]))
                inferences[i] += found["count"]
            tick()
    for i, path in enumerate(paths):
        low, middle, high = _quartiles(medians[i])
        ratios = [first / own for first, own in zip(medians[0], medians[i], strict=True)]
        yield Measurement(
            path=path,
            runtime=runtime,
            threads=threads,
            inputs=tuple(inputs[i]),
            latency_ms=1e3 * middle,
            latency_low_ms=1e3 * low,
            latency_high_ms=1e3 * high,
            times_faster=statistics.median(ratios),
            load_ms=1e3 * statistics.median(loads[i]),
            peak_bytes=peaks[i],
            inferences=inferences[i],
        )


def _quartiles(values: list[float]) -> tuple[float, float, float]:
    if len(values) == 1:
        return (values[0],) * 3
    return tuple(statistics.quantiles(values, n=4, method="inclusive"))


def _checked_paths(paths: Any) -> list[str]:
    try:
        listed = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
        listed = list(dict.fromkeys(os.fspath(path) for path in listed))
    except TypeError as error:
        raise errors.OutputError(
            f"paths: received {paths!r}; expected the name of a .tflite file, or a list of names."
        ) from error
    if not listed:
        raise errors.QuantityError("paths is empty; expected at least one .tflite file.")
    for path in listed:
        if not os.path.isfile(path):
            raise errors.OutputError(f"{path!r} is no file; expected a .tflite file.")
    return listed


def _checked_threads(threads: Any) -> tuple[int, ...]:
    if threads is None:
        threads = (1, os.cpu_count() or 1)
    counts = tuple(threads) if isinstance(threads, Iterable) else (threads,)
    for count in counts:
        if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= 1024:
            raise errors.QuantityError(
                f"threads holds {count!r}; expected whole numbers from 1 to 1024."
            )
    if not counts:
        raise errors.QuantityError("threads is empty; expected at least one thread count.")
    return tuple(dict.fromkeys(counts))
