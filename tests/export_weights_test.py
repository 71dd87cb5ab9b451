"""What is known of a weight before its encoding is chosen, on graphs written by hand."""

import numpy as np
import pytest

from tf_synflow.export.weights import weights_of
from tf_synflow.tflite.graph import Dimension, Graph, Op, Sparsity, Tensor

EMPTY = np.empty(0, np.uint8)
KERNEL = 1


def tensor(name, shape, dtype="float32", buffer=0, **options):
    """A constant of ones where it has a buffer, an activation where it has none."""
    data = np.ones(shape, dtype).reshape(-1).view(np.uint8) if buffer else EMPTY
    return Tensor(name, shape, dtype, buffer, data, **options)


def dense_layer(kernel, x=(1, 4), dtype="float32", outputs=(2,)):
    """A graph of one FULLY_CONNECTED; its kernel is tensor 1."""
    tensors = (tensor("x", x, dtype), kernel, tensor("y", (*x[:-1], 3), dtype))
    return Graph(tensors, (Op("FULLY_CONNECTED", (0, KERNEL), (2,), {}),), (0,), outputs)


def test_a_dense_layers_kernel():
    graph = dense_layer(tensor("kernel", (3, 4), buffer=1))
    (found,) = weights_of((graph,))
    weight = found[KERNEL]
    assert weight.values.shape == (3, 4) and (weight.values == 1).all()
    assert weight.uses == (("FULLY_CONNECTED", 1, "float32"),)
    assert (weight.is_dense_layers, weight.is_hybrid, weight.many_rows) == (True, False, False)


def test_what_multiplies_several_rows_and_what_is_hybrid():
    kernel = tensor("kernel", (3, 4), "int8", buffer=1, scales=3)
    (found,) = weights_of((dense_layer(kernel, x=(1, 7, 4)),))
    assert (found[KERNEL].many_rows, found[KERNEL].is_hybrid) == (True, True)
    (found,) = weights_of((dense_layer(kernel, dtype="int8"),))
    assert (found[KERNEL].many_rows, found[KERNEL].is_hybrid) == (False, False)


def test_the_ranges_of_a_quantized_weight_are_written_twice_with_densify():
    one, many = (tensor("k", (3, 4), "int8", buffer=1, scales=scales) for scales in (1, 3))
    (first,), (second,) = (weights_of((dense_layer(kernel),)) for kernel in (one, many))
    # A float32 scale and an int64 zero point each.
    assert second[KERNEL].overhead - first[KERNEL].overhead == 2 * (4 + 8)


def test_float16_is_seen_through_its_dequantize():
    tensors = (
        tensor("x", (1, 4)),
        tensor("kernel", (3, 4), "float16", buffer=1),
        tensor("unpacked", (3, 4)),
        tensor("y", (1, 3)),
    )
    ops = (Op("DEQUANTIZE", (1,), (2,), {}), Op("FULLY_CONNECTED", (0, 2), (3,), {}))
    (found,) = weights_of((Graph(tensors, ops, (0,), (3,)),))
    assert found[KERNEL].uses == (("FULLY_CONNECTED", 1, "float32"),)
    assert not found[KERNEL].is_dense_layers


@pytest.mark.parametrize(
    "kernel",
    [
        tensor("a type without kernels", (3, 4), "int32", buffer=1),
        tensor("its zero is another number", (3, 4), "int8", buffer=1, zero_point=5),
        tensor("encoded", (3, 4), buffer=1, sparsity=Sparsity((0, 1), (), (Dimension(3),) * 2)),
        tensor("no constant", (3, 4)),
    ],
    ids=lambda kernel: kernel.name,
)
def test_what_is_not_to_be_encoded(kernel):
    assert weights_of((dense_layer(kernel),)) == [{}]


def test_a_buffer_of_two_graphs_and_an_output_are_left_as_they_are():
    kernel = tensor("kernel", (3, 4), buffer=1)
    assert weights_of((dense_layer(kernel), dense_layer(kernel))) == [{}, {}]
    assert weights_of((dense_layer(kernel, outputs=(KERNEL, 2)),)) == [{}]
