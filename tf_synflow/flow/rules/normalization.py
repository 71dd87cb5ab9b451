"""Normalizations: the factors γ and the additive β stay, dividing by the data does not."""

from typing import Any

import tensorflow as tf

from tf_synflow.flow.rules.registry import by_class, flow_rule, rule_of
from tf_synflow.flow.tensor import FlowTensor
from tf_synflow.flow.theta import Theta


@flow_rule("BatchNormalization")
@by_class
def batch_normalization(layer: Any, theta: Theta, x: FlowTensor) -> FlowTensor:
    """|γ|·(x − |μ|)/√(|σ²| + ε) + |β|: the reference takes the moving mean's absolute value too."""
    factor = tf.math.rsqrt(theta.moving_variance + layer.epsilon)
    factor = factor if theta.gamma is None else factor * theta.gamma
    shifts = [] if theta.moving_mean is None else [-theta.moving_mean * factor]
    shifts += [] if theta.beta is None else [theta.beta]
    x = x.full(_axes(layer.axis))
    along_axis = _along_axis(factor, layer.axis, x)
    # Not brought near one again: the next product does that, and a pass over all values is saved.
    x = x.moved(lambda value: value * along_axis, _others(layer.axis, x))
    return x.plus(_along_axis(tf.add_n(shifts), layer.axis, x)) if shifts else x


@flow_rule("LayerNormalization", "GroupNormalization", "RMSNormalization")
@by_class
def normalization(layer: Any, theta: Theta, x: FlowTensor) -> FlowTensor:
    """|γ|·x + |β|: dividing by the input's own deviation would make the flow constant."""
    gamma, beta = theta.first("gamma", "scale"), theta.beta
    x = x.full(_axes(layer.axis))
    if gamma is not None:
        factor = _along_axis(gamma, layer.axis, x)
        x = x.linear(lambda value: value * factor, _others(layer.axis, x))
    return x if beta is None else x.plus(_along_axis(beta, layer.axis, x))


@flow_rule("SpectralNormalization")
def spectral_normalization(layer: Any, theta: Theta, x: FlowTensor) -> FlowTensor:
    """The layer inside: its kernel is divided by one number in training, and not at inference."""
    return rule_of(layer.layer)(layer.layer, theta.of(layer.layer), x)


def _axes(axis: Any) -> list[int]:
    return list(axis) if isinstance(axis, list | tuple) else [axis]


def _others(axis: Any, x: FlowTensor) -> list[int]:
    """The axes along which a normalization does the same at each position."""
    axes = [a % len(x.shape) for a in _axes(axis)]
    return [i for i in x.axes if i not in axes]


def _along_axis(value: tf.Tensor, axis: Any, x: FlowTensor) -> tf.Tensor:
    """A normalization's parameter, shaped so that it broadcasts along the axes it belongs to."""
    rank = len(x.shape)
    axes = [a % rank for a in _axes(axis)]
    return tf.reshape(value, [x.shape[i] if i in axes else 1 for i in range(rank)])
