"""What is read from a file equals what the converter was given and what LiteRT's schema reads."""

import math

import deployment_files
import hypothesis
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from hypothesis import strategies

from tf_synflow import entropy, errors
from tf_synflow.entropy import floor_bits
from tf_synflow.tflite import contents
from tf_synflow.tflite.graph import Dimension, Sparsity, Tensor, read_graphs

FILES = ("mlp_dense", "mlp_csr", "mlp_blocks", "mlp_int8", "shaped", "stock")


def read(name):
    graphs = read_graphs(deployment_files.content(name))
    return graphs, contents.read_contents(graphs)


@pytest.mark.parametrize("name", FILES)
def test_the_graph_is_the_one_that_the_schema_reads(name):
    content = deployment_files.content(name)
    expected = schema.ModelT.InitFromPackedBuf(content)
    kinds = {value: key for key, value in vars(schema.BuiltinOperator).items()}
    for graph, own in zip(expected.subgraphs, read_graphs(content), strict=True):
        assert [t.name.decode() for t in graph.tensors] == [t.name for t in own.tensors]
        shapes = [() if t.shape is None else tuple(t.shape) for t in graph.tensors]
        assert shapes == [t.shape for t in own.tensors]
        for op, mine in zip(graph.operators, own.ops, strict=True):
            code = expected.operatorCodes[op.opcodeIndex]
            assert kinds[max(code.builtinCode, code.deprecatedBuiltinCode)] == mine.kind
            assert (tuple(op.inputs), tuple(op.outputs)) == (mine.inputs, mine.outputs)
            if mine.kind in ("CONV_2D", "DEPTHWISE_CONV_2D"):
                options = op.builtinOptions
                found = (options.padding, options.strideH, options.dilationWFactor)
                assert found == tuple(
                    mine.options[k] for k in ("padding", "stride_h", "dilation_w")
                )


@pytest.mark.parametrize(("name", "encoding"), [("mlp_csr", "csr"), ("mlp_blocks", "block 1x4")])
def test_zeros_and_bytes_of_sparse_tensors(name, encoding):
    block = 4 if name == "mlp_blocks" else 1
    model = deployment_files.pruned(deployment_files.mlp(), 0.8, block=block)
    kernels = [layer.kernel.numpy() for layer in model.layers]
    found = {c.shape: c for c in contents.distinct(read(name)[1]) if c.is_weight}
    for kernel in kernels:
        content = found[kernel.shape[::-1]]
        assert content.encoding == encoding
        assert content.zeros == np.count_nonzero(kernel == 0)
        assert content.dense_bytes == kernel.nbytes
        assert content.bytes - content.index_bytes == 4 * (content.elements - content.zeros)
        assert content.floor_bytes < content.bytes < content.dense_bytes


def test_the_zero_of_a_quantized_tensor_is_its_zero_point():
    data = np.array([128, 128, 3, 0], np.uint8)
    tensor = Tensor("w", (2, 2), "uint8", 1, data, zero_point=128)
    assert contents.content_of(tensor).zeros == 2


def test_packed_int4():
    tensor = Tensor("w", (1, 3), "int4", 1, np.array([0x20, 0xF0], np.uint8))
    content = contents.content_of(tensor)
    assert (content.elements, content.zeros, content.bytes) == (3, 2, 2)


def test_an_unread_dtype_has_no_zeros_rather_than_none():
    content = contents.content_of(Tensor("s", (2,), "string", 1, np.zeros(20, np.uint8)))
    assert (content.zeros, content.density, content.bytes) == (None, None, 20)


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("model/conv1/convolution", "conv1"),
        ("m/relu/Relu;m/bn/add_1;m/inner/conv1/convolution2", "inner/conv1"),
        ("sequential/dense/MatMul1", "dense"),
        ("StatefulPartitionedCall:01", ""),
        ("arith.constant4", ""),
        ("", ""),
    ],
)
def test_the_layer_of_a_name(name, layer):
    assert contents.layer_of(name) == layer


def csr(segments, indices, values=2, rows=2):
    """A sparse 2×4 float tensor with these row starts and indices."""
    dims = (Dimension(rows), Dimension(0, np.array(segments), np.array(indices)))
    data = np.zeros(4 * values, np.uint8)
    return Tensor("w", (2, 4), "float32", 1, data, sparsity=Sparsity((0, 1), (), dims))


def test_a_sound_sparse_tensor():
    content = contents.content_of(csr([0, 1, 2], [3, 0]))
    assert (content.encoding, content.zeros) == ("csr", 8)


@pytest.mark.parametrize(
    "tensor",
    [
        csr([0, 1, 2], [4, 0]),
        csr([0, 1, 2], [-1, 0]),
        csr([0, 2, 1], [3, 0]),
        csr([0, 1], [3]),
        csr([], []),
        csr([0, 1, 2], [3, 0], values=3),
        csr([0, 1, 2], [3, 0], rows=3),
        Tensor("w", (2, 4), "float32", 1, np.zeros(31, np.uint8)),
        Tensor("w", (2**30, 2**30), "float32", 1, np.zeros(4, np.uint8)),
        Tensor("w", (2, 4), "float32", 1, np.zeros(4, np.uint8), sparsity=Sparsity((), (), ())),
    ],
)
def test_a_tensor_that_contradicts_itself_is_refused(tensor):
    with pytest.raises(errors.ModelError, match="truncated or damaged"):
        contents.content_of(tensor)


@hypothesis.given(
    elements=strategies.integers(1, 10**9),
    share=strategies.floats(0, 1),
    bits=strategies.sampled_from([4, 8, 16, 32]),
)
def test_the_floor_lies_between_the_values_and_a_bitmap(elements, share, bits):
    zeros = int(share * elements)
    floor = floor_bits(elements, zeros, bits)
    values = bits * (elements - zeros)
    assert values <= floor <= values + elements * (1 + 1e-9)


def test_the_floor_is_the_exporters():
    """int8 values compress by their entropy, float ones hardly: as `entropy.floor_bytes` has it."""
    rng = np.random.default_rng(0)
    for dtype, values in (("int8", rng.integers(-20, 20, 900)), ("float32", rng.normal(size=900))):
        values = (values * (rng.random(900) < 0.3)).astype(dtype)
        tensor = Tensor("w", (30, 30), dtype, 1, values.view(np.uint8))
        found = contents.content_of(tensor).floor_bytes
        assert found == pytest.approx(entropy.floor_bytes(values.reshape(30, 30)))


def test_the_floor_of_half_the_weights():
    assert floor_bits(1000, 500, 32) == 500 * 32 + 1000
    assert floor_bits(1000, 1000, 32) == floor_bits(0, 0, 32) == 0
    # ln C(n, k) approaches it.
    exact = math.log2(math.comb(10_000, 100))
    assert floor_bits(10_000, 9_900, 0) == pytest.approx(exact, rel=0.01)
