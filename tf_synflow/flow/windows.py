"""Windows over a feature map: the patches that a convolution or a pooling looks at."""

import functools
import math
from collections.abc import Sequence

import numpy as np
import tensorflow as tf
from scipy import sparse

from tf_synflow.flow import sums
from tf_synflow.flow.outside import linear
from tf_synflow.flow.positions import OUTSIDE


class Windows:
    """Which representatives of a feature map lie in each window.

    Args:
      axes: for each spatial axis the windows along it, of shape (windows, kernel), see
        `positions.windows`.
      sizes: number of representatives along each axis.

    Attributes:
      shape: number of windows along each axis.
      number: of windows.
      places: of the kernel.
      terms: how many values a place of a patch is the sum of, at most.
    """

    terms = 1

    def __init__(self, axes: Sequence[np.ndarray], sizes: Sequence[int]):
        self.shape = tuple(len(window) for window in axes)
        self._size = math.prod(sizes)
        rank = len(axes)
        index, inside = np.zeros([1] * 2 * rank, int), np.ones([1] * 2 * rank, bool)
        for i, window in enumerate(axes):
            shape = [1] * 2 * rank
            shape[i], shape[rank + i] = window.shape
            index = index * sizes[i] + window.reshape(shape)
            inside = inside & (window != OUTSIDE).reshape(shape)
        self.number = math.prod(self.shape)
        self.places = math.prod(window.shape[1] for window in axes)
        # Representatives in row-major order; their number stands for the padding.
        self._index = np.where(inside, index, self._size).reshape(-1, self.places)
        self._padded = not inside.all()
        flat = self._index.ravel()
        self._is_identity = self.places == 1 and np.array_equal(flat, np.arange(self._size))
        # Sums what comes back to each representative from all windows that it lies in.
        kept = flat < self._size
        self._back = sparse.csr_matrix(
            (np.ones(np.count_nonzero(kept)), (flat[kept], np.flatnonzero(kept))),
            shape=(self._size, flat.size),
        )

    def inside(self) -> np.ndarray:
        """How many places of each window are not in the padding."""
        return np.count_nonzero(self._index < self._size, axis=1)

    def patches(self, rows: np.ndarray, padding: float = 0.0) -> np.ndarray:
        """The patches of a feature map.

        Args:
          rows: representatives (positions, channels).
          padding: the value of what is outside.

        Returns:
          An array of shape (windows, places · channels).
        """
        if self._is_identity:
            return rows
        return self._with_padding(rows, padding)[self._index].reshape(self.number, -1)

    def patches_at(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Some columns of `patches`."""
        places, channels = np.divmod(columns, rows.shape[1])
        index = self._index[:, places]
        inside = index < self._size
        return np.where(inside, rows[np.where(inside, index, 0), channels], 0)

    def _with_padding(self, rows: np.ndarray, padding: float = 0.0) -> np.ndarray:
        if not self._padded:
            return rows
        return np.concatenate([rows, np.full((1, rows.shape[1]), padding, rows.dtype)])

    def spread(self, patches: np.ndarray) -> np.ndarray:
        """The transpose of `patches`: sums patches back to the representatives."""
        if self._is_identity:
            return patches
        back = self._back if patches.dtype == np.float64 else self._back.astype(patches.dtype)
        return back @ patches.reshape(self.number * self.places, -1)

    def gather(self, rows: tf.Tensor, padding: float = 0.0) -> tf.Tensor:
        """`patches` in a graph, of shape (windows, places, channels).

        Args:
          rows: a feature map, of shape (*sizes, channels) or (positions, channels).
          padding: the value of what is outside.
        """
        before, after = rows.shape, [self.number, self.places, rows.shape[-1]]
        if self._is_identity:
            return tf.reshape(rows, after)

        def forth(rows: np.ndarray) -> np.ndarray:
            return self.patches(rows.reshape(-1, before[-1]), padding).reshape(after)

        def back(signal: np.ndarray) -> np.ndarray:
            return self.spread(signal).reshape(before)

        return linear(forth, back, rows, after)


class SummedWindows(Windows):
    """Windows over groups of positions, each the sum of those of a group behind it.

    Args:
      axes: for each spatial axis the sums along it, see `sums.summing`.
      kernel: places along each axis.
    """

    def __init__(self, axes: Sequence[sparse.csr_matrix], kernel: Sequence[int]):
        self.shape = tuple(
            axis.shape[0] // places for axis, places in zip(axes, kernel, strict=True)
        )
        self.number, self.places = math.prod(self.shape), math.prod(kernel)
        joint = functools.reduce(sparse.kron, axes).tocsr()
        # From (windows, places) of one axis after the other to those of all axes.
        rows = np.arange(joint.shape[0]).reshape(
            [n for pair in zip(self.shape, kernel, strict=True) for n in pair]
        )
        order = [*range(0, rows.ndim, 2), *range(1, rows.ndim, 2)]
        self._forth = joint[rows.transpose(order).ravel()]
        self._back = self._forth.T.tocsr()
        self._forth_float32 = self._forth.astype(np.float32)
        self.terms = 1 + int(np.diff(self._forth.indptr).max(initial=0))
        self._is_identity = False

    def inside(self) -> np.ndarray:
        return np.full(self.number, self.places)

    def patches(self, rows: np.ndarray, padding: float = 0.0) -> np.ndarray:
        forth = self._forth_float32 if rows.dtype == np.float32 else self._forth
        return (forth @ rows).reshape(self.number, -1)

    def patches_at(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        places, channels = np.divmod(columns, rows.shape[1])
        patches = (self._forth @ rows[:, channels]).reshape(self.number, self.places, -1)
        return patches[:, places, np.arange(len(columns))]


def windows_over(
    axes: Sequence[np.ndarray | sparse.csr_matrix], kernel: Sequence[int], sizes: Sequence[int]
) -> Windows:
    """Windows, along each axis over representatives or over sums.

    Args:
      axes: see `Windows` and `SummedWindows`.
      kernel: places along each axis.
      sizes: number of values along each axis of the feature map.
    """
    if not any(sparse.issparse(axis) for axis in axes):
        return Windows(axes, sizes)
    matrices = []
    for axis, size in zip(axes, sizes, strict=True):
        if not sparse.issparse(axis):
            each, (number, _) = np.arange(size), axis.shape
            axis = sums.summing(axis, np.arange(number), each, are_sums=False)
        matrices.append(axis)
    return SummedWindows(matrices, kernel)


def times(rows: tf.Tensor, kernel: tf.Tensor, windows: Windows | None = None) -> tf.Tensor:
    """What `theta.product` says, of a kernel that is there."""
    kernel = tf.reshape(kernel, [-1, kernel.shape[-1]])
    if windows is None:
        return tf.tensordot(rows, kernel, 1)
    patches = tf.reshape(windows.gather(rows), [windows.number, -1])
    return tf.reshape(tf.matmul(patches, kernel), [*windows.shape, kernel.shape[-1]])
