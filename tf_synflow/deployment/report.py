"""What is in a .tflite file, what the target makes of it, and what it measures, in one report."""

import collections
import dataclasses
import json
import os
import pathlib
from typing import Any

from tf_synflow import errors, files
from tf_synflow.deployment import benchmark as benchmarking
from tf_synflow.deployment.chains import Chain, chains_of
from tf_synflow.deployment.machine import is_host
from tf_synflow.deployment.verdicts import NO_ZEROS, OpVerdict, verdicts
from tf_synflow.tables import share, shortened, size, table
from tf_synflow.targets import TARGETS, check_target
from tf_synflow.tflite.contents import TensorContent, distinct, read_contents
from tf_synflow.tflite.downloads import zlib_bytes, zstd_bytes
from tf_synflow.tflite.graph import read_graphs
from tf_synflow.version import versions


@dataclasses.dataclass(frozen=True)
class DeploymentReport:
    """A .tflite file as its target sees it: print it, `to_dict()` it or `save` it.

    Attributes:
      path: of the file.
      target: one of "cpu-x86", "cpu-arm", "wasm", "microcontroller".
      file_bytes: size of the file.
      zlib_bytes: after zlib at level 9.
      zstd_bytes: after zstd at level 17.
      floor_bytes: the entropy floor of its constants: `floor_bits` summed up, in bytes.
      tensors: every constant, in the file's order, those that share a buffer once.
      ops: a verdict on every op that holds weights, in the order they run in.
      chains: the chains of 1×1 convolutions that XNNPACK turns sparse together or not at all.
      baseline: the file it is compared with, and its size; None without one.
      baseline_bytes: size of that file.
      measured: the benchmark of both; None where nothing was measured.
      unmeasured: what was not measured, and why; a sentence, or empty.
      versions: of tf_synflow and what stands beneath it.
    """

    path: str
    target: str
    file_bytes: int
    zlib_bytes: int
    zstd_bytes: int
    floor_bytes: int
    tensors: tuple[TensorContent, ...]
    ops: tuple[OpVerdict, ...]
    chains: tuple[Chain, ...]
    baseline: str | None
    baseline_bytes: int | None
    measured: benchmarking.BenchmarkReport | None
    unmeasured: str
    versions: dict[str, str]

    @property
    def weights(self) -> tuple[TensorContent, ...]:
        """The kernels and embeddings among the constants."""
        return tuple(tensor for tensor in self.tensors if tensor.is_weight)

    @property
    def elements(self) -> int:
        """Number of weights, zeros included."""
        return sum(tensor.elements for tensor in self.weights)

    @property
    def zeros(self) -> int:
        """How many of them are zero."""
        return sum(tensor.zeros or 0 for tensor in self.weights)

    def counts(self) -> dict[str, int]:
        """How many of the ops with weights run `sparse`, `dense`, or are `refused`."""
        found = collections.Counter(op.runs for op in self.ops)
        return {runs: found[runs] for runs in ("sparse", "dense", "refused")}

    def reasons(self) -> list[tuple[str, str, list[str]]]:
        """The verdicts by what runs and why, each with its layers, the most important first."""
        groups: dict[tuple[str, str], list[str]] = {}
        for op in self.ops:
            groups.setdefault((op.runs, op.why), []).append(op.layer)
        order = ("refused", "sparse", "dense")
        return sorted(
            ((runs, why, layers) for (runs, why), layers in groups.items()),
            key=lambda group: (order.index(group[0]), group[1] == NO_ZEROS),
        )

    def notes(self) -> list[str]:
        """What one should know beyond the tables, in sentences."""
        notes = []
        larger = [tensor for tensor in self.tensors if tensor.bytes > tensor.dense_bytes]
        if larger:
            extra = sum(tensor.bytes - tensor.dense_bytes for tensor in larger)
            notes.append(
                f"{len(larger)} of its tensors take more bytes sparse than they would dense "
                f"({size(extra)} in all)."
            )
        if self.counts()["refused"]:
            notes.append(
                f"{self.counts()['refused']} of its ops do not run on this target, or run wrongly."
            )
        return [*notes, *filter(None, [self.unmeasured])]

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain Python values, with the totals."""
        values = dataclasses.asdict(self)
        for chain in values["chains"]:
            chain["ops"] = sorted(chain["ops"])
        values["totals"] = {
            "elements": self.elements,
            "zeros": self.zeros,
            "ops": self.counts(),
        }
        values["notes"] = self.notes()
        return values

    def save(self, path: str | os.PathLike) -> None:
        """Writes the report: `.json` as `to_dict()`, `.html` as one page that needs nothing else.

        Raises:
          OutputError: another suffix, or the file cannot be written.
        """
        from tf_synflow.deployment.page import page

        kinds = {".json": lambda: json.dumps(self.to_dict(), indent=2), ".html": lambda: page(self)}
        suffix = pathlib.Path(path).suffix if isinstance(path, str | os.PathLike) else None
        if suffix not in kinds:
            raise errors.OutputError(
                f"path: received {path!r}; expected .json or .html as the suffix of the file."
            )
        with files.whole(path) as temporary:
            temporary.write_text(kinds[suffix]() + "\n", encoding="utf-8")

    def __str__(self) -> str:
        parts = [self._head(), self._layers(), self._reasons()]
        if self.measured:
            parts.append(str(self.measured).splitlines())
        parts.append(self.notes())
        return "\n\n".join("\n".join(part) for part in parts if part)

    def _head(self) -> list[str]:
        counts = self.counts()
        lines = [
            f"{self.path} on {self.target} ({TARGETS[self.target]})",
            f"{self.file_bytes:,} bytes; zlib {self.zlib_bytes:,}, zstd {self.zstd_bytes:,}; "
            f"entropy floor {self.floor_bytes:,}",
            f"{self.elements:,} weights, {share(self.zeros, self.elements)} of them zero; of "
            f"{len(self.ops)} ops with weights {counts['sparse']} run sparse, {counts['dense']} "
            f"dense" + (f", {counts['refused']} not or wrongly" if counts["refused"] else ""),
        ]
        if self.baseline_bytes:
            times = self.baseline_bytes / self.file_bytes
            lines.append(
                f"{times:.2f} times smaller than {self.baseline} ({self.baseline_bytes:,})"
            )
        return lines

    def _layers(self) -> list[str]:
        if not self.ops:
            return ["No op of it holds weights."]
        header = ("layer", "op", "weights", "encoding", "kept", "bytes", "dense bytes", "runs")
        rows = [
            (
                shortened(op.layer),
                op.kind,
                "x".join(map(str, op.content.shape)) + f" {op.content.dtype}",
                op.content.encoding + (" (densified)" if op.content.densified else ""),
                "-" if op.content.density is None else f"{op.content.density:.2%}",
                f"{op.content.bytes:,}",
                f"{op.content.dense_bytes:,}",
                op.runs,
            )
            for op in self.ops
        ]
        return table([header, *rows], left=(0, 1, 2, 3, 7))

    def _reasons(self) -> list[str]:
        return [
            f"{runs}: {why} ({', '.join(layers) if len(layers) < 4 else f'{len(layers)} ops'})."
            for runs, why, layers in self.reasons()
        ]


def deployment_report(
    path: str | os.PathLike,
    *,
    target: str = "cpu-x86",
    baseline: str | os.PathLike | None = None,
    measure: bool | benchmarking.BenchmarkReport = True,
    seconds: float = 1.0,
    verbose: bool | str = "auto",
) -> DeploymentReport:
    """Reads a .tflite file, says what a target makes of it, and measures it on this machine.

    Everything about sizes and ops is read from the file itself, in time and memory that are in
    proportion to its size whatever is in it. The file is only run in a process of its own.

    Args:
      path: the .tflite file.
      target: "cpu-x86", "cpu-arm", "wasm" or "microcontroller".
      baseline: another file to compare sizes and measurements with, the dense one say.
      measure: whether to run it, one thread, interleaved with the baseline; on this machine, which
          need not be the target (the report says so). Or a benchmark that was taken of them.
      seconds: of timed running for each of the files; above 0.
      verbose: True, False or "auto": a progress bar on what takes over two seconds.

    Returns:
      A `DeploymentReport`.

    Raises:
      OutputError: there is no such file.
      ModelError: it is no TFLite file, truncated, contradicts itself; or the runtime refuses it,
        crashes at it or hangs (`measure=False` leaves the runtime out).
      UnknownNameError: another target.

    Example:
      >>> report = tf_synflow.deployment_report("model.tflite", baseline="dense.tflite")
      >>> report.save("report.html")
    """
    check_target(target)
    content = _read(path)
    compared = None if baseline is None else len(_checked(baseline))
    try:
        graphs = read_graphs(content)
        contents = read_contents(graphs)
        ops = verdicts(graphs, contents, target)
        chains = chains_of(graphs[0], contents)
    except errors.ModelError as error:
        raise errors.ModelError(f"{os.fspath(path)!r}: {error}") from error
    if measure is True:
        paths = [file for file in (baseline, path) if file is not None]
        measure = benchmarking.benchmark(paths, threads=[1], seconds=seconds, verbose=verbose)
    tensors = distinct(contents)
    return DeploymentReport(
        path=os.fspath(path),
        target=target,
        file_bytes=len(content),
        zlib_bytes=zlib_bytes(content),
        zstd_bytes=zstd_bytes(content),
        floor_bytes=round(sum(tensor.floor_bytes for tensor in tensors)),
        tensors=tensors,
        ops=ops,
        chains=chains if target in ("cpu-x86", "cpu-arm", "wasm") else (),
        baseline=None if baseline is None else os.fspath(baseline),
        baseline_bytes=compared,
        measured=measure or None,
        unmeasured=_unmeasured(target, measure is not False),
        versions=versions(),
    )


def _read(path: str | os.PathLike) -> bytes:
    if not isinstance(path, str | os.PathLike):
        raise errors.OutputError(f"path: received {path!r}; expected the name of a .tflite file.")
    try:
        return pathlib.Path(path).read_bytes()
    except OSError as error:
        raise errors.OutputError(
            f"{os.fspath(path)!r} could not be read ({error.strerror}); expected a .tflite file."
        ) from error


def _checked(path: str | os.PathLike) -> bytes:
    """The bytes of a file that is a TFLite file too: sizes are compared with it."""
    content = _read(path)
    try:
        read_graphs(content)
    except errors.ModelError as error:
        raise errors.ModelError(f"{os.fspath(path)!r}: {error}") from error
    return content


def _unmeasured(target: str, measure: bool) -> str:
    if not measure:
        return "Latency, load time and memory: not measured (measure=False)."
    if is_host(target):
        return ""
    there = " (benchmarks/wasm does)" if target == "wasm" else ""
    return (
        f"Latency, load time and memory were measured on this machine's CPU; on {target} nothing "
        f"was measured{there}."
    )
