"""The entropy floor: the least that a tensor takes whose zeros and values follow no pattern."""

import numpy as np


def floor_bytes(values: np.ndarray) -> float:
    """The entropy floor of a tensor: `floor_bits` of its zeros and of what its kept values take.

    Args:
      values: the tensor, dense, of any number type.

    Returns:
      Bytes; 0 for a tensor without elements.

    Example:
      >>> floor_bytes(np.eye(10, dtype=np.float32))
      45.86...
    """
    kept = values[values != 0]
    bits = value_bits(kept, 8 * values.itemsize)
    return floor_bits(values.size, values.size - kept.size, bits) / 8


def floor_bits(elements: int, zeros: int, bits: float) -> float:
    """Entropy floor of one tensor: what is kept, and where it lies.

    k·b + n·H(k/n), with n elements, k of them kept, b bits a value and H the binary entropy: what
    ideal coding of the positions takes when they follow no pattern.

    Args:
      elements: n, at least 0.
      zeros: n − k.
      bits: b, of `value_bits`.

    Returns:
      Bits.

    Example:
      >>> floor_bits(1000, 900, 32) / 8
      458.6...
    """
    kept = elements - zeros
    return kept * bits + elements * _entropy(np.array([kept, zeros]))


def value_bits(kept: np.ndarray, width: int) -> float:
    """What a kept value takes: its width for floats, whose bits hardly repeat; else its entropy.

    Args:
      kept: the values.
      width: bits of one as it is stored.
    """
    if kept.dtype.kind == "f":
        return width
    return _entropy(np.unique(kept, return_counts=True)[1])


def _entropy(counts: np.ndarray) -> float:
    """Bits per event of events that occurred so often."""
    shares = counts[counts > 0] / max(counts.sum(), 1)
    return float(abs((shares * np.log2(shares)).sum()))
