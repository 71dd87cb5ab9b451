"""Which rule belongs to which layer or op."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from tf_synflow import errors
from tf_synflow.flow.tensor import FlowTensor
from tf_synflow.flow.theta import Theta

Rule = Callable[..., Any]

# By class name for the layers of both Kerases, `ops.Name` for keras.ops in a functional graph,
# `tf.name` for TensorFlow ops in a tf_keras one; by class for layers of the user's own.
_RULES: dict[Any, Rule] = {}


def flow_rule(*keys: Any) -> Callable[[Rule], Rule]:
    """Registers the flow rule of one or more layer classes.

    A rule says what a layer does to the flow: it takes the layer, its weights as tensors |θ|, and
    one `FlowTensor` for each tensor that the layer is called with, and gives a `FlowTensor` (or a
    list of them, for several outputs). Flow is conserved by ops that are positively homogeneous
    of degree one, op(a·x) = a·op(x):

    - `x.linear(op)` applies one such op to the values,
    - `x.plus(constant)` adds a bias,
    - `tf_synflow.flow.tensor.add([x, y])` joins branches, `product([x, y])` is a gate,
    - an activation that bends is left out.

    Args:
      *keys: layer classes (or names of Keras' own). The last rule registered counts. A subclass
        takes its base's rule unless it has a `call` of its own.

    Example:
      >>> @tf_synflow.flow_rule(MyScale)
      ... def my_scale(layer, theta, x):
      ...     return x.linear(lambda value: value * theta.scale)

      A layer made of layers hands on to their rules:

      >>> from tf_synflow.flow import rules, tensor
      >>> @tf_synflow.flow_rule(Residual)
      ... def residual(layer, theta, x):
      ...     return tensor.add([x, rules.apply(layer.dense, theta, x)])
    """

    def register(rule: Rule) -> Rule:
        for key in keys:
            _RULES[key] = rule
        return rule

    return register


def by_class(rule: Rule) -> Rule:
    """Marks a rule that takes tensors with positions in classes; others get all positions.

    Such a rule does the same at every position, or says through which windows it looks. One that
    adds with weights, none below zero, says along which axes: `x.linear(op, alike=x.axes)`; what
    lies before it may then hold sums of positions that nothing behind it tells apart.
    """
    rule.by_class = True
    return rule


def rule_of(layer: Any) -> Rule:
    """The flow rule of a layer or op.

    A subclass takes its base's rule unless it brings a `call` of its own, which the base's rule
    cannot know.

    Raises:
      UnsupportedLayerError: there is none; says how to register one.
    """
    rule = find(layer)
    if rule is not None:
        return rule
    key = keys_of(layer)[0]
    raise errors.UnsupportedLayerError(
        f"layer {layer.name!r}: received {key!r}, which has no flow rule; expected a layer or op "
        "whose effect on the flow is known. Register one:\n"
        f"    @tf_synflow.flow_rule({key.__name__ if isinstance(key, type) else repr(key)})\n"
        "    def rule(layer, theta, x):\n"
        "        return x.linear(lambda value: ...)  # the layer with |theta| for its weights"
    )


def find(layer: Any) -> Rule | None:
    """The flow rule of a layer or op, or None."""
    return next((_RULES[key] for key in keys_of(layer) if key in _RULES), None)


def apply(layer: Any, theta: Theta, *inputs: Any, **keywords: Any) -> Any:
    """Applies the rule of a layer that is part of another one; an op on constants is itself."""
    if _op_key(layer) and not any(
        isinstance(x, FlowTensor) for x in tf.nest.flatten((inputs, keywords))
    ):
        return layer.call(*inputs, **keywords)
    rule = rule_of(layer)
    if not hasattr(rule, "by_class"):
        inputs, keywords = tf.nest.map_structure(_full, (inputs, keywords))
    output = rule(layer, theta.of(layer), *inputs, **keywords)
    theta.observe(layer, output)
    return output


def _full(value: Any) -> Any:
    return value.full() if isinstance(value, FlowTensor) else value


def flow_keywords(keywords: dict[str, Any]) -> dict[str, Any]:
    """The keyword arguments of a call that a rule takes: neither a mode nor a mask of the data."""
    return {
        name: value
        for name, value in keywords.items()
        if value is not None and name not in ("training", "mask", "name")
    }


def _op_key(layer: Any) -> str | None:
    """The key of an op in a functional graph; None for a layer."""
    if hasattr(layer, "symbol"):  # tf_keras' TFOpLambda: a TensorFlow function
        return f"tf.{layer.symbol.removeprefix('compat.v1.')}"
    if type(layer).__module__.startswith("keras.src.ops"):
        return f"ops.{type(layer).__name__}"
    return None


def keys_of(layer: Any) -> list[Any]:
    """What rules for a layer or op may be registered by, its own class first."""
    op = _op_key(layer)
    if op is not None:
        return [op]
    keys: list[Any] = []
    for base in type(layer).__mro__:
        keys.append(base)
        if base.__module__.split(".")[0] in ("keras", "tf_keras"):
            keys.append(base.__name__)
        if "call" in vars(base):
            break
    return keys
