"""What tests measure of a network's flow: R, and the part of it that each weight carries."""

import contextlib

import numpy as np
import tensorflow as tf
from small_models import randomise

from tf_synflow.flow.network import Network
from tf_synflow.flow.rules import registry

NO_BIAS = {"use_bias": False}


def without_additive_terms(model, seed=0):
    """Random weights, but additive terms (biases, β, moving means) of zero."""
    randomise(model, seed)
    for weight in model.weights:
        own = getattr(weight, "path", weight.name).split("/")[-1].split(":")[0]
        if own in ("bias", "beta", "moving_mean"):
            weight.assign(np.zeros(weight.shape))
    return model


def flow_and_sums(model, prunable=None, input_shape=None, traced=False):
    """R, and the sum of θ ⊙ ∂R/∂θ for each prunable weight.

    Op by op unless it is traced as SynFlow itself is, which takes eight times as long.
    """
    network = Network(model, prunable, input_shape)
    theta = {name: tf.constant(np.abs(value)) for name, value in network.values().items()}
    kernels = {name: theta[name] for name in network.prunable}

    def run():
        with tf.GradientTape() as tape:
            tape.watch(kernels)
            flow = network(theta)
        gradients = tape.gradient(flow.value, kernels, unconnected_gradients="zero")
        sums = {name: tf.reduce_sum(kernels[name] * gradients[name]) for name in kernels}
        return flow.value, flow.log2_scale, sums

    run = tf.function(run, autograph=False) if traced else run
    value, log2_scale, sums = run()
    scale = 2.0 ** float(log2_scale)
    return float(value) * scale, {name: float(total) * scale for name, total in sums.items()}


@contextlib.contextmanager
def registered(*keys):
    """Takes what a test registers out of the registry again."""
    before = dict(registry._RULES)
    try:
        yield
    finally:
        registry._RULES.clear()
        registry._RULES.update(before)
