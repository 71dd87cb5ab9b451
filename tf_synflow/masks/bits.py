"""Masks as bits: eight entries a byte, in every file that holds masks."""

import numpy as np


def pack(mask: np.ndarray) -> np.ndarray:
    """The bytes of a bool array, uint8; the last is filled up with zeros."""
    return np.packbits(mask)


def unpack(packed: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The bool array of a shape that `pack` gave the bytes of.

    Raises:
      ValueError: as many bytes as no array of this shape has.
    """
    size = int(np.prod(shape))
    if packed.dtype != np.uint8 or packed.shape != ((size + 7) // 8,):
        raise ValueError(f"{packed.size} bytes of mask for a weight of shape {tuple(shape)}")
    return np.unpackbits(packed, count=size).astype(bool).reshape(shape)
