"""What a graph leaves to NumPy: gathers and matrix products, several times as fast on a CPU."""

import contextlib
import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import tensorflow as tf
from scipy import sparse

from tf_synflow import process


@process.shared
@contextlib.contextmanager
def as_traced() -> Iterator[None]:
    """Runs graphs as they are, without TensorFlow's graph optimizer.

    With all arithmetic outside there is little to optimize, and to look for it takes a quarter of a
    second for a network of twenty layers. The option is one of the process; who else has a graph
    run for the first time meanwhile gets it unoptimized.
    """
    options, name = tf.config.optimizer, "disable_meta_optimizer"
    before = options.get_experimental_options()[name]
    options.set_experimental_options({name: True})
    try:
        yield
    finally:
        options.set_experimental_options({name: before})


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


def linear(
    forth: Callable[[np.ndarray], np.ndarray],
    back: Callable[[np.ndarray], np.ndarray],
    value: tf.Tensor,
    shape: Sequence[int],
) -> tf.Tensor:
    """A linear NumPy function of one tensor, with its transpose for a gradient.

    Args:
      forth, back: the function and its transpose; both keep the dtype.
      value: its argument.
      shape: of its result.
    """
    before = value.shape

    @tf.custom_gradient
    def op(value: tf.Tensor) -> tf.Tensor:
        return outside(forth, value, shape), lambda signal: outside(back, signal, before)

    return op(value)


def weigh(value: tf.Tensor, matrices: Mapping[int, sparse.csr_matrix]) -> tf.Tensor:
    """Weighted sums along several axes at once.

    Args:
      value: what is summed.
      matrices: by axis, each row the weights of one sum along it.
    """
    before = list(value.shape)
    after = [matrices[i].shape[0] if i in matrices else size for i, size in enumerate(before)]
    split = max(matrices) + 1  # what lies behind the last of the axes moves as one
    width = math.prod(before[split:])
    along = (matrices.get(i, sparse.identity(size)) for i, size in enumerate(before[:split]))
    matrix = functools.reduce(sparse.kron, along).tocsr()
    transpose = matrix.T.tocsr()

    def forth(value: np.ndarray) -> np.ndarray:
        own = matrix.astype(value.dtype, copy=False)
        return (own @ value.reshape(-1, width)).reshape(after)

    def back(signal: np.ndarray) -> np.ndarray:
        own = transpose.astype(signal.dtype, copy=False)
        return (own @ signal.reshape(-1, width)).reshape(before)

    return linear(forth, back, value, after)


def take(value: tf.Tensor, index: Mapping[int, np.ndarray]) -> tf.Tensor:
    """`tf.gather` along several axes at once, whose gradient in TensorFlow is a slow scatter.

    Args:
      value: what is taken from.
      index: by axis, what to take along it.
    """
    before = list(value.shape)
    after = [len(index[i]) if i in index else size for i, size in enumerate(before)]
    split = max(index) + 1  # what lies behind the last of the axes moves as one
    rows, width = math.prod(before[:split]), math.prod(before[split:])
    along = (index.get(i, np.arange(size)) for i, size in enumerate(before[:split]))
    taken_rows = np.ravel_multi_index(np.ix_(*along), before[:split]).ravel()
    places = (taken_rows, np.arange(taken_rows.size))
    sums = sparse.csr_matrix((np.ones(taken_rows.size), places), (rows, taken_rows.size))

    def forth(value: np.ndarray) -> np.ndarray:
        return value.reshape(rows, width).take(taken_rows, 0).reshape(after)

    def back(signal: np.ndarray) -> np.ndarray:
        total = sums.astype(signal.dtype, copy=False) @ signal.reshape(-1, width)
        return total.reshape(before)

    return linear(forth, back, value, after)
