"""What a file's constants are: how each is encoded, how much of it is zero, and its bytes."""

import dataclasses
import math
import re

import numpy as np

from tf_synflow.entropy import floor_bits, value_bits
from tf_synflow.tflite.flatbuffer import damaged
from tf_synflow.tflite.graph import BITS, Dimension, Graph, Tensor

_KERNEL_OPS = re.compile(r"conv|matmul|depthwise|tensordot|einsum|dense|lookup|gather", re.I)
_NUMBERS = ("float", "bfloat", "int8", "int4", "int2", "uint8")


@dataclasses.dataclass(frozen=True)
class TensorContent:
    """One constant tensor as it lies in the file.

    Attributes:
      name: as in the file (the converter joins the names of what it has fused).
      layer: the layer it belongs to, as far as its name tells.
      shape: the dense shape.
      dtype: `float32`, `int8`, ...
      encoding: `dense`, `csr`, or the block, as `block 1x4`.
      densified: whether a DENSIFY op unpacks it at load, so that it runs as a dense one.
      elements: number of elements of the dense shape.
      zeros: how many of them stand for zero; None for a dtype that is not read, such as strings.
      bytes: values and, where it is sparse, the indices.
      index_bytes: those of the indices.
      dense_bytes: what it takes, or would take, stored dense.
      floor_bytes: the entropy floor, `floor_bits` / 8, of its blocks where it is stored in blocks
          and that is less; its bytes where zeros is None.
    """

    name: str
    layer: str
    shape: tuple[int, ...]
    dtype: str
    encoding: str
    densified: bool
    elements: int
    zeros: int | None
    bytes: int
    index_bytes: int
    dense_bytes: int
    floor_bytes: float

    @property
    def is_parameter(self) -> bool:
        """A weight or a bias: several numbers, float or quantized, not the shapes that ops take."""
        return self.dtype.startswith(_NUMBERS) and self.elements > 1

    @property
    def is_weight(self) -> bool:
        """A kernel or an embedding: a parameter of rank 2 or more."""
        return self.is_parameter and len(self.shape) > 1

    @property
    def density(self) -> float | None:
        """Share of its elements that are not zero."""
        return 1 - self.zeros / self.elements if self.zeros is not None and self.elements else None


def read_contents(graphs: tuple[Graph, ...]) -> dict[Tensor, TensorContent]:
    """Every constant of a file, in the file's order.

    Args:
      graphs: of `read_graphs`.

    Returns:
      By tensor. Tensors may share a buffer: `distinct` drops the later ones.

    Raises:
      ModelError: values, shape and sparsity metadata of a tensor contradict each other.
    """
    contents = {}
    for graph in graphs:
        densified = {op.inputs[0] for op in graph.ops if op.kind == "DENSIFY"}
        for index, tensor in enumerate(graph.tensors):
            if tensor.constant:
                contents[tensor] = content_of(tensor, index in densified)
    return contents


def distinct(contents: dict[Tensor, TensorContent]) -> tuple[TensorContent, ...]:
    """The contents with each buffer once, under the first tensor that has it."""
    first: dict[int, TensorContent] = {}
    for tensor, content in contents.items():
        first.setdefault(tensor.buffer, content)
    return tuple(first.values())


def content_of(tensor: Tensor, densified: bool = False) -> TensorContent:
    """What one constant holds; `densified`: a DENSIFY op takes it."""
    bits = BITS.get(tensor.dtype)
    size = len(tensor.data)
    stored, index_bytes = tensor.elements, 0
    if tensor.sparsity is not None:
        stored, index_bytes = _stored(tensor)
    if bits is not None and size != math.ceil(stored * bits / 8):
        raise damaged(
            f"tensor {tensor.name!r} holds {size} bytes; its shape {tensor.shape} of "
            f"{tensor.dtype}{' and its sparsity' if tensor.sparsity else ''} ask for "
            f"{math.ceil(stored * bits / 8)}"
        )
    zeros, floor = None, 8.0 * size
    if bits is not None:
        values, zero = _values(tensor, stored, bits)
        kept = values[values != zero]
        zeros = tensor.elements - len(kept)
        floor = _floor_bits(tensor, values, kept, bits)
    return TensorContent(
        name=tensor.name,
        layer=layer_of(tensor.name),
        shape=tensor.shape,
        dtype=tensor.dtype,
        encoding=encoding_of(tensor),
        densified=densified,
        elements=tensor.elements,
        zeros=zeros,
        bytes=size + index_bytes,
        index_bytes=index_bytes,
        dense_bytes=size if bits is None else math.ceil(tensor.elements * bits / 8),
        floor_bytes=floor / 8,
    )


