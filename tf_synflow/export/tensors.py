"""What a TFLite file holds: every constant tensor, its encoding, its zeros and its bytes."""

import dataclasses
import math
from typing import Any

import numpy as np

from tf_synflow import errors


@dataclasses.dataclass(frozen=True)
class TensorRecord:
    """One constant tensor as it lies in the file.

    Attributes:
      name: as in the file (the converter joins the names of what it has fused).
      shape: the dense shape.
      dtype: `float32`, `int32`, ...
      encoding: `dense`, `csr`, or the block, as `block 1x4`.
      densified: whether a DENSIFY op unpacks it at load, so that it runs as a dense one.
      elements: number of elements of the dense shape.
      zeros: how many of them are zero, counted from the stored values.
      bytes: values and, where it is sparse, the indices.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    encoding: str
    densified: bool
    elements: int
    zeros: int
    bytes: int

    @property
    def is_weight(self) -> bool:
        """Floating-point or quantized values, and not the shapes and axes that ops take."""
        return self.dtype.startswith(("float", "int8", "bfloat")) and self.elements > 1


def read_tensors(content: bytes) -> list[TensorRecord]:
    """Reads the constant tensors of a TFLite file through the schema that LiteRT ships.

    A buffer that several tensors share is listed once, with the first of them.

    Args:
      content: the file's bytes.

    Returns:
      A `TensorRecord` for each buffer with data, in the order of the file.

    Raises:
      ExportError: not a TFLite file, or its sparsity metadata contradicts its values.

    Example:
      >>> records = read_tensors(pathlib.Path("model.tflite").read_bytes())
      >>> sum(record.zeros for record in records if record.is_weight)
    """
    from ai_edge_litert import schema_py_generated as schema

    if content[4:8] != b"TFL3":
        raise errors.ExportError(
            f"The file begins with {content[:8]!r}; expected a TFLite flatbuffer (TFL3)."
        )
    model = schema.ModelT.InitFromPackedBuf(content)
    codes = [max(c.builtinCode, c.deprecatedBuiltinCode) for c in model.operatorCodes]
    dtypes = {value: name.lower() for name, value in vars(schema.TensorType).items()}
    records, listed = [], set()
    for graph in model.subgraphs:
        densified = {
            op.inputs[0]
            for op in graph.operators or []
            if codes[op.opcodeIndex] == schema.BuiltinOperator.DENSIFY
        }
        for index, tensor in enumerate(graph.tensors or []):
            data = model.buffers[tensor.buffer].data
            if data is None or len(data) == 0 or tensor.buffer in listed:
                continue
            listed.add(tensor.buffer)
            records.append(_record(tensor, dtypes[tensor.type], data, index in densified))
    return records


def float_ops(content: bytes) -> list[str]:
    """The kinds of ops of a TFLite file that compute in float32, sorted."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(content)
    names = {number: name for name, number in vars(schema.BuiltinOperator).items()}
    codes = [max(c.builtinCode, c.deprecatedBuiltinCode) for c in model.operatorCodes]
    found = {
        names[codes[op.opcodeIndex]]
        for graph in model.subgraphs
        for op in graph.operators or []
        if graph.tensors[op.outputs[0]].type == schema.TensorType.FLOAT32
    }
    return sorted(found - {"DEQUANTIZE"})


def _record(tensor: Any, dtype: str, data: np.ndarray, densified: bool) -> TensorRecord:
    shape = tuple(int(size) for size in (() if tensor.shape is None else tensor.shape))
    elements = math.prod(shape)
    name = tensor.name.decode(errors="replace")
    values = _values(data, dtype)
    encoding, index_bytes = "dense", 0
    if tensor.sparsity is not None:
        encoding, stored, index_bytes = _sparse_layout(tensor.sparsity)
        if values is None or stored != values.size:
            raise errors.ExportError(
                f"Tensor {name!r} holds {len(data)} bytes of {dtype}; its sparsity metadata "
                f"expects {stored} values."
            )
    return TensorRecord(
        name=name,
        shape=shape,
        dtype=dtype,
        encoding=encoding,
        densified=densified,
        elements=elements,
        zeros=0 if values is None else elements - int(np.count_nonzero(values)),
        bytes=len(data) + index_bytes,
    )


def _values(data: np.ndarray, dtype: str) -> np.ndarray | None:
    """The stored values; None for types that NumPy lacks, such as strings and int4."""
    try:
        return np.frombuffer(data.tobytes(), np.dtype(dtype).newbyteorder("<"))
    except TypeError:
        return None


def _sparse_layout(sparsity: Any) -> tuple[str, int, int]:
    """The name of the encoding, how many values it stores, and the bytes of its indices.

    The dimensions are traversed in order: a dense one multiplies the entries by its size, a
    compressed (CSR) one lists the entries that are there. Dimensions beyond the tensor's rank are
    those inside a block.
    """
    from ai_edge_litert import schema_py_generated as schema

    stored, index_bytes = 1, 0
    for dimension in sparsity.dimMetadata:
        if dimension.format == schema.DimensionType.DENSE:
            stored *= dimension.denseSize
            continue
        segments, indices = dimension.arraySegments.values, dimension.arrayIndices.values
        stored = len(indices)
        index_bytes += np.asarray(segments).nbytes + np.asarray(indices).nbytes
    blocks = () if sparsity.blockMap is None else sparsity.blockMap
    if len(blocks) == 0:
        return "csr", stored, index_bytes
    inner = [str(d.denseSize) for d in sparsity.dimMetadata[-len(blocks) :]]
    rank = len(sparsity.traversalOrder) - len(blocks)
    sizes = dict(zip((int(axis) for axis in blocks), inner, strict=True))
    return "block " + "x".join(sizes.get(axis, "1") for axis in range(rank)), stored, index_bytes
