"""Activations, as layers and as arguments of layers: ReLU is itself, what bends is left out."""

from typing import Any

import tensorflow as tf

from tf_synflow import compat, errors
from tf_synflow.flow.rules.registry import apply, by_class, flow_rule
from tf_synflow.flow.tensor import FlowTensor
from tf_synflow.flow.theta import Theta

# The slope below zero.
_RECTIFIERS = {"relu": 0.0, "relu6": 0.0, "leaky_relu": 0.2}
_IDENTITY = frozenset(
    "celu elu exponential gelu glu hard_shrink hard_sigmoid hard_silu hard_swish hard_tanh linear "
    "log_sigmoid log_softmax mish selu sigmoid silu soft_shrink softmax softplus softsign "
    "sparse_plus sparse_sigmoid sparsemax squareplus swish tanh tanh_shrink threshold".split()
)


def activation(function: Any, theta: Theta, x: FlowTensor) -> FlowTensor:
    """The rule of a layer's `activation`."""
    if function is None:
        return x
    if compat.keras_of(function) is not None and not isinstance(function, type(activation)):
        return apply(function, theta, x)  # an activation layer given as an argument
    name = getattr(function, "__name__", type(function).__name__)
    if name in _RECTIFIERS:
        return x.rectified(_RECTIFIERS[name])
    if name in _IDENTITY:
        return x
    raise errors.UnsupportedLayerError(
        f"activation: received {name!r}, which has no flow rule; expected one of Keras' own. Use a "
        "layer of your own for it, and register that with @tf_synflow.flow_rule."
    )


@flow_rule("Activation")
@by_class
def activation_layer(layer: Any, theta: Theta, x: FlowTensor) -> FlowTensor:
    return activation(layer.activation, theta, x)


@flow_rule("ReLU", "LeakyReLU", "ops.Relu", "ops.Relu6", "ops.LeakyRelu")
@flow_rule("tf.nn.relu", "tf.nn.relu6")
@by_class
def relu(layer: Any, theta: Theta, x: FlowTensor, **keywords: Any) -> FlowTensor:
    """max(x, 0), or with the absolute slope below zero; a cap is left out (ReLU6 → ReLU)."""
    slope = getattr(layer, "negative_slope", getattr(layer, "alpha", None))
    return x.rectified(abs(float(slope or 0)))


@flow_rule("tf.nn.leaky_relu")
@by_class
def leaky_relu(
    layer: Any, theta: Theta, x: FlowTensor, alpha: float = 0.2, **keywords: Any
) -> FlowTensor:
    return x.rectified(abs(float(alpha)))


@flow_rule("PReLU")
def prelu(layer: Any, theta: Theta, x: FlowTensor) -> FlowTensor:
    return x.linear(lambda value: tf.nn.relu(value) - theta.alpha * tf.nn.relu(-value))


@flow_rule("ELU", "ThresholdedReLU", "Softmax", *(f"ops.{name}" for name in (
    "Celu Elu Gelu Glu HardShrink HardSigmoid HardSilu HardTanh LogSigmoid LogSoftmax Selu Sigmoid "
    "Silu SoftShrink Softmax Softplus Softsign SparsePlus SparseSigmoid Sparsemax Squareplus Tanh "
    "TanhShrink Threshold Clip Erf Exp Exp2 Expm1 Log Log10 Log1p Log2 Power Reciprocal Rsqrt Sin "
    "Cos Sqrt").split()), *(f"tf.{name}" for name in (
    "nn.elu nn.gelu nn.log_softmax nn.selu nn.silu nn.softmax nn.softsign "
    "math.erf math.exp math.log math.log1p math.pow math.reciprocal math.rsqrt math.sigmoid "
    "math.softplus math.sqrt math.tanh clip_by_value"
).split()))  # fmt: skip
@by_class
def left_out(layer: Any, theta: Theta, x: FlowTensor, *args: Any, **keywords: Any) -> FlowTensor:
    """The identity for a function of one tensor that is not homogeneous of degree one."""
    return x
