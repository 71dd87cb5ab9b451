"""Sparse layouts: which entries of a tensor are stored, and how they are indexed.

TFLite traverses the axes of a tensor in some order. A *dense* axis has all its entries; a
*compressed* one lists those that hold anything: `segments` says where the list of each parent entry
begins, `indices` which entries are in it. Blocks add an inner axis, which is dense.
"""

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

Order = tuple[int, ...]
Kinds = tuple[bool, ...]
"""Which axes are compressed, in the order of traversal."""


class Compressed(NamedTuple):
    """An axis of which only the entries that hold something are stored."""

    segments: np.ndarray
    indices: np.ndarray


class Layout(NamedTuple):
    """A tensor, taken apart.

    Attributes:
      order: the axes in the order of traversal; those from the tensor's rank on are block axes.
      block_axes: which axis of the tensor each block axis divides.
      axes: in the order of traversal, the size of a dense axis or a `Compressed` one.
      values: what is stored, one-dimensional.
    """

    order: Order
    block_axes: tuple[int, ...]
    axes: tuple[int | Compressed, ...]
    values: np.ndarray

    @property
    def nbytes(self) -> int:
        """Bytes of the values, segments and indices."""
        index = sum(a.nbytes for axis in self.axes if isinstance(axis, Compressed) for a in axis)
        return self.values.nbytes + index


def smallest(tensor: np.ndarray) -> Layout:
    """The smallest layout of a tensor: an order of its axes, and which of them are compressed.

    At moderate sparsity that is compressed sparse rows over the longest axis; where most rows are
    empty, the axes before it are compressed as well. A DENSIFY op reads them all.

    Args:
      tensor: of rank 1 to 4, any number type.

    Returns:
      The `Layout`; of equal sizes the one with the fewest compressed axes.
    """
    _, order, kinds = min(_candidates(tensor))
    return _layout(tensor, order, kinds)


def rows(matrix: np.ndarray) -> Layout:
    """A matrix as compressed sparse rows, for which TFLite has a float32 FULLY_CONNECTED kernel."""
    return _layout(matrix, (0, 1), (False, True))


def blocks(matrix: np.ndarray, width: int) -> Layout:
    """A matrix as rows of blocks of 1 x `width`; the blocks that hold anything are stored whole.

    TFLite has a FULLY_CONNECTED kernel for `width` 4 in float32 and for 16 in int8. `width` must
    divide the number of columns.
    """
    tiled = matrix.reshape(len(matrix), -1, width)
    return _layout(tiled, (0, 1, 2), (False, True, False))._replace(block_axes=(1,))


def filled(matrix: np.ndarray, width: int) -> float:
    """The share of the 1 x `width` blocks of a matrix that hold anything."""
    return float(_stored(matrix).reshape(-1, width).any(axis=1).mean())


def _layout(tensor: np.ndarray, order: Order, kinds: Kinds) -> Layout:
    entries, stored = tensor.transpose(order)[None], _stored(tensor).transpose(order)[None]
    axes: list[int | Compressed] = []
    for compressed in kinds:
        parents, size, *rest = entries.shape
        if compressed:
            held = stored.any(axis=tuple(range(2, stored.ndim)))
            segments = np.concatenate([[0], np.cumsum(held.sum(axis=1))])
            axes.append(Compressed(_narrow(segments), _narrow(np.nonzero(held)[1])))
            entries, stored = entries[held], stored[held]
        else:
            axes.append(size)
            entries, stored = (a.reshape(parents * size, *rest) for a in (entries, stored))
    return Layout(order, (), tuple(axes), entries.reshape(-1))


def _stored(tensor: np.ndarray) -> np.ndarray:
    """Which entries must be stored: those that are not zero.

    Of none the first, for TFLite takes an empty buffer as that of no constant.
    """
    stored = tensor != 0
    if not stored.any():
        stored[(0,) * tensor.ndim] = True
    return stored


def _candidates(tensor: np.ndarray) -> Iterator[tuple[tuple[int, int], Order, Kinds]]:
    """Every order and kind of the axes, after what it costs: bytes, then compressed axes."""
    held = _held(tensor)
    for order in itertools.permutations(range(tensor.ndim)):
        for kinds in itertools.product((False, True), repeat=tensor.ndim):
            entries, cost = 1, 0
            for level, (axis, compressed) in enumerate(zip(order, kinds, strict=True), 1):
                if compressed:
                    listed = held[frozenset(order[:level])]
                    # Bounds: the true widths are known only once the indices are.
                    cost += (entries + 1) * _width(listed)
                    cost += listed * _width(tensor.shape[axis] - 1)
                    entries = listed
                else:
                    entries *= tensor.shape[axis]
            yield (cost + entries * tensor.itemsize, sum(kinds)), order, kinds


def _held(tensor: np.ndarray) -> dict[frozenset[int], int]:
    """For each set of axes, how many places over them hold anything: all that sizes depend on."""
    axes = range(tensor.ndim)
    stored = _stored(tensor)
    return {
        frozenset(kept): int(np.count_nonzero(stored.any(axis=tuple(set(axes) - set(kept)))))
        for count in range(1, tensor.ndim + 1)
        for kept in itertools.combinations(axes, count)
    }


def _width(largest: int) -> int:
    """Bytes of the narrowest index type that holds a number."""
    return 1 if largest < 1 << 8 else 2 if largest < 1 << 16 else 4


def _narrow(numbers: np.ndarray) -> np.ndarray:
    width = _width(int(numbers.max(initial=0)))
    return numbers.astype({1: np.uint8, 2: np.uint16, 4: np.int32}[width])
