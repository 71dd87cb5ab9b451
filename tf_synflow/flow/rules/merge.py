"""Joins of branches: flows add up. A product of branches is a gate.

A gate (squeeze-and-excitation, x · sigmoid(x), attention) multiplies two flows. Taken literally it
has degree two: flow doubles at each gate in the exponent and leaves float64 within MobileNetV3.
docs/gates.md compares what can be done instead; what is done is in `tensor.product`.
"""

from typing import Any

import tensorflow as tf

from tf_synflow.flow import tensor
from tf_synflow.flow.rules.registry import by_class, flow_rule
from tf_synflow.flow.tensor import FlowTensor
from tf_synflow.flow.theta import Theta


@flow_rule("Add", "Subtract")
@by_class
def add(layer: Any, theta: Theta, xs: list[FlowTensor]) -> FlowTensor:
    """The sum; in a difference the sign is one more weight, of absolute value one."""
    return tensor.add(xs)


@flow_rule("CustomScaleLayer")
@by_class
def scaled_residual(layer: Any, theta: Theta, xs: list[FlowTensor]) -> FlowTensor:
    """Shortcut + scale·branch, of the Inception-ResNets of keras.applications."""
    shortcut, branch = xs
    scaled = branch.linear(lambda value: value * abs(layer.scale), branch.axes)
    return tensor.add([shortcut, scaled])


@flow_rule("Average")
@by_class
def average(layer: Any, theta: Theta, xs: list[FlowTensor]) -> FlowTensor:
    total = tensor.add(xs)
    return total.linear(lambda value: value / len(xs), total.axes)


@flow_rule("Maximum", "Minimum")
@by_class
def extreme(layer: Any, theta: Theta, xs: list[FlowTensor]) -> FlowTensor:
    return tensor.combine(layer.call, xs)


@flow_rule("Concatenate")
@by_class
def join(layer: Any, theta: Theta, xs: list[FlowTensor]) -> FlowTensor:
    axis = layer.axis % len(xs[0].shape)
    others = [i for i in xs[0].axes if i != axis]
    return tensor.combine(layer.call, [x.full([axis]) for x in xs], others)


@flow_rule("Multiply")
@by_class
def multiply(layer: Any, theta: Theta, xs: list[FlowTensor]) -> FlowTensor:
    # Keras broadcasts a vector per example over the positions of a feature map.
    rank = max(len(x.shape) for x in xs)
    return tensor.product([_with_rank(x, rank) for x in xs])


@flow_rule("Dot")
def dot(layer: Any, theta: Theta, xs: list[FlowTensor]) -> FlowTensor:
    """The product of two branches summed along an axis; cosine's normalization is left out."""
    axes = layer.axes if isinstance(layer.axes, list | tuple) else [layer.axes] * 2
    a, b = (axis % len(x.shape) for axis, x in zip(axes, xs, strict=True))

    def op(values: Any) -> tf.Tensor:
        result = tf.tensordot(values[0][0], values[1][0], [[a - 1], [b - 1]])
        return tf.reshape(result, [1, *(result.shape or [1])])

    return tensor.product(xs, op)


def _with_rank(x: FlowTensor, rank: int) -> FlowTensor:
    missing = rank - len(x.shape)
    if not missing:
        return x
    x = x.full()
    return x.linear(lambda value: tf.reshape(value, [x.shape[0], *[1] * missing, *x.shape[1:]]))
