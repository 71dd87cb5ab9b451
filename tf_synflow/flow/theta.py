"""|θ| as a rule sees it: the tensors that stand for a layer's variables."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import tensorflow as tf

from tf_synflow.flow.windows import Windows, times

# Called with a layer and what its rule gave.
Observe = Callable[[Any, Any], None]


class Kernel(Protocol):
    """A |θ| that is known as a matrix and need not be there as a tensor."""

    def dense(self) -> tf.Tensor:
        """All of it, in the variable's shape."""

    def times(self, rows: tf.Tensor, windows: Windows | None = None) -> tf.Tensor:
        """What `Theta.product` says."""


class Theta:
    """The tensors that stand for a layer's variables, by the layer's own attribute names.

    `theta.kernel` is |layer.kernel|, masked, as a tensor of the scoring dtype; None where the
    layer has no such variable.

    Args:
      layer: a layer of either Keras.
      by_variable: the tensor for each variable of the model, by the variable's id.
      dtype: of the scoring.
      observe: called after each rule, those of layers inside this one too.
    """

    def __init__(
        self,
        layer: Any,
        by_variable: Mapping[int, tf.Tensor | Kernel],
        dtype: tf.DType,
        observe: Observe | None = None,
    ):
        self._layer = layer
        self._by_variable = by_variable
        self.dtype = dtype
        self.observe = observe or (lambda layer, output: None)

    def __getattr__(self, attribute: str) -> tf.Tensor | None:
        return self.value_of(getattr(self._layer, attribute, None))

    def of(self, layer: Any) -> "Theta":
        """The tensors of another layer, one inside this one as a rule."""
        return Theta(layer, self._by_variable, self.dtype, self.observe)

    def value_of(self, variable: Any) -> tf.Tensor | None:
        """The tensor that stands for a variable, None for what is none of the model's."""
        value = self._by_variable.get(id(variable))
        return value if value is None or tf.is_tensor(value) else value.dense()

    def product(
        self, rows: tf.Tensor, windows: Windows | None = None, attribute: str = "kernel"
    ) -> tf.Tensor:
        """Rows times a kernel as a matrix: its last axis the outputs, all others the inputs.

        A rule that says so, rather than take the kernel and multiply, lets a scorer leave out what
        is dead, and score a weight without the gradient of the whole kernel.

        Args:
          rows: of shape (..., inputs), or a feature map (*sizes, channels) under windows.
          windows: whose patches are the rows.
          attribute: the layer's name of the kernel.

        Returns:
          A tensor of shape (..., outputs), or (*windows.shape, outputs).
        """
        kernel = self._by_variable[id(getattr(self._layer, attribute))]
        if not tf.is_tensor(kernel):
            return kernel.times(rows, windows)
        return times(rows, kernel, windows)

    def first(self, *attributes: str) -> tf.Tensor | None:
        """The first of several attributes that is there: Kerases differ in names."""
        values = (getattr(self, attribute) for attribute in attributes)
        return next((value for value in values if value is not None), None)
