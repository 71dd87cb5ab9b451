"""Windows over a feature map: the patches that a convolution or a pooling looks at."""

import math
from collections.abc import Sequence

import numpy as np
import tensorflow as tf
from scipy import sparse

from tf_synflow.flow.outside import outside
from tf_synflow.flow.positions import OUTSIDE


class Windows:
    """Which representatives of a feature map lie in each window.

    Args:
      axes: for each spatial axis the windows along it, of shape (windows, kernel), see
        `positions.windows`.
      sizes: number of representatives along each axis.

    Attributes:
      shape: number of windows along each axis.
      index: representatives in row-major order, of shape (windows, places of the kernel);
        their number stands for the padding.
    """

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
        places = math.prod(window.shape[1] for window in axes)
        self.index = np.where(inside, index, self._size).reshape(-1, places)
        self._padded = not inside.all()
        self._is_identity = places == 1 and np.array_equal(
            self.index.ravel(), np.arange(self._size)
        )
        # Sums what comes back to each representative from all windows that it lies in.
        flat = self.index.ravel()
        kept = flat < self._size
        self._back = sparse.csr_matrix(
            (np.ones(np.count_nonzero(kept)), (flat[kept], np.flatnonzero(kept))),
            shape=(self._size, flat.size),
        )

    def inside(self) -> np.ndarray:
        """How many places of each window are not in the padding."""
        return np.count_nonzero(self.index < self._size, axis=1)

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
        return self._with_padding(rows, padding)[self.index].reshape(len(self.index), -1)

    def patches_at(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Some columns of `patches`."""
        places, channels = np.divmod(columns, rows.shape[1])
        index = self.index[:, places]
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
        return back @ patches.reshape(self.index.size, -1)

    def gather(self, rows: tf.Tensor, padding: float = 0.0) -> tf.Tensor:
        """`patches` in a graph, of shape (windows, places, channels).

        Args:
          rows: a feature map, of shape (*sizes, channels) or (positions, channels).
          padding: the value of what is outside.
        """
        before, after = rows.shape, [*self.index.shape, rows.shape[-1]]
        if self._is_identity:
            return tf.reshape(rows, after)

        def forth(rows: np.ndarray) -> np.ndarray:
            return self.patches(rows.reshape(-1, before[-1]), padding).reshape(after)

        def back(signal: np.ndarray) -> np.ndarray:
            return self.spread(signal).reshape(before)

        @tf.custom_gradient
        def gathered(rows: tf.Tensor) -> tf.Tensor:
            return outside(forth, rows, after), lambda signal: outside(back, signal, before)

        return gathered(rows)


def times(rows: tf.Tensor, kernel: tf.Tensor, windows: Windows | None = None) -> tf.Tensor:
    """What `theta.product` says, of a kernel that is there."""
    kernel = tf.reshape(kernel, [-1, kernel.shape[-1]])
    if windows is None:
        return tf.tensordot(rows, kernel, 1)
    patches = tf.reshape(windows.gather(rows), [len(windows.index), -1])
    return tf.reshape(tf.matmul(patches, kernel), [*windows.shape, kernel.shape[-1]])
