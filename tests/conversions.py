"""A Keras 3 model that is converted to tf_keras, compared and brought back."""

import keras
import numpy as np
import tensorflow as tf
from small_models import randomise, state

from tf_synflow.flow.weights import all_weights
from tf_synflow.inject import convert

IMAGE, SEQUENCE, VOLUME = (8, 8, 4), (6, 4), (4, 4, 4, 2)


def built(shape, function, dtype="float32"):
    inputs = keras.Input(shape, dtype=dtype, name="inputs")
    return randomise(keras.Model(inputs, function(inputs), name="model"))


def outputs_of(model, values):
    return [np.asarray(x) for x in tf.nest.flatten(model(values, training=False))]


def check(model):
    """Converts, compares on other values than `to_tf_keras` did, and comes back."""
    before = state(model)
    converted = convert.to_tf_keras(model)
    assert state(model) == before
    assert {n: w.shape for n, w in all_weights(converted).items()} == {
        n: w.shape for n, w in all_weights(model).items()
    }
    random = np.random.RandomState(7)
    values = [
        random.random_sample((3, *t.shape[1:])).astype(t.dtype)
        if "float" in t.dtype
        else random.randint(0, 5, (3, *t.shape[1:]))
        for t in model.inputs
    ]
    values = values[0] if len(values) == 1 else values
    for one, other in zip(outputs_of(model, values), outputs_of(converted, values), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
    for weight in all_weights(converted).values():
        weight.variable.assign(weight.variable + 1.0)
    back = convert.to_keras3(converted, model)
    assert isinstance(back, type(model)) and back is not model
    expected = all_weights(converted)
    for name, weight in all_weights(back).items():
        np.testing.assert_array_equal(weight.variable.numpy(), expected[name].variable.numpy())
    return converted
