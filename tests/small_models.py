"""Small seeded models for either Keras, and what tests ask of them."""

import contextlib

import keras
import numpy as np
import pytest
import tf_keras

import tf_synflow
from tf_synflow.flow.weights import all_weights

KERASES = [pytest.param(tf_keras, id="tf_keras"), pytest.param(keras, id="keras3")]


def randomise(model, seed=0):
    """Draws every weight anew, with negative γ and random statistics; returns the model."""
    random = np.random.RandomState(seed)
    draw = {
        "gamma": lambda shape: 1 + 0.5 * random.standard_normal(shape),
        "beta": lambda shape: 0.2 * random.standard_normal(shape),
        "moving_mean": lambda shape: 0.2 * random.standard_normal(shape),
        "moving_variance": lambda shape: 0.5 + random.random_sample(shape),
        "bias": lambda shape: 0.1 * random.standard_normal(shape),
    }
    for weight in model.weights:
        name = weight.name.split("/")[-1].split(":")[0]
        if "float" in str(weight.dtype):
            weight.assign(draw.get(name, lambda s: random.standard_normal(s) / 4)(weight.shape))
    return model


def mlp(k, *, seed=0, units=(12, 8, 4), use_bias=True, activation="relu", head=None):
    """Dense layers d0, d1, ... on 16 inputs."""
    inputs = x = k.Input((16,))
    for i, n in enumerate(units):
        last = i == len(units) - 1
        x = k.layers.Dense(n, head if last else activation, use_bias=use_bias, name=f"d{i}")(x)
    return randomise(k.Model(inputs, x), seed)


def residual(k, *, seed=0, head=None):
    """conv-BN-ReLU, a residual block with a projection, pooling, dense; 6×6×3 input."""
    layers = k.layers
    inputs = k.Input((6, 6, 3))
    x = layers.Conv2D(4, 3, padding="same", use_bias=False, name="stem")(inputs)
    x = layers.ReLU()(layers.BatchNormalization(name="stem_bn")(x))
    y = layers.Conv2D(6, 3, strides=2, padding="same", use_bias=False, name="conv1")(x)
    y = layers.ReLU()(layers.BatchNormalization(name="bn1")(y))
    y = layers.Conv2D(6, 3, padding="same", use_bias=False, name="conv2")(y)
    y = layers.BatchNormalization(name="bn2")(y)
    x = layers.Conv2D(6, 1, strides=2, use_bias=False, name="shortcut")(x)
    x = layers.ReLU()(layers.Add()([x, y]))
    x = layers.GlobalAveragePooling2D()(x)
    return randomise(k.Model(inputs, layers.Dense(3, head, name="head")(x)), seed)


def zoo(k, *, seed=0):
    """Every kind of kernel under a wrapper: plain, depthwise, separable, nested and shared."""
    layers = k.layers
    inputs = k.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, use_bias=False, name="conv")(inputs)
    x = layers.ReLU()(layers.BatchNormalization(name="bn")(x))
    x = layers.DepthwiseConv2D(3, padding="same", name="depthwise")(x)
    x = layers.SeparableConv2D(4, 3, padding="same", name="separable")(x)
    inner = k.Sequential(
        [k.Input((6, 6, 4)), layers.Conv2D(4, 3, padding="same", name="twice"), layers.ReLU()],
        name="inner",
    )
    x = layers.Add()([inner(x), inner(layers.ReLU()(x))])
    x = layers.GlobalAveragePooling2D()(x)
    # A head in float32, as mixed precision asks for.
    x = layers.Dense(3, activation="softmax", name="head", dtype="float32")(x)
    return randomise(k.Model(inputs, x), seed)


def images(model, count=32, seed=1):
    """Random inputs and labels of three classes for a model."""
    random = np.random.RandomState(seed)
    shape = (count, *model.inputs[0].shape[1:])
    return random.random_sample(shape).astype("float32"), random.randint(0, 3, count)


def state(model):
    """A copy of everything a model holds, bit by bit."""
    return [np.array(weight.numpy()).tobytes() for weight in model.weights]


def masked_and_not_zero(pruned, masks):
    """How many removed weights of a model are not exactly zero."""
    found = all_weights(pruned)
    return sum(
        int(np.count_nonzero(found[name].variable.numpy()[~mask])) for name, mask in masks.items()
    )


class BoundOnce(tf_synflow.scores.SynFlow):
    """SynFlow that traces one network for many runs; tracing a deep one takes seconds."""

    function = None

    def bind(self, network):
        self.function = self.function or super().bind(network)
        return self.function


@contextlib.contextmanager
def policy(k, name):
    """A global dtype policy for a while."""
    set_policy = getattr(k.mixed_precision, "set_global_policy", None) or k.config.set_dtype_policy
    set_policy(name)
    try:
        yield
    finally:
        set_policy("float32")
