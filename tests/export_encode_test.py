"""Each sparse encoding, in each number format, computes what the dense file of that format does."""

import keras
import numpy as np
import pytest
import tf_keras

from tf_synflow import errors
from tf_synflow.export import encodings as choices
from tf_synflow.export import layout
from tf_synflow.export.convert import convert
from tf_synflow.export.emitted import read_tensors
from tf_synflow.export.encode import encode
from tf_synflow.export.probes import probes
from tf_synflow.export.signature import Signature
from tf_synflow.export.verify import SAME_FORMAT_TOLERANCES, TOLERANCES, check_same, verify
from tf_synflow.export.weights import weights_of
from tf_synflow.tflite.graph import read_graphs

FORMATS = [None, "float16", "dynamic", "int8"]


def network(zeros, block=1, width=64):
    """A convolution, a depthwise one and two dense layers, whose zeros come in 1 x block."""
    rng = np.random.default_rng(0)
    model = keras.Sequential(
        [
            keras.Input((8, 8, 16), name="x"),
            keras.layers.Conv2D(32, 3, activation="relu"),
            keras.layers.DepthwiseConv2D(3, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(width, activation="relu", name="first"),
            keras.layers.Dense(width, activation="relu", name="second"),
            keras.layers.Dense(10, name="y"),
        ]
    )
    for layer in model.layers:
        values = layer.get_weights()
        if values:
            values[1][:] = rng.normal(size=values[1].shape) * 0.1
            rows = values[0].reshape(-1, values[0].shape[-1])
            size = block if len(rows) % block == 0 else 1
            empty = rng.random((len(rows) // size, rows.shape[1])) < zeros
            rows[np.repeat(empty, size, axis=0)] = 0
            layer.set_weights([rows.reshape(values[0].shape), values[1]])
    return model


def converted(model, quantize):
    signature = Signature(model)
    batches = list(probes(signature, batch_size=None))
    inputs = {"x": np.concatenate([batch["x"] for _, batch in batches])}
    known = inputs if quantize == "int8" else None
    content = convert(signature, quantize=quantize, representative=known)
    return content, signature, batches


def encodings(content):
    """Encoding and whether it is unpacked at load, by shape, of the kernels."""
    tensors = [tensor for tensor in read_tensors(content) if tensor.is_weight]
    return {t.shape: (t.encoding, t.densified) for t in tensors if len(t.shape) > 1}


@pytest.mark.parametrize("quantize", FORMATS)
@pytest.mark.parametrize("block", [1, 4, 16])
@pytest.mark.parametrize("zeros", [0.5, 0.97, 1.0])
def test_what_is_chosen_is_right_in_every_runtime(quantize, block, zeros):
    content, signature, batches = converted(network(zeros, block), quantize)
    for everything in (False, True):
        packed = encode(content, lambda w, e=everything: choices.best(w, "cpu-x86", e)[0])
        check_same(packed, content, batches, SAME_FORMAT_TOLERANCES[quantize])
        verify(packed, signature, batches, TOLERANCES[quantize])
        before, after = (read_tensors(file) for file in (content, packed))
        assert sum(t.zeros for t in before) == sum(t.zeros for t in after)
        assert len(packed) <= len(content)


def test_blocks_are_found_in_the_zeros_and_run_sparse():
    content, *_ = converted(network(0.9, 4), None)
    packed = encode(content, lambda weight: choices.best(weight, "cpu-x86", False)[0])
    assert encodings(packed)[(64, 64)] == ("block 1x4", False)
    content, *_ = converted(network(0.97, 16, width=256), "int8")
    packed = encode(content, lambda weight: choices.best(weight, "cpu-x86", False)[0])
    assert encodings(packed)[(256, 256)] == ("block 1x16", False)


@pytest.mark.parametrize(
    ("quantize", "zeros", "block", "sparse", "cached"),
    [
        (None, 0.93, 1, "rows", "csr"),
        (None, 0.99, 1, "rows", "rows"),
        (None, 0.8, 4, "block 1x4", "csr"),
        (None, 0.95, 4, "block 1x4", "block 1x4"),
        ("int8", 0.97, 16, "block 1x16", "dense"),
    ],
)
def test_in_a_cache_the_dense_kernel_is_faster(quantize, zeros, block, sparse, cached):
    """Measured: docs/export.md. Sparse kernels are as fast there as elsewhere."""
    content, *_ = converted(network(zeros, block, width=256), quantize)
    (weights,) = weights_of(read_graphs(content))
    (weight,) = (one for one in weights.values() if one.values.shape == (256, 256))
    for file_bytes, expected in ((np.inf, sparse), (8e6, sparse), (1e6, cached), (1e5, cached)):
        assert choices.best(weight, "cpu-x86", False, file_bytes)[0] == expected


@pytest.mark.parametrize("zeros", [0.97, 0.99, 0.999])
def test_unstructured_zeros_are_not_mistaken_for_blocks(zeros):
    """The converter takes them for blocks above 96.5 %, and the file doubles."""
    content, *_ = converted(network(zeros, width=256), None)
    packed = encode(content, lambda weight: choices.best(weight, "cpu-x86", False)[0])
    assert encodings(packed)[(256, 256)] == ("csr", False)
    tensor = next(tensor for tensor in read_tensors(packed) if tensor.shape == (256, 256))
    kept = tensor.elements - tensor.zeros
    assert tensor.bytes <= kept * 5 + 2 * 257


def test_what_the_runtimes_get_wrong_is_not_encoded():
    """Float16 and dynamic-range dense layers in blocks: NaN and garbage, without an error."""
    for quantize, expected in (("float16", ("csr", True)), ("dynamic", ("dense", False))):
        content, *_ = converted(network(0.9, 16), quantize)
        packed = encode(content, lambda weight: choices.best(weight, "cpu-x86", True)[0])
        assert encodings(packed)[(64, 64)] == expected


def test_a_microcontroller_gets_everything_dense():
    content, *_ = converted(network(0.9, 4), None)
    reasons = []

    def choose(weight):
        encoding, reason = choices.best(weight, "microcontroller", True)
        reasons.append(reason)
        return encoding

    assert encode(content, choose) is content
    assert set(reasons) == {"tflite-micro has no DENSIFY and no sparse kernels"}


@pytest.mark.parametrize(
    ("quantize", "encoding"), [("float16", "rows"), ("dynamic", "rows"), ("int8", "rows")]
)
def test_an_encoding_that_computes_something_else_is_found_out(quantize, encoding):
    content, signature, batches = converted(network(0.9), quantize)
    kernels = ("FULLY_CONNECTED", 1)
    packed = encode(
        content,
        lambda w: encoding if all(use[:2] == kernels for use in w.uses) else "dense",
    )
    with pytest.raises(errors.ExportError, match="NaN|differs|cannot"):
        verify(packed, signature, batches, TOLERANCES[quantize])


def test_float32_is_encoded_as_the_converter_does():
    import tensorflow as tf
    from ai_edge_litert import schema_py_generated as schema

    model = tf_keras.Sequential(
        [
            tf_keras.layers.Conv2D(16, 3, input_shape=(6, 6, 8)),
            tf_keras.layers.Flatten(),
            tf_keras.layers.Dense(8),
        ]
    )
    rng = np.random.default_rng(0)
    values = model.get_weights()
    model.set_weights([np.where(rng.random(v.shape) < 0.8, 0, v) for v in values])
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.EXPERIMENTAL_SPARSITY]
    read = schema.ModelT.InitFromPackedBuf(converter.convert())
    found = [tensor for tensor in read.subgraphs[0].tensors if tensor.sparsity is not None]
    assert len(found) == 2
    for tensor in found:
        kernel = next(v for v in model.get_weights() if v.size == np.prod(tensor.shape))
        kernel = np.moveaxis(kernel, -1, 0)  # TFLite has the output channels first
        kinds = (False,) * (kernel.ndim - 1) + (True,)
        ours = layout._layout(kernel, tuple(range(kernel.ndim)), kinds)
        theirs = tensor.sparsity.dimMetadata
        assert ours.values.tobytes() == read.buffers[tensor.buffer].data.tobytes()
        assert ours.order == tuple(tensor.sparsity.traversalOrder)
        assert ours.axes[:-1] == tuple(dimension.denseSize for dimension in theirs[:-1])
        assert np.array_equal(ours.axes[-1].segments, theirs[-1].arraySegments.values)
        assert np.array_equal(ours.axes[-1].indices, theirs[-1].arrayIndices.values)
        assert layout.smallest(kernel).nbytes <= ours.nbytes


def test_the_data_of_buffers_is_aligned_as_the_schema_wants():
    from ai_edge_litert import schema_py_generated as schema

    content, *_ = converted(network(0.9), None)
    packed = encode(content, lambda weight: choices.best(weight, "cpu-x86", False)[0])
    model = schema.Model.GetRootAs(packed, 0)
    start = np.frombuffer(packed, np.uint8).ctypes.data
    buffers = [model.Buffers(i) for i in range(model.BuffersLength())]
    data = [buffer.DataAsNumpy() for buffer in buffers if buffer.DataLength() >= 16]
    assert len(data) > 4
    assert all((numbers.ctypes.data - start) % 16 == 0 for numbers in data)


def test_a_dense_layer_that_stays_dense_stays_with_the_delegate():
    from ai_edge_litert import schema_py_generated as schema

    content, *_ = converted(network(0.9), None)
    packed = encode(content, lambda w: "rows" if w.values.shape == (64, 64) else "dense")
    model = schema.ModelT.InitFromPackedBuf(packed)
    codes = {}
    for op in model.subgraphs[0].operators:
        code = model.operatorCodes[op.opcodeIndex]
        if code.builtinCode == schema.BuiltinOperator.FULLY_CONNECTED:
            shape = tuple(model.subgraphs[0].tensors[op.inputs[1]].shape)
            codes[shape] = code.version
    assert codes.pop((64, 64)) == 8
    assert set(codes.values()) == {1}
