"""Sizes of downloads: of the same weights about the same, however the tensors are called."""

import numpy as np

from tf_synflow.tflite.downloads import zlib_bytes, zstd_bytes


def _int8_weights(layers=14, size=36_000, kept=0.33):
    """Like the kernels of a pruned and shrunk network in int8."""
    random = np.random.default_rng(0)
    kernels = np.rint(random.standard_normal((layers, size)) * 40).clip(-127, 127).astype(np.int8)
    return (kernels * (random.random(kernels.shape) < kept)).tobytes()


def test_names_do_not_decide_on_the_size():
    random = np.random.default_rng(1)
    heads = [b"", b"TFL3", *(random.bytes(size) for size in (100, 400, 700, 1000))]
    sizes = [zstd_bytes(head + _int8_weights()) for head in heads]
    assert max(sizes) < 1.01 * min(sizes) + 1000


def test_what_can_be_pressed_is():
    content = _int8_weights()
    assert zstd_bytes(content) < zlib_bytes(content) < len(content)
