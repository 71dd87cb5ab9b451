"""|θ| as a rule sees it: the tensors that stand for a layer's variables."""

from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf

# Called with a layer and what its rule gave.
Observe = Callable[[Any, Any], None]


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
        by_variable: Mapping[int, tf.Tensor],
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
        return self._by_variable.get(id(variable))

    def first(self, *attributes: str) -> tf.Tensor | None:
        """The first of several attributes that is there: Kerases differ in names."""
        values = (getattr(self, attribute) for attribute in attributes)
        return next((value for value in values if value is not None), None)
