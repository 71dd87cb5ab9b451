"""Sparse encoding of a TFLite file: constants are replaced in the flatbuffer, ops around them kept.

The converter's own EXPERIMENTAL_SPARSITY guesses blocks from the share of zeros, doubles such
files, and raises the version of every dense layer, so that the delegate leaves them all. Here each
tensor is encoded as it is told, and only the ops that need another kernel are changed.
"""

import copy
from collections.abc import Callable
from typing import Any

import flatbuffers
import numpy as np

from tf_synflow.export.layout import Compressed, Layout
from tf_synflow.export.targets import Encoding, Weight, encoded

# A FULLY_CONNECTED of exactly this version the delegate leaves to TFLite's own kernels, among which
# the sparse ones are: the converter marks them so. Of any other it would read the stored values as
# if they were all.
_SPARSE_DENSE_LAYER = 8
_DENSIFY_BYTES = 200
_ALIGNMENT = 16


def encode(content: bytes, choose: Callable[[Weight], Encoding]) -> bytes:
    """Encodes the weights of a dense TFLite file.

    Args:
      content: the bytes of the dense file.
      choose: says for each float32, float16 and int8 weight how to encode it.

    Returns:
      The bytes of the encoded file; those that were given where it would not be smaller.
    """
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(content)
    changed = [_encode_graph(model, graph, choose) for graph in model.subgraphs]
    if not any(changed):
        return content
    encoded_content = _packed(model, len(content))
    return encoded_content if len(encoded_content) < len(content) else content


def _encode_graph(model: Any, graph: Any, choose: Callable[[Weight], Encoding]) -> bool:
    """Encodes one subgraph in place; whether anything was changed."""
    unpacking = []
    changed = False
    for index, weight, users in _weights(model, graph):
        encoding = choose(weight)
        if encoding == "dense":
            continue
        changed = True
        packed = encoded(weight.values, encoding)
        tensor = graph.tensors[index]
        tensor.sparsity = _sparsity(packed)
        model.buffers[tensor.buffer].data = np.frombuffer(packed.values.tobytes(), np.uint8)
        if encoding == "csr":
            unpacking.append(_densify(model, graph, index, users))
        else:
            for op in users:
                op.opcodeIndex = _sparse_code(model, op.opcodeIndex)
    graph.operators = unpacking + graph.operators
    return changed


def _weights(model: Any, graph: Any) -> list[tuple[int, Weight, list[Any]]]:
    """The constants of a subgraph that may be encoded: index, what is known, and its ops."""
    from ai_edge_litert import schema_py_generated as schema

    dtypes = {
        schema.TensorType.FLOAT32: np.float32,
        schema.TensorType.FLOAT16: np.float16,
        schema.TensorType.INT8: np.int8,
    }
    tensors = [tensor for g in model.subgraphs for tensor in g.tensors]
    holders = np.bincount([tensor.buffer for tensor in tensors])
    found = []
    for index, tensor in enumerate(graph.tensors):
        data = model.buffers[tensor.buffer].data
        if data is None or tensor.type not in dtypes or holders[tensor.buffer] > 1:
            continue
        users = [op for op in graph.operators if index in op.inputs]
        if not users or index in graph.outputs or _zero_point(tensor) or tensor.sparsity:
            continue
        values = np.frombuffer(data.tobytes(), dtypes[tensor.type]).reshape(tensor.shape)
        found.append((index, _weight(model, graph, index, values), users))
    return found


def _weight(model: Any, graph: Any, index: int, values: np.ndarray) -> Weight:
    from ai_edge_litert import schema_py_generated as schema

    types = {value: name.lower() for name, value in vars(schema.TensorType).items()}
    uses, many_rows = [], False
    for name, op, place in _uses(model, graph, index):
        # A TRANSPOSE_CONV takes the shape of its output first.
        first = graph.tensors[op.inputs[2 if name == "TRANSPOSE_CONV" else 0]]
        shape = [] if first.shape is None else first.shape
        many_rows |= int(np.prod(shape[:-1])) > 1
        uses.append((name, place, types[first.type]))
    tensor = graph.tensors[index]
    overhead = _DENSIFY_BYTES + len(tensor.name)
    if tensor.quantization is not None:
        ranges = (tensor.quantization.scale, tensor.quantization.zeroPoint)
        overhead += sum(numbers.nbytes for numbers in ranges if numbers is not None)
    return Weight(tensor.name.decode(errors="replace"), values, tuple(uses), many_rows, overhead)


