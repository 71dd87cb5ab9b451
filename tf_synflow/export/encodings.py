"""What each target can use: the encodings of a weight that are computed right, and the best.

The costs are times of FULLY_CONNECTED in ai-edge-litert 2.3 on x86-64, one input row, one thread,
per stored value and relative to the dense kernel per element: docs/export.md. Weights that stay in
a cache the dense kernel multiplies four times as fast as others, the sparse kernels hardly faster.
They decide only between encodings that are all right.
"""

import math
from typing import Literal

import numpy as np
import zstandard

from tf_synflow.export import layout
from tf_synflow.export.weights import Weight
from tf_synflow.targets import Target

Encoding = Literal["dense", "csr", "rows", "block 1x4", "block 1x16"]

_COST = {"rows": 8.0, "block 1x4": 2.8, "block 1x16": 13.0}
# The same in a file that a cache holds, where each output takes as long as some stored values
# besides; in between by size.
_COST_IN_CACHE = {"rows": 28.0, "block 1x4": 9.0, "block 1x16": 33.0}
_COST_OF_AN_OUTPUT = {"rows": 1, "block 1x4": 7, "block 1x16": 13}
_IN_CACHE, _BEYOND = 1e6, 4e6
# From two rows on the dense kernel reads a weight once for several products.
_COST_OF_MANY_ROWS = 4.0
_NEEDS_BLOCKS = (
    "the default delegate fails on an int8 dense layer behind DENSIFY, and its zeros do not fill "
    "blocks of 1x16, for which there is a kernel"
)
_KERNELS = (("CONV_2D", 1), ("DEPTHWISE_CONV_2D", 1), ("FULLY_CONNECTED", 1))
# The delegate leaves these to TFLite, and then unpacks no float16 for them: NaN.
_IN_FLOAT32 = (("TRANSPOSE_CONV", 1), ("GATHER", 0))


def sparse_encodings(weight: Weight, target: Target) -> tuple[tuple[Encoding, ...], str]:
    """The sparse encodings that the runtimes compute right, and why others are not.

    Returns:
      The encodings, and what keeps others out.
    """
    if target == "microcontroller":
        return (), "tflite-micro has no DENSIFY and no sparse kernels"
    known = _KERNELS + (_IN_FLOAT32 if weight.dtype == "float32" else ())
    if weight.values.ndim not in (2, 4) or any((op, at) not in known for op, at, _ in weight.uses):
        ops = " and ".join(sorted({op for op, _, _ in weight.uses}))
        return (), f"{ops} in {weight.dtype} does not take a sparse weight"
    if weight.is_hybrid:
        return (), "the default delegate cannot take a sparse int8 weight with float activations"
    if weight.is_dense_layers:
        if weight.dtype == "float32":
            return ("csr", "rows", *_if_divides(weight, 4)), ""
        return _if_divides(weight, 16), _NEEDS_BLOCKS
    return ("csr",), ""


def best(
    weight: Weight, target: Target, everything: bool, file_bytes: float = math.inf
) -> tuple[Encoding, str]:
    """The encoding to use for a weight.

    Args:
      weight: what is known of it.
      target: where it shall run.
      everything: encode sparsely whatever becomes smaller, also where that costs speed or, in
        int8, the bytes of a compressed download; otherwise only where it costs neither.
      file_bytes: of the dense file: what a cache holds, the dense kernel is faster on.

    Returns:
      The encoding, the fastest and then the smallest, and why it is dense where it is.
    """
    possible, reason = sparse_encodings(weight, target)
    sizes = {name: encoded(weight.values, name).nbytes for name in possible}
    limit = weight.values.nbytes - weight.overhead
    times = {name: _time(weight, name, file_bytes) for name, size in sizes.items() if size < limit}
    if not times:
        return "dense", reason or "sparse encoding does not make it smaller"
    if not everything:
        times = {name: time for name, time in times.items() if time <= 1}
        if weight.dtype == "int8" and "csr" in times and not _compresses_better(weight.values):
            del times["csr"]
            reason = "with its indices a download would be larger than with its zeros"
    if not times:
        return "dense", reason or "the dense kernel is faster"
    return min(times, key=lambda name: (times[name], sizes[name])), ""


def encoded(values: np.ndarray, encoding: Encoding) -> layout.Layout:
    """The layout of values in a sparse encoding."""
    if encoding == "csr":
        return layout.smallest(values)
    if encoding == "rows":
        return layout.rows(values)
    return layout.blocks(values, int(encoding.split("x")[1]))


def _if_divides(weight: Weight, width: int) -> tuple[Encoding, ...]:
    return (f"block 1x{width}",) if weight.values.shape[1] % width == 0 else ()


def _compresses_better(values: np.ndarray) -> bool:
    """Whether values and indices take less after zstd than the dense values."""
    packed = encoded(values, "csr")
    indices = [numbers for axis in packed.axes if not isinstance(axis, int) for numbers in axis]
    sparse = b"".join(numbers.tobytes() for numbers in (packed.values, *indices))
    return len(zstandard.compress(sparse, 9)) < len(zstandard.compress(values.tobytes(), 9))


def _time(weight: Weight, encoding: Encoding, file_bytes: float) -> float:
    """Estimated time relative to dense."""
    if encoding == "csr":
        return 1.0
    width = 1 if encoding == "rows" else int(encoding.split("x")[1])
    rows = _COST_OF_MANY_ROWS if weight.many_rows else 1.0
    stored = layout.filled(weight.values, width)
    with_output = stored + _COST_OF_AN_OUTPUT[encoding] / weight.values.shape[1]
    times = _COST_IN_CACHE[encoding] * with_output, _COST[encoding] * stored
    return rows * float(np.interp(file_bytes, (_IN_CACHE, _BEYOND), times))
