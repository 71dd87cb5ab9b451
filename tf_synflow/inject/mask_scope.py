"""What a Keras 3 layer computes from, and what is assigned to it: weight · mask."""

import contextlib
import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tf_synflow import compat
from tf_synflow.inject import fitting

_keras = compat.keras()
# TensorFlow has the graphs of loops and conditions under no public name.
_BRANCHES = ("WhileBodyFuncGraph", "WhileCondFuncGraph", "CondBranchFuncGraph")


def mask_calls(layer: Any, masked: Sequence[tuple[Any, tf.Variable]]) -> None:
    """Has a layer compute from weight · mask, for pairs of a variable and its mask."""
    call = layer.call

    @functools.wraps(call)
    def masked_call(*args: Any, **kwargs: Any) -> Any:
        if fitting.is_in_step():
            return call(*args, **kwargs)
        with MaskScope(masked) as scope:
            outputs = call(*args, **kwargs)
        for loss in scope.losses:
            layer.add_loss(loss)
        return outputs

    layer.call = masked_call


def mask_assignments(variable: Any, mask: tf.Variable) -> None:
    """Has a Keras variable keep zeros where the mask removes, whatever Keras assigns."""
    assign = variable.assign

    def masked_assign(value: Any) -> Any:
        if value is variable and fitting.is_in_step():
            return None  # nothing has moved it from zero
        if tuple(np.shape(value)) != tuple(variable.shape):
            return assign(value)  # which says what is wrong
        return assign(_where(mask, value))

    variable.assign = masked_assign
    if variable.regularizer is not None:
        variable.regularizer = _MaskedRegularizer(variable.regularizer, mask)
    if variable.constraint is None and not tf.distribute.has_strategy():
        # For optimizers that are not element-wise, as Muon. Assigning fails on a worker of several.
        variable.constraint = _Unchanged()
    if variable._value is not None:
        with tf.init_scope():  # also while shapes are inferred, when Keras assigns nothing
            variable._value.assign(_where(mask, variable._value))
    else:  # made while shapes are inferred, and to be initialized after
        initializer = variable._initializer
        variable._initializer = lambda *args, **kwargs: _where(mask, initializer(*args, **kwargs))


class MaskScope(_keras.StatelessScope):
    """Reads weight · mask for the given variables, and any other value as it is.

    Keras asks the innermost scope for the value of a variable. What is assigned goes through to
    the scope around, or to the variable: statistics and random seeds advance as ever.

    Args:
      masked: pairs of a Keras variable and a bool `tf.Variable`.
    """

    def __init__(self, masked: Sequence[tuple[Any, tf.Variable]]):
        super().__init__(collect_losses=True, initialize_variables=False)
        self.variables = [variable for variable, _ in masked]
        self.masks = {id(variable): mask for variable, mask in masked}
        self.products: dict[tuple[int, Any], Any] = {}

    def __enter__(self) -> "MaskScope":
        super().__enter__()
        # Before any loop that the layer may run: a product for each step would be kept for the
        # gradient.
        for variable in self.variables:
            self.get_current_value(variable)
        return self

    def get_current_value(self, variable: Any) -> Any:
        mask, around, function = self.masks.get(id(variable)), self.original_scope, _function()
        if mask is None:
            return self._outer_value(variable)
        key = id(variable), function
        if key in self.products:
            return self.products[key]
        if isinstance(around, MaskScope) and id(variable) in around.masks:
            return around.get_current_value(variable)
        # A tf.function within the layer has a product of its own: it would keep this one as it is.
        with contextlib.nullcontext() if function is None else function.as_default():
            product = _where(mask, self._outer_value(variable))
        if product is not None:
            self.products[key] = product
        return product

    def add_update(self, update: tuple[Any, Any]) -> None:
        variable, value = update
        super().__exit__()
        try:
            variable.assign(value)
        finally:
            super().__enter__()
        if id(variable) in self.masks:
            self.products[id(variable), _function()] = value

    def _outer_value(self, variable: Any) -> Any:
        outer = self.original_scope
        value = None if outer is None else outer.get_current_value(variable)
        # The public `value` is cast to the precision of the layer that asks; one inside may
        # compute in another.
        return variable._value if value is None else value


class _MaskedRegularizer(_keras.regularizers.Regularizer):
    """A penalty on weight · mask: one that is not element-wise would draw on removed weights."""

    def __init__(self, regularizer: Any, mask: tf.Variable):
        self.regularizer, self.mask = regularizer, mask

    def __call__(self, value: Any) -> Any:
        return self.regularizer(_where(self.mask, value))


class _Unchanged(_keras.constraints.Constraint):
    """None, but an optimizer assigns what has a constraint, and assigning is what masks."""

    def __call__(self, value: Any) -> Any:
        return value


def _function() -> tf.Graph | None:
    """The graph of the `tf.function` that is being traced, not that of a loop in it; None: none."""
    if tf.executing_eagerly():
        return None
    graph = tf.compat.v1.get_default_graph()
    while type(graph).__name__ in _BRANCHES and graph.outer_graph is not None:
        graph = graph.outer_graph
    return graph


def _where(mask: tf.Variable, value: Any) -> Any:
    if value is None:  # a variable that is not initialized yet, while shapes are inferred
        return None
    return fitting.kept(mask, _keras.ops.convert_to_tensor(value))