def _uses(model: Any, graph: Any, index: int) -> list[tuple[str, Any, int]]:
    """The ops that compute with a tensor, itself or unpacked from float16, and at which place."""
    found = []
    for op in graph.operators:
        name = _op_name(model.operatorCodes[op.opcodeIndex])
        for place in np.flatnonzero(np.equal(op.inputs, index)).tolist():
            if name == "DEQUANTIZE":
                found += _uses(model, graph, op.outputs[0])
            else:
                found.append((name, op, place))
    return found


def _op_name(code: Any) -> str:
    from ai_edge_litert import schema_py_generated as schema

    number = max(code.builtinCode, code.deprecatedBuiltinCode)
    return next(n for n, value in vars(schema.BuiltinOperator).items() if value == number)


def _zero_point(tensor: Any) -> bool:
    """Whether a stored zero stands for another number."""
    points = None if tensor.quantization is None else tensor.quantization.zeroPoint
    return points is not None and bool(np.any(points))


def _sparsity(packed: Layout) -> Any:
    from ai_edge_litert import schema_py_generated as schema

    sparsity = schema.SparsityParametersT()
    sparsity.traversalOrder = list(packed.order)
    sparsity.blockMap = list(packed.block_axes)
    sparsity.dimMetadata = []
    for axis in packed.axes:
        dimension = schema.DimensionMetadataT()
        if isinstance(axis, Compressed):
            dimension.format = schema.DimensionType.SPARSE_CSR
            dimension.arraySegmentsType, dimension.arraySegments = _vector(axis.segments)
            dimension.arrayIndicesType, dimension.arrayIndices = _vector(axis.indices)
        else:
            dimension.format = schema.DimensionType.DENSE
            dimension.denseSize = axis
        sparsity.dimMetadata.append(dimension)
    return sparsity


def _vector(numbers: np.ndarray) -> tuple[int, Any]:
    """An index vector of the schema's union, and its type there."""
    from ai_edge_litert import schema_py_generated as schema

    name = f"{numbers.dtype.name.capitalize()}Vector"
    vector = getattr(schema, f"{name}T")()
    vector.values = numbers
    return getattr(schema.SparseIndexVector, name), vector


def _densify(model: Any, graph: Any, index: int, users: list[Any]) -> Any:
    """An op that unpacks a tensor into a new one, which its users take instead."""
    from ai_edge_litert import schema_py_generated as schema

    source = graph.tensors[index]
    unpacked = copy.copy(source)
    unpacked.name, unpacked.buffer, unpacked.sparsity = source.name + b"/dense", 0, None
    graph.tensors.append(unpacked)
    for op in users:
        op.inputs = np.where(op.inputs == index, len(graph.tensors) - 1, op.inputs)
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.DENSIFY
    code.version = 1
    op = schema.OperatorT()
    op.opcodeIndex = _code(model, code)
    op.inputs, op.outputs = [index], [len(graph.tensors) - 1]
    op.builtinOptionsType = schema.BuiltinOptions.DensifyOptions
    op.builtinOptions = schema.DensifyOptionsT()
    return op


def _sparse_code(model: Any, index: int) -> int:
    """The operator code of the same op in the version that has sparse kernels."""
    code = copy.copy(model.operatorCodes[index])
    code.version = _SPARSE_DENSE_LAYER
    return _code(model, code)


def _code(model: Any, wanted: Any) -> int:
    """The index of an operator code, added if it is not there."""
    for index, code in enumerate(model.operatorCodes):
        if vars(code) == vars(wanted):
            return index
    model.operatorCodes.append(wanted)
    return len(model.operatorCodes) - 1


class _Builder(flatbuffers.Builder):
    """Aligns the data of buffers as the schema asks, which the plain builder does not."""

    def CreateNumpyVector(self, x: np.ndarray) -> int:
        if x.nbytes >= _ALIGNMENT:
            self.Prep(_ALIGNMENT, x.nbytes)
        return super().CreateNumpyVector(x)


def _packed(model: Any, size: int) -> bytes:
    builder = _Builder(size)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())
