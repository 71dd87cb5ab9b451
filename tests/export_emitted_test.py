"""What is read from a file equals what the runtime unpacks from it."""

import keras
import numpy as np
import pytest

from tf_synflow import errors
from tf_synflow.export.convert import convert
from tf_synflow.export.emitted import float_ops, read_tensors
from tf_synflow.export.encode import encode
from tf_synflow.export.signature import Signature


def dense(kernel):
    model = keras.Sequential(
        [keras.Input((kernel.shape[0],)), keras.layers.Dense(kernel.shape[1], use_bias=False)]
    )
    model.set_weights([kernel])
    return Signature(model)


def weights_in(content):
    return [tensor for tensor in read_tensors(content) if tensor.is_weight]


def test_dense_and_csr():
    kernel = np.random.default_rng(0).standard_normal((32, 24)).astype(np.float32)
    kernel[np.random.default_rng(1).random(kernel.shape) < 0.8] = 0
    content = convert(dense(kernel))
    (plain,), (packed,) = weights_in(content), weights_in(encode(content, lambda _: "csr"))
    assert (plain.encoding, plain.shape, plain.bytes) == ("dense", (24, 32), kernel.nbytes)
    assert (packed.encoding, packed.densified) == ("csr", True)
    assert plain.zeros == packed.zeros == np.count_nonzero(kernel == 0)
    # Values of four bytes, an index of one byte for each, and 25 row starts of one byte.
    assert packed.bytes == np.count_nonzero(kernel) * 5 + 25


def test_blocks_count_the_zeros_stored_inside_them():
    rng = np.random.default_rng(0)
    kernel = rng.standard_normal((64, 16)).astype(np.float32)
    blocks = rng.random((16, 16)) < 0.9
    kernel[np.repeat(blocks, 4, axis=0)] = 0
    kept = np.argwhere(~blocks)
    kernel[kept[0][0] * 4, kept[0][1]] = 0  # one zero within a stored block
    (tensor,) = weights_in(encode(convert(dense(kernel)), lambda _: "block 1x4"))
    assert (tensor.encoding, tensor.densified) == ("block 1x4", False)
    assert tensor.zeros == np.count_nonzero(kernel == 0)
    assert tensor.bytes >= len(kept) * 4 * 4


def test_a_file_that_is_no_flatbuffer():
    with pytest.raises(errors.ExportError, match="expected a TFLite flatbuffer"):
        read_tensors(b"PK\x03\x04 something else")


def test_a_truncated_file_is_refused_not_misread():
    content = convert(dense(np.ones((32, 24), np.float32)))
    for read in (read_tensors, float_ops):
        with pytest.raises(errors.ExportError, match="truncated or damaged"):
            read(content[: len(content) // 8])
