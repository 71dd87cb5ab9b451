"""Activations of Keras 3 that tf_keras lacks, or means something else by."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from tf_synflow import compat

_keras = compat.tf_keras()
_BY_NAME: dict[str, Callable[[Any], Any]] = {}


def of(name: str) -> Callable[[Any], Any] | None:
    """What computes Keras 3's activation of this name in tf_keras; None where nothing does."""
    name = {"silu": "swish"}.get(name, name)
    return _BY_NAME.get(name) or getattr(_keras.activations, name, None)


def _activation(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    # Registered, so that a saved tf_keras model finds it by name.
    _BY_NAME[function.__name__] = function
    return _keras.utils.register_keras_serializable("tf_synflow")(function)


@_activation
def relu6(x: Any) -> Any:
    return tf.nn.relu6(x)


@_activation
def leaky_relu(x: Any, negative_slope: float = 0.2) -> Any:
    return tf.nn.leaky_relu(x, negative_slope)


@_activation
def hard_sigmoid(x: Any) -> Any:
    """relu6(x + 3) / 6; tf_keras' own has the slope 1/5."""
    return tf.nn.relu6(x + 3.0) / 6.0


@_activation
def hard_silu(x: Any) -> Any:
    return x * hard_sigmoid(x)


@_activation
def hard_tanh(x: Any) -> Any:
    return tf.clip_by_value(x, -1.0, 1.0)


@_activation
def celu(x: Any, alpha: float = 1.0) -> Any:
    return tf.maximum(x, 0.0) + alpha * tf.math.expm1(tf.minimum(x, 0.0) / alpha)


@_activation
def glu(x: Any, axis: int = -1) -> Any:
    value, gate = tf.split(x, 2, axis)
    return value * tf.sigmoid(gate)


@_activation
def hard_shrink(x: Any, threshold: float = 0.5) -> Any:
    return tf.where(tf.abs(x) > threshold, x, tf.zeros_like(x))


@_activation
def soft_shrink(x: Any, threshold: float = 0.5) -> Any:
    return tf.sign(x) * tf.nn.relu(tf.abs(x) - threshold)


@_activation
def tanh_shrink(x: Any) -> Any:
    return x - tf.tanh(x)


@_activation
def log_sigmoid(x: Any) -> Any:
    return tf.math.log_sigmoid(x)


@_activation
def log_softmax(x: Any, axis: int = -1) -> Any:
    return tf.nn.log_softmax(x, axis)


@_activation
def squareplus(x: Any, b: float = 4.0) -> Any:
    return (x + tf.sqrt(tf.square(x) + b)) / 2.0


@_activation
def sparse_plus(x: Any) -> Any:
    inside = tf.square(x + 1.0) / 4.0
    return tf.where(x <= -1.0, tf.zeros_like(x), tf.where(x < 1.0, inside, x))


@_activation
def sparse_sigmoid(x: Any) -> Any:
    return tf.clip_by_value((x + 1.0) / 2.0, 0.0, 1.0)
