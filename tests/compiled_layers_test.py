"""Layers whose call is a tf.function of their own: traced once, and called ever after."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from small_models import randomise

import tf_synflow
from tf_synflow import errors

MASKS = {"compiled/kernel": np.arange(48).reshape(6, 8) % 3 > 0}


def compiled_model(k):
    class Compiled(k.layers.Layer):
        """A matrix product."""

        def build(self, shape):
            self.kernel = self.add_weight(name="kernel", shape=(shape[-1], 8))

        @tf.function
        def call(self, x):
            return tf.matmul(x, self.kernel)

    return randomise(
        k.Sequential([k.Input((6,)), Compiled(name="compiled"), k.layers.Dense(3, name="head")])
    )


@pytest.fixture
def images():
    return np.random.RandomState(0).standard_normal((32, 6)).astype(np.float32)


def pruned_of(model):
    return tf_synflow.apply_masks(model, MASKS, allow_collapse=True)


@pytest.mark.parametrize("compiled", [False, True])
def test_it_computes_from_the_weights_of_now(compiled, images):
    model = compiled_model(keras)
    pruned = pruned_of(model)
    kernel, head = np.asarray(model.get_layer("compiled").kernel), model.get_layer("head")
    call = tf.function(pruned) if compiled else pruned
    for factor in (1, 3, -1):
        pruned.get_layer("compiled").kernel.assign(factor * kernel)
        expected = images @ (factor * kernel * MASKS["compiled/kernel"])
        expected = expected @ np.asarray(head.kernel) + np.asarray(head.bias)
        for found in (call(images), pruned.predict(images, verbose=0)):
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_it_trains_and_what_is_removed_stays_so(images):
    pruned = pruned_of(compiled_model(keras))
    kernel, mask = pruned.get_layer("compiled").kernel, MASKS["compiled/kernel"]
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(pruned(images) ** 2)
    gradient = tape.gradient(loss, kernel.value).numpy()
    assert (gradient[mask] != 0).all() and not gradient[~mask].any()
    before = kernel.numpy()
    pruned.compile("adam", "mse")
    pruned.fit(images, np.ones((32, 3)), verbose=0)
    assert (kernel.numpy()[mask] != before[mask]).all() and not kernel.numpy()[~mask].any()


def test_under_tfmot_it_is_refused():
    with pytest.raises(errors.UnsupportedLayerError, match="'compiled': its call is a tf.function"):
        pruned_of(compiled_model(tf_keras))
