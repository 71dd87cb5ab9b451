"""The least that a tensor takes whose zeros and values follow no pattern."""

import numpy as np


def floor_bytes(values: np.ndarray) -> float:
    """The entropy floor of a tensor: where it is not zero, and what is there.

    (N·H(k/N) + k·b) / 8, with N elements of which k are not zero, H the binary entropy, and b what
    a kept value takes: its width for floats, whose bits hardly repeat; for int8 the empirical
    entropy of the kept values, by which they compress.

    Args:
      values: the tensor, dense, of any number type.

    Returns:
      Bytes; 0 for a tensor without elements.

    Example:
      >>> floor_bytes(np.eye(10, dtype=np.float32))
      45.86...
    """
    kept = values[values != 0]
    positions = values.size * _entropy(np.array([kept.size, values.size - kept.size]))
    if values.dtype.kind == "f":
        return (positions + kept.size * values.itemsize * 8) / 8
    return (positions + kept.size * _entropy(np.unique(kept, return_counts=True)[1])) / 8


def _entropy(counts: np.ndarray) -> float:
    """Bits per event of events that occurred so often."""
    shares = counts[counts > 0] / max(counts.sum(), 1)
    return float(-(shares * np.log2(shares)).sum())
