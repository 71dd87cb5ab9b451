"""What a graph leaves to NumPy: gathers and matrix products, several times as fast on a CPU."""

from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf


def outside(
    function: Callable[[np.ndarray], np.ndarray], value: tf.Tensor, shape: Sequence[int]
) -> tf.Tensor:
    """A NumPy function of one tensor, without a gradient.

    TensorFlow takes it for pure: a result that nothing asks for is not computed, and one that
    depends on nothing that the graph is fed is computed once.

    Args:
      function: keeps the dtype.
      value: its argument.
      shape: of its result.
    """

    def quiet(value: np.ndarray) -> np.ndarray:
        # Infinity and NaN stay as they are, to be found in the scores.
        with np.errstate(over="ignore", invalid="ignore"):
            return function(value)

    result = tf.numpy_function(quiet, [value], value.dtype, stateful=False)
    result.set_shape(shape)
    return result


def take(value: tf.Tensor, index: np.ndarray, axis: int) -> tf.Tensor:
    """`tf.gather` along an axis, whose gradient in TensorFlow exchanges axes for it."""
    before = value.shape
    after = [len(index) if i == axis else size for i, size in enumerate(before)]

    order = np.argsort(index, kind="stable")
    taken_places, starts = np.unique(index[order], return_index=True)
    is_sorted = np.array_equal(order, np.arange(len(index)))

    def back(signal: np.ndarray) -> np.ndarray:
        total = np.zeros(before, signal.dtype)
        signal = signal if is_sorted else signal.take(order, axis)
        onto = (slice(None),) * axis
        total[(*onto, taken_places)] = np.add.reduceat(signal, starts, axis)
        return total

    @tf.custom_gradient
    def taken(value: tf.Tensor) -> tf.Tensor:
        result = outside(lambda value: value.take(index, axis), value, after)
        return result, lambda signal: outside(back, signal, before)

    return taken(value)
