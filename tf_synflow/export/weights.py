"""The weights of a dense file that may be encoded, and what there is to know to choose how."""

import collections
import dataclasses
from collections.abc import Iterator

import numpy as np

from tf_synflow.tflite.graph import Graph, Op, Tensor

_DTYPES = ("float32", "float16", "int8")
_DENSIFY_BYTES = 200
_RANGE_BYTES = 12
"""Of a scale and its zero point."""


@dataclasses.dataclass(frozen=True)
class Weight:
    """A constant of a file, with what there is to know to choose its encoding.

    Attributes:
      name: as in the file.
      values: as stored.
      uses: of each op that takes it, if need be unpacked from float16: the op's name, at which
        place, and the type of the activations (input 0) that it is applied to.
      many_rows: an op multiplies it with several rows even for a single input.
      overhead: bytes that a DENSIFY op and its tensor take in the file.
    """

    name: str
    values: np.ndarray
    uses: tuple[tuple[str, int, str], ...]
    many_rows: bool
    overhead: int

    @property
    def dtype(self) -> str:
        """`float32`, `float16` or `int8`."""
        return self.values.dtype.name

    @property
    def is_dense_layers(self) -> bool:
        """Only FULLY_CONNECTED takes it, as its weights, and as it is stored."""
        ops = {op for op, _, _ in self.uses}
        return ops == {"FULLY_CONNECTED"} and self.dtype != "float16"

    @property
    def has_many_zeros(self) -> bool:
        """Of rank 2 or more, at least 30 %: one would expect a sparse encoding."""
        return self.values.ndim > 1 and np.count_nonzero(self.values) <= 0.7 * self.values.size

    @property
    def is_hybrid(self) -> bool:
        """Quantized, and applied to float activations: what `dynamic` makes."""
        return self.dtype == "int8" and any(kind != "int8" for _, _, kind in self.uses)


def weights_of(graphs: tuple[Graph, ...]) -> list[dict[int, Weight]]:
    """The weights of each graph by the number of their tensor.

    Left out are constants that are encoded already or are an output of the graph, that share their
    buffer, that no op takes, and those in which a stored zero stands for another number.

    Args:
      graphs: of a dense file, of `read_graphs`.
    """
    holders = collections.Counter(tensor.buffer for graph in graphs for tensor in graph.tensors)
    return [
        {
            index: _weight(graph, index)
            for index, tensor in enumerate(graph.tensors)
            if _is_encodable(tensor)
            and holders[tensor.buffer] == 1
            and index not in graph.outputs
            and any(index in op.inputs for op in graph.ops)
        }
        for graph in graphs
    ]


def _is_encodable(tensor: Tensor) -> bool:
    return (
        tensor.constant
        and tensor.dtype in _DTYPES
        and not tensor.zero_point
        and tensor.sparsity is None
    )


def _weight(graph: Graph, index: int) -> Weight:
    tensor = graph.tensors[index]
    uses, many_rows = [], False
    for op, place in _uses(graph, index):
        # A TRANSPOSE_CONV takes the shape of its output first.
        first = graph.tensors[op.inputs[2 if op.kind == "TRANSPOSE_CONV" else 0]]
        many_rows |= int(np.prod(first.shape[:-1])) > 1
        uses.append((op.kind, place, first.dtype))
    values = tensor.data.view(np.dtype(tensor.dtype).newbyteorder("<")).reshape(tensor.shape)
    overhead = _DENSIFY_BYTES + len(tensor.name) + _RANGE_BYTES * tensor.scales
    return Weight(tensor.name, values, tuple(uses), many_rows, overhead)


def _uses(graph: Graph, index: int) -> Iterator[tuple[Op, int]]:
    """The ops that compute with a tensor, itself or unpacked from float16, and at which place."""
    for op in graph.ops:
        for place, taken in enumerate(op.inputs):
            if taken == index and op.kind == "DEQUANTIZE":
                yield from _uses(graph, op.outputs[0])
            elif taken == index:
                yield op, place
