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

from tf_synflow.export.emitted import graphs_of
from tf_synflow.export.encodings import Encoding, encoded
from tf_synflow.export.layout import Compressed, Layout
from tf_synflow.export.weights import Weight, weights_of

# A FULLY_CONNECTED of exactly this version the delegate leaves to TFLite's own kernels, among which
# the sparse ones are: the converter marks them so. Of any other it would read the stored values as
# if they were all.
_SPARSE_DENSE_LAYER = 8
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
    weights = weights_of(graphs_of(content))
    changed = [
        _encode_graph(model, graph, own, choose)
        for graph, own in zip(model.subgraphs, weights, strict=True)
    ]
    if not any(changed):
        return content
    encoded_content = _packed(model, len(content))
    return encoded_content if len(encoded_content) < len(content) else content


def _encode_graph(
    model: Any, graph: Any, weights: dict[int, Weight], choose: Callable[[Weight], Encoding]
) -> bool:
    """Encodes one subgraph in place; whether anything was changed."""
    unpacking = []
    changed = False
    for index, weight in weights.items():
        encoding = choose(weight)
        if encoding == "dense":
            continue
        changed = True
        packed = encoded(weight.values, encoding)
        tensor = graph.tensors[index]
        tensor.sparsity = _sparsity(packed)
        model.buffers[tensor.buffer].data = np.frombuffer(packed.values.tobytes(), np.uint8)
        users = [op for op in graph.operators if index in op.inputs]
        if encoding == "csr":
            unpacking.append(_densify(model, graph, index, users))
        else:
            for op in users:
                op.opcodeIndex = _sparse_code(model, op.opcodeIndex)
    graph.operators = unpacking + graph.operators
    return changed


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
