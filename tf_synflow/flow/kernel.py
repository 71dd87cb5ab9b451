"""A kernel in the graph of a scoring whose matrix is kept, and multiplied, outside the graph."""

import dataclasses
import weakref
from typing import Protocol

import numpy as np
import tensorflow as tf

from tf_synflow.flow.outside import linear, outside
from tf_synflow.flow.windows import Windows, times


class Matrix(Protocol):
    """A kernel as a matrix, its last axis the outputs, all others the inputs."""

    shape: tuple[int, ...]

    def times(self, rows: np.ndarray, windows: Windows | None) -> np.ndarray:
        """Rows (n, inputs), or the patches under windows over a feature map, times the matrix."""

    def times_transposed(
        self, rows: np.ndarray, windows: Windows | None, channels: int
    ) -> np.ndarray:
        """Rows (n, outputs) times the matrix with its axes exchanged.

        Under windows, patches are summed back to a feature map of so many channels.
        """

    def dense(self) -> np.ndarray:
        """All of it, in the kernel's shape."""


@dataclasses.dataclass(frozen=True)
class Product:
    """One product of a kernel.

    Attributes:
      rows: what it was multiplied with, of shape (..., inputs), or what windows were laid over.
      windows: None for the rows as they are.
      output: of shape (..., outputs).
    """

    rows: tf.Tensor
    windows: Windows | None
    output: tf.Tensor


class NoKernel:
    """A kernel without values, in a graph that is recorded and never computed."""

    def __init__(self, shape: tuple[int, ...], dtype: tf.DType):
        self._shape, self._dtype = shape, dtype

    def dense(self) -> tf.Tensor:
        return tf.compat.v1.placeholder(self._dtype, self._shape)

    def times(self, rows: tf.Tensor, windows: Windows | None = None) -> tf.Tensor:
        before = windows.shape if windows else rows.shape[:-1]
        return tf.compat.v1.placeholder(self._dtype, [*before, self._shape[-1]])


class MatrixKernel:
    """A `theta.Kernel` that remembers what it was multiplied with.

    Args:
      matrix: gives the matrix of the moment; whoever runs the graph keeps it.
      one: a scalar that the graph is fed: what depends on nothing fed would be computed once.
      tape: watches the dense tensor, if a rule asks for it.

    Attributes:
      products: in the order they were made.
      tensor: the dense tensor, None if no rule asked for it.
    """

    def __init__(self, matrix: Matrix, one: tf.Tensor, tape: tf.GradientTape):
        # Weakly, for TensorFlow never forgets a function outside a graph, nor a custom gradient.
        self._matrix = weakref.proxy(matrix)
        self._one, self._tape = one, tape
        self.products: list[Product] = []
        self.tensor: tf.Tensor | None = None

    def dense(self) -> tf.Tensor:
        if self.tensor is None:

            def dense(one: np.ndarray) -> np.ndarray:
                return self._matrix.dense().astype(one.dtype, copy=False)

            with self._one.graph.as_default():  # and not in the body of a loop
                self.tensor = outside(dense, self._one, self._matrix.shape)
                self._tape.watch(self.tensor)
        return self.tensor

    def times(self, rows: tf.Tensor, windows: Windows | None = None) -> tf.Tensor:
        if tf.compat.v1.get_default_graph() is not self._one.graph:
            return times(rows, self.dense(), windows)  # what is in the body of a loop stays there
        before = rows.shape
        after = [*(windows.shape if windows else before[:-1]), self._matrix.shape[-1]]

        def forth(rows: np.ndarray) -> np.ndarray:
            return self._matrix.times(rows.reshape(-1, before[-1]), windows).reshape(after)

        def back(signal: np.ndarray) -> np.ndarray:
            signal = signal.reshape(-1, after[-1])
            return self._matrix.times_transposed(signal, windows, before[-1]).reshape(before)

        output = linear(forth, back, rows, after)
        self.products.append(Product(rows, windows, output))
        return output