def encoding_of(tensor: Tensor) -> str:
    """`dense`, `csr`, or the block by its size along each axis, as `block 1x4`."""
    sparsity = tensor.sparsity
    if sparsity is None:
        return "dense"
    if not sparsity.blocks:
        return "csr"
    inner = (d.size for d in sparsity.dimensions[-len(sparsity.blocks) :])
    sizes = dict(zip(sparsity.blocks, inner, strict=True))
    return "block " + "x".join(str(sizes.get(axis, 1)) for axis in range(len(tensor.shape)))


def layer_of(name: str) -> str:
    """`model/conv1_1/convolution` of a name like `model/relu/Relu;model/conv1_1/convolution2`.

    The converter joins the names of fused ops by semicolons; the one with a kernel tells the layer.
    Empty where a name tells nothing.
    """
    parts = [part for part in name.split(";") if part.count("/")]
    kernels = [part for part in parts if _KERNEL_OPS.match(part.split("/")[-1])]
    path = (kernels or parts or [""])[0].split("/")
    return "/".join(path[1:-1]) or "/".join(path[:-1])


def _floor_bits(tensor: Tensor, values: np.ndarray, kept: np.ndarray, bits: int) -> float:
    """The floor of single values or, where it is stored in blocks and that is less, of blocks."""
    floor = floor_bits(tensor.elements, tensor.elements - len(kept), value_bits(kept, bits))
    if tensor.sparsity is None or not tensor.sparsity.blocks:
        return floor
    block = math.prod(d.size for d in tensor.sparsity.dimensions[-len(tensor.sparsity.blocks) :])
    count, blocks = tensor.elements // block, len(values) // block
    return min(floor, floor_bits(count, count - blocks, block * value_bits(values, bits)))


def _values(tensor: Tensor, stored: int, bits: int) -> tuple[np.ndarray, int]:
    """The stored values, and the one that stands for zero."""
    if tensor.dtype in ("int4", "int2"):
        shifts = np.arange(0, 8, bits, dtype=np.uint8)
        mask = (1 << bits) - 1
        return (tensor.data[:, None] >> shifts & mask).reshape(-1)[:stored], (
            tensor.zero_point & mask
        )
    if tensor.dtype == "bfloat16":
        # The upper half of a float32.
        return (tensor.data.view("<u2").astype("<u4") << 16).view("<f4"), 0
    values = tensor.data.view(np.dtype(tensor.dtype).newbyteorder("<"))
    return values, 0 if values.dtype.kind in "fb" else tensor.zero_point


def _stored(tensor: Tensor) -> tuple[int, int]:
    """How many values a sparse tensor stores, and the bytes of its indices.

    Its dimensions are traversed in order: a dense one multiplies the entries by its size, a
    compressed one lists the entries that are there. Those beyond the tensor's rank lie in a block.
    """
    sparsity, rank = tensor.sparsity, len(tensor.shape)
    order, blocks = sparsity.order, sparsity.blocks
    if len(sparsity.dimensions) != rank + len(blocks) or sorted(order) != list(
        range(rank + len(blocks))
    ):
        raise damaged(f"tensor {tensor.name!r} has a sparsity that does not fit its rank {rank}")
    if any(not 0 <= axis < rank for axis in blocks) or len(set(blocks)) != len(blocks):
        raise damaged(f"tensor {tensor.name!r} has blocks along axes {blocks} of {rank}")
    sizes = list(tensor.shape) + [sparsity.dimensions[rank + i].size for i in range(len(blocks))]
    for i, axis in enumerate(blocks):
        if sizes[rank + i] < 1 or sizes[axis] % sizes[rank + i]:
            raise damaged(f"tensor {tensor.name!r} is not a whole number of its blocks")
        sizes[axis] //= sizes[rank + i]
    entries, index_bytes = 1, 0
    for dimension, axis in zip(sparsity.dimensions, order, strict=True):
        if dimension.indices is None:
            if dimension.size != sizes[axis]:
                raise damaged(f"tensor {tensor.name!r} has a dimension of another size")
            entries *= dimension.size
        else:
            _check_compressed(tensor.name, dimension, entries, sizes[axis])
            entries = len(dimension.indices)
            index_bytes += dimension.segments.nbytes + dimension.indices.nbytes
    return entries, index_bytes


def _check_compressed(name: str, dimension: Dimension, rows: int, size: int) -> None:
    """A row per entry so far, each a range of the indices, each index within the dimension."""
    segments, indices = dimension.segments.astype(np.int64), dimension.indices
    fits = len(segments) == rows + 1 and segments[0] == 0 and segments[-1] == len(indices)
    if not fits or (np.diff(segments) < 0).any():
        raise damaged(f"tensor {name!r} has row starts that do not fit its {len(indices)} indices")
    if len(indices) and not 0 <= indices.min() <= indices.max() < size:
        raise damaged(f"tensor {name!r} has an index beyond its dimension of {size}")
