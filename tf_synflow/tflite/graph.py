"""A TFLite file as tensors and ops: names, shapes, constants, and what XNNPACK looks at."""

import dataclasses
import functools
import math

import numpy as np

from tf_synflow import errors
from tf_synflow.tflite.flatbuffer import Source, Table, damaged

SAME = 0
"""Of an op's padding: TensorFlow's 'same'."""

BITS = {
    **{name: 8 * np.dtype(name).itemsize for name in ("float16", "float32", "float64")},
    **{f"{sign}int{bits}": bits for sign in ("", "u") for bits in (8, 16, 32, 64)},
    **{"bfloat16": 16, "bool": 8, "int4": 4, "int2": 2},
}
"""Bits of a value, by dtype."""

# Number, struct code and default of each option in the schema's tables.
_WINDOW = {"padding": (0, "b", SAME), "stride_w": (1, "i", 0), "stride_h": (2, "i", 0)}
_OPTIONS = {
    "CONV_2D": {**_WINDOW, "dilation_w": (4, "i", 1), "dilation_h": (5, "i", 1)},
    "DEPTHWISE_CONV_2D": {
        **_WINDOW,
        "dilation_w": (5, "i", 1),
        "dilation_h": (6, "i", 1),
    },
}
# An op of these kinds takes at least this many tensors, and gives one: their readers rely on it.
_OPERANDS = {"CONV_2D": 2, "DEPTHWISE_CONV_2D": 2, "FULLY_CONNECTED": 2, "MEAN": 2, "PAD": 2}
_OPERANDS |= {"ADD": 2, "MUL": 2, "DENSIFY": 1, "DEQUANTIZE": 1}


@dataclasses.dataclass(frozen=True)
class Dimension:
    """One level of a sparse tensor: dense with a size, or compressed with segments and indices."""

    size: int
    segments: np.ndarray | None = None
    indices: np.ndarray | None = None


