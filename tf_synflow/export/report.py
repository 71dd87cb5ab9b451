"""What an export found: sizes, tensors, agreement."""

import collections
import dataclasses
import json
from typing import Any, Literal

from tf_synflow.export.verify import Agreement
from tf_synflow.tables import share, shortened, table
from tf_synflow.tflite.contents import TensorContent


@dataclasses.dataclass(frozen=True)
class ExportReport:
    """What is in an exported file, read from the file, and how it compares with its model.

    Attributes:
      path: where the file was written.
      quantize: the number format: `float32`, `float16`, `dynamic` or `int8`.
      target: where it shall run.
      encoding: `dense` or `sparse`: whether any weight is encoded sparsely.
      file_bytes: size of the file.
      dense_bytes: size of the dense file of this number format.
      sparse_bytes: size of the sparse-encoded one.
      zlib_bytes: size of the file after zlib at level 9, as a download would be.
      zstd_bytes: size of the file after zstd at level 17.
      batch_size: the batch the file takes; None for any.
      tensors: every constant of the file.
      dense_because: of weights with 30 % zeros or more that stay dense, why.
      agreement: the comparison with the Keras model.
      notes: what was done to the model or decided on the way.
      versions: of Python and of the packages that took part.
    """

    path: str
    quantize: str
    target: str
    encoding: Literal["dense", "sparse"]
    file_bytes: int
    dense_bytes: int
    sparse_bytes: int
    zlib_bytes: int
    zstd_bytes: int
    batch_size: int | None
    tensors: tuple[TensorContent, ...]
    dense_because: dict[str, str]
    agreement: Agreement
    notes: tuple[str, ...]
    versions: dict[str, str]

    @property
    def weights(self) -> tuple[TensorContent, ...]:
        """The constants that are weights or biases, largest share of any file."""
        return tuple(tensor for tensor in self.tensors if tensor.is_parameter)

    @property
    def elements(self) -> int:
        """Number of weights in the file, zeros included."""
        return sum(tensor.elements for tensor in self.weights)

    @property
    def zeros(self) -> int:
        """How many of them are zero."""
        return sum(tensor.zeros or 0 for tensor in self.weights)

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain Python values, with the totals."""
        values = dataclasses.asdict(self)
        values["totals"] = {
            "elements": self.elements,
            "zeros": self.zeros,
            "bytes": sum(tensor.bytes for tensor in self.weights),
        }
        return values

    def to_json(self) -> str:
        """`to_dict` as indented JSON."""
        return json.dumps(self.to_dict(), indent=2)

    def __str__(self) -> str:
        return "\n".join([*self._head(), "", *self._table(), "", *self._verdict()])

    def _head(self) -> list[str]:
        batch = "any batch size" if self.batch_size is None else f"batch size {self.batch_size}"
        return [
            f"{self.path}: {self.quantize}, {self.encoding}, {batch}, for {self.target}",
            f"  {self.file_bytes:,} bytes ({self.zstd_bytes:,} with zstd); converted dense "
            f"{self.dense_bytes:,}, sparse {self.sparse_bytes:,}",
        ]

    def _table(self) -> list[str]:
        rows = [
            (
                # The converter's names grow with every fused op; the first tells the layer.
                shortened(tensor.name.split(";")[0], 48),
                "x".join(map(str, tensor.shape)),
                tensor.encoding + _ran(tensor),
                f"{tensor.elements:,}",
                share(tensor.zeros, tensor.elements),
                f"{tensor.bytes:,}",
            )
            for tensor in self.weights
            if len(tensor.shape) > 1
        ]
        flat = [tensor for tensor in self.weights if len(tensor.shape) < 2]
        if flat:
            elements, zeros = sum(t.elements for t in flat), sum(t.zeros or 0 for t in flat)
            size = f"{sum(t.bytes for t in flat):,}"
            name = f"{len(flat)} biases and other vectors"
            rows.append((name, "", "dense", f"{elements:,}", share(zeros, elements), size))
        total = sum(tensor.bytes for tensor in self.weights)
        zeros = share(self.zeros, self.elements)
        rows.append(("total", "", "", f"{self.elements:,}", zeros, f"{total:,}"))
        rows.insert(0, ("tensor", "shape", "encoding", "elements", "zeros", "bytes"))
        return ["  " + line for line in table(rows, left=(0, 1, 2))]

    def _verdict(self) -> list[str]:
        found = self.agreement
        same = "" if found.argmax is None else f", same argmax in {found.argmax:.1%} of rows"
        lines = [
            f"  Agrees with Keras on {found.n_inputs} inputs in {', '.join(found.runtimes)}: "
            f"largest difference {found.max_abs:.2e}, {found.max_rel:.2e} of the output (at most "
            f"{found.tolerance:.0e}){same}."
        ]
        lines += [f"  Not run in {name}: {reason}." for name, reason in found.not_run.items()]
        if self.encoding == "sparse":
            ratio = self.dense_bytes / self.file_bytes
            lines.append(f"  The dense file would be {ratio:.2f} times as large.")
        elif self.dense_bytes <= self.sparse_bytes:
            lines.append("  Stored dense: sparse encoding does not make this file smaller.")
        else:
            ratio = self.dense_bytes / self.sparse_bytes
            lines.append(f"  Stored dense; sparse encoding makes it {ratio:.2f} times smaller.")
        reasons = collections.Counter(self.dense_because.values())
        lines += [
            f"  Dense with 30 % zeros or more: {count} of the weights, for {reason}."
            for reason, count in reasons.items()
        ]
        lines += [f"  Note: {note.rstrip('.')}." for note in (*self.notes, *found.notes)]
        runtime = ", ".join(f"{name} {version}" for name, version in self.versions.items())
        return [*lines, f"  Checked with {runtime}."]


def _ran(tensor: TensorContent) -> str:
    if tensor.encoding == "dense":
        return ""
    return " (densified at load)" if tensor.densified else " (runs sparse)"