@dataclasses.dataclass(frozen=True)
class Sparsity:
    """How a sparse tensor is laid out: the order of its dimensions, blocks last, and each level."""

    order: tuple[int, ...]
    blocks: tuple[int, ...]
    dimensions: tuple[Dimension, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class Tensor:
    """A tensor of a graph; a constant has data. Equal to itself only.

    Attributes:
      name: as in the file.
      shape: in the file, a free dimension as 1.
      dtype: `float32`, `int8`, ...
      buffer: number of the buffer with its data.
      data: the bytes of a constant, empty for others.
      zero_point: the stored value that stands for 0.
      scales: how many it is quantized by, one in all or one a channel; 0 for floats.
      sparsity: how a sparse constant is laid out.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    buffer: int
    data: np.ndarray = dataclasses.field(repr=False)
    zero_point: int = 0
    scales: int = 0
    sparsity: Sparsity | None = None

    @property
    def elements(self) -> int:
        """Number of elements of the dense shape."""
        return math.prod(self.shape)

    @property
    def constant(self) -> bool:
        """Whether the file holds its values."""
        return len(self.data) > 0


@dataclasses.dataclass(frozen=True)
class Op:
    """One operator: its kind, the tensors it takes (−1: none) and gives, and its options."""

    kind: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: dict[str, int]


@dataclasses.dataclass(frozen=True)
class Graph:
    """One subgraph, its ops in the order they run in."""

    tensors: tuple[Tensor, ...]
    ops: tuple[Op, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]

    def constant(self, index: int) -> tuple[Tensor, bool] | None:
        """The constant behind a tensor, through DENSIFY and DEQUANTIZE; None if there is none."""
        densified = False
        for _ in range(3):  # at most DENSIFY and DEQUANTIZE lie between
            if index < 0:
                return None
            if self.tensors[index].constant:
                return self.tensors[index], densified
            if index not in self._unpacking:
                return None
            kind, index = self._unpacking[index]
            densified |= kind == "DENSIFY"
        return None

    @functools.cached_property
    def _unpacking(self) -> dict[int, tuple[str, int]]:
        """What DENSIFY and DEQUANTIZE ops give: by tensor, the op's kind and what it takes."""
        return {
            op.outputs[0]: (op.kind, op.inputs[0])
            for op in self.ops
            if op.kind in ("DENSIFY", "DEQUANTIZE")
        }


def read_graphs(content: bytes) -> tuple[Graph, ...]:
    """Reads a TFLite file; time and memory are in proportion to its size, whatever is in it.

    Args:
      content: the file's bytes.

    Returns:
      Its subgraphs; the first is the one that runs.

    Raises:
      ModelError: not a TFLite file, truncated, or it contradicts itself.

    Example:
      >>> graph, *_ = read_graphs(pathlib.Path("model.tflite").read_bytes())
      >>> [op.kind for op in graph.ops]
    """
    if content[4:8] != b"TFL3":
        raise errors.ModelError(
            f"The file begins with {bytes(content[:8])!r}; expected a TFLite flatbuffer (TFL3 at "
            "its fifth byte)."
        )
    source = Source(content)
    model = source.table(0)
    kinds = [_kind(code) for code in model.tables(1)]
    buffers = [_data(buffer, source) for buffer in model.tables(4)]
    graphs = tuple(_graph(table, kinds, buffers, source) for table in model.tables(2))
    if not graphs:
        raise damaged("it has no graph")
    return graphs


def _kind(code: Table) -> str:
    from ai_edge_litert import schema_py_generated as schema

    number = max(code.number(0, "b"), code.number(3))
    if number == schema.BuiltinOperator.CUSTOM:
        return code.text(1) or "CUSTOM"
    return _name(schema.BuiltinOperator, number)


def _name(enum: type, number: int) -> str:
    """The schema's name of a number; the number itself for one of a later schema."""
    return next((name for name, value in vars(enum).items() if value == number), f"#{number}")


def _data(buffer: Table, source: Source) -> np.ndarray:
    """A buffer's bytes, which a file beyond 2 GB keeps behind the flatbuffer."""
    offset, size = buffer.number(1, "Q"), buffer.number(2, "Q")
    return source.span(offset, size) if offset > 1 else buffer.array(0, "<u1")


def _graph(table: Table, kinds: list[str], buffers: list[np.ndarray], source: Source) -> Graph:
    tensors = tuple(_tensor(tensor, buffers, source) for tensor in table.tables(0))
    ops = tuple(_op(op, kinds) for op in table.tables(3))
    graph = Graph(tensors, ops, _integers(table, 1), _integers(table, 2))
    used = {i for op in ops for i in (*op.inputs, *op.outputs)} | {*graph.inputs, *graph.outputs}
    if used and not -1 <= min(used) <= max(used) < len(tensors):
        raise damaged(f"an op names tensor {max(used)} of {len(tensors)}")
    return graph


def _tensor(table: Table, buffers: list[np.ndarray], source: Source) -> Tensor:
    from ai_edge_litert import schema_py_generated as schema

    buffer = table.number(2, "I")
    if buffer >= max(len(buffers), 1):
        raise damaged(f"a tensor names buffer {buffer} of {len(buffers)}")
    shape = _integers(table, 0)
    if min(shape, default=0) < 0:
        raise damaged(f"a tensor has shape {shape}")
    data = buffers[buffer] if buffers else np.empty(0, np.uint8)
    source.pay(len(data))  # it will be looked through, however many tensors share it
    quantization = table.table(4)
    scales = () if quantization is None else quantization.array(2, "<f4")
    zeros = () if quantization is None else quantization.array(3, "<i8")
    sparsity = table.table(6)
    return Tensor(
        name=table.text(3),
        shape=shape,
        dtype=_name(schema.TensorType, table.number(1, "b")).lower(),
        buffer=buffer,
        data=data,
        zero_point=int(zeros[0]) if len(zeros) else 0,
        scales=len(scales),
        sparsity=None if sparsity is None else _sparsity(sparsity),
    )


def _sparsity(table: Table) -> Sparsity:
    dimensions = tuple(
        Dimension(size=dimension.number(1))
        if dimension.number(0, "b") == 0
        else Dimension(0, _index_vector(dimension, 2), _index_vector(dimension, 4))
        for dimension in table.tables(2)
    )
    return Sparsity(_integers(table, 0), _integers(table, 1), dimensions)


def _index_vector(dimension: Table, field: int) -> np.ndarray:
    """A member of the union of vectors of int32, uint16 and uint8."""
    vector = dimension.table(field + 1)
    dtype = {1: "<i4", 2: "<u2", 3: "<u1"}.get(dimension.number(field, "B"))
    if vector is None or dtype is None:
        raise damaged("a sparse tensor lacks its indices")
    return vector.array(0, dtype)


def _op(table: Table, kinds: list[str]) -> Op:
    code = table.number(0, "I")
    if code >= len(kinds):
        raise damaged(f"an op names code {code} of {len(kinds)}")
    inputs, outputs = _integers(table, 1), _integers(table, 2)
    needed = _OPERANDS.get(kinds[code], 0)
    if needed and not (len(inputs) >= needed and min(inputs[:needed]) >= 0 and outputs):
        raise damaged(f"a {kinds[code]} takes tensors {inputs} and gives {outputs}")
    options = table.table(4)
    wanted = _OPTIONS.get(kinds[code], {})
    values = {
        name: default if options is None else options.number(number, kind, default)
        for name, (number, kind, default) in wanted.items()
    }
    return Op(kinds[code], inputs, outputs, values)


def _integers(table: Table, field: int) -> tuple[int, ...]:
    return tuple(table.array(field).tolist())
