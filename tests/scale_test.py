"""Scale tracking: exact powers of two, equal to plain numbers, and finite where those are not."""

import contextlib

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from flow_sums import NO_BIAS, without_additive_terms
from small_models import BoundOnce, mlp, randomise, residual, zoo

import tf_synflow
from tf_synflow import errors, quantities
from tf_synflow.flow import tensor
from tf_synflow.flow.network import Network
from tf_synflow.train import models


@contextlib.contextmanager
def plain_numbers():
    """Without scale tracking: every value is the true one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tensor, "_power_of_two", tf.ones_like)
        patch.setattr(
            tensor,
            "_normalised",
            lambda value, scale, *state, **more: tensor.FlowTensor(
                value, scale * 0, *state, **more
            ),
        )
        yield


def scores(network, dtype="float64"):
    """True scores of all weights in one float64 vector, and log2 of what they lack."""
    network.check_values()
    full = {name: np.ones(shape, bool) for name, shape in network.prunable_shapes.items()}
    found = tf_synflow.scores.SynFlow(dtype).bind(network)(full)
    return np.concatenate([a.astype(np.float64).ravel() for a in found.values()]), found.log2_scale


def lstm(k):
    layers = k.layers
    inputs = k.Input((6,), dtype="int32")
    x = layers.Embedding(11, 5)(inputs)
    x = layers.Bidirectional(layers.LSTM(6, return_sequences=True))(x)
    return randomise(k.Model(inputs, layers.Dense(3)(layers.GRU(4)(x))))


def transformer(k):
    layers = k.layers
    inputs = k.Input((5, 6))
    x = inputs
    for _ in range(2):
        x = layers.Add()([x, layers.MultiHeadAttention(2, 3)(x, x)])
        x = layers.LayerNormalization()(x)
        y = layers.Dense(8, activation="gelu")(x)
        x = layers.LayerNormalization()(layers.Add()([x, layers.Dense(6)(y)]))
    return randomise(k.Model(inputs, layers.Dense(3)(layers.GlobalAveragePooling1D()(x))))


def gated(k):
    layers = k.layers
    inputs = k.Input((6, 6, 3))
    x = layers.BatchNormalization()(layers.Conv2D(4, 3, padding="same")(inputs))
    gate = layers.GlobalAveragePooling2D(keepdims=True)(x)
    x = layers.Multiply()([x, layers.Conv2D(4, 1, activation="sigmoid")(gate)])
    x = layers.Concatenate()([x, layers.ReLU(6.0)(x)])
    return randomise(k.Model(inputs, layers.Dense(3)(layers.Flatten()(x))))


FAMILIES = {
    "mlp": lambda: mlp(tf_keras),
    "residual": lambda: residual(keras),
    "zoo": lambda: zoo(tf_keras),
    "lstm": lambda: lstm(tf_keras),
    "transformer": lambda: transformer(keras),
    "gated": lambda: gated(keras),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_tracked_float64_is_plain_float64(name):
    network = Network(FAMILIES[name](), "*")
    tracked, lacking = scores(network)
    with plain_numbers():
        plain, none = scores(network)
    assert none == 0 and np.isfinite(plain).all() and np.count_nonzero(plain)
    np.testing.assert_allclose(tracked * 2.0**lacking, plain, rtol=1e-12, atol=0)


def resnet_without_projections(depth):
    """A CIFAR ResNet of keras, deep enough to leave float32."""
    layers = keras.layers
    x = inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(8, 3, padding="same", **NO_BIAS)(x)
    for _ in range((depth - 2) // 2):
        y = layers.Conv2D(8, 3, padding="same", **NO_BIAS)(x)
        y = layers.ReLU()(layers.BatchNormalization()(y))
        y = layers.BatchNormalization()(layers.Conv2D(8, 3, padding="same", **NO_BIAS)(y))
        x = layers.ReLU()(layers.Add()([x, y]))
    keras.utils.set_random_seed(0)
    model = keras.Model(inputs, layers.Dense(10)(layers.GlobalAveragePooling2D()(x)))
    random = np.random.RandomState(0)
    for weight in model.trainable_weights:
        if weight.name == "kernel":
            fan_in = np.prod(weight.shape[:-1])
            weight.assign(random.standard_normal(weight.shape) * np.sqrt(2 / fan_in))
    return model


def of_the_paper(name):
    return models.build(name, input_shape=(32, 32, 3), num_classes=10, keras=tf_keras)


DEEP = {
    "vgg11": lambda: of_the_paper("vgg11_bn"),
    "resnet20": lambda: of_the_paper("resnet20"),
    "resnet56": lambda: resnet_without_projections(56),
    "lstm": lambda: lstm(keras),
    "transformer": lambda: transformer(tf_keras),
}


@pytest.mark.parametrize("name", DEEP)
def test_tracked_float32_is_near_plain_float64(name):
    network = Network(DEEP[name]())
    with plain_numbers():
        exact, _ = scores(network)
        with np.errstate(invalid="ignore"):
            naive, _ = scores(network, "float32")
    assert np.isfinite(exact).all()
    if name == "resnet56":
        assert not (np.isfinite(naive).all() and naive.all())  # what the paper's code does
    found, lacking = scores(network, "float32")
    assert np.isfinite(found).all()
    with np.errstate(divide="ignore"):
        shift = 2.0 ** (lacking / 2)
    np.testing.assert_allclose(found * shift * shift, exact, rtol=1e-4, atol=0)
    count = len(exact) // 100 or 1
    top = [set(np.argpartition(-array, count)[:count]) for array in (found, exact)]
    assert len(top[0] & top[1]) >= 0.999 * count - (count < 1000)


# --- networks that no floating-point number holds -------------------------------------------------


def small_weights(depth, biases, factor, units=8):
    x = inputs = keras.Input((units,))
    for _ in range(depth):
        x = keras.layers.Dense(units, "relu")(x)
    model = without_additive_terms(keras.Model(inputs, x))
    random = np.random.RandomState(1)
    for weight in model.weights:
        scale = factor if weight.name == "kernel" else factor * biases
        weight.assign(random.standard_normal(weight.shape) * scale)
    return model


def test_100_layers_in_float32():
    """200 of them in float64 are in tests/network_test.py."""
    model = small_weights(100, biases=0, factor=1e-4)
    network, scorer = Network(model), BoundOnce("float32")
    found = tf_synflow.score(model, scorer)
    assert found.log2_scale < -1000
    assert all(np.isfinite(array).all() and array.all() for array in found.values())
    schedule = tf_synflow.SynFlowPruningSchedule(10, rounds=5)
    masks = tf_synflow.compute_masks(model, scorer=scorer, schedule=schedule)
    assert masks.kept == quantities.kept_count(network.size, 1 / 10)
    assert network.has_flow(masks)


def test_biases_behind_which_the_first_layers_count_nothing():
    """The last biases outweigh what 60 layers leave by 2^1000 and more: an error, never a mask."""
    with pytest.raises(errors.ScoreError, match="zeros throughout"):
        tf_synflow.score(small_weights(60, biases=1e-3, factor=1e-7))


# --- the powers of two ----------------------------------------------------------------------------

RANGES = {"float32": (-126, 127), "float64": (-1022, 1023)}


@pytest.mark.parametrize("dtype", RANGES)
def test_powers_of_two_are_exact(dtype):
    low, high = RANGES[dtype]
    exponents = np.arange(low, high + 1)
    expected = np.ldexp(np.ones_like(exponents, dtype), exponents)
    for function in (tensor._power_of_two, tf.function(tensor._power_of_two)):
        np.testing.assert_array_equal(function(tf.constant(exponents, dtype)), expected)
    one_by_one = [tensor._power_of_two(tf.constant(e, dtype)).numpy() for e in exponents[::16]]
    np.testing.assert_array_equal(one_by_one, expected[::16])


@pytest.mark.parametrize("dtype", RANGES)
def test_a_tensor_keeps_its_value_and_is_near_one(dtype):
    """The exponent may be off by one beside a power of two; the value is the same to the bit."""
    low, high = RANGES[dtype]
    powers = np.ldexp(np.ones(high - low - 1, dtype), np.arange(low + 1, high))
    for value in (powers, np.nextafter(powers, 0, dtype=dtype), np.nextafter(powers, np.inf)):
        for one in value.astype(dtype)[:: 5 if dtype == "float64" else 1]:
            x = tensor.FlowTensor.of(tf.constant([one, 0]))
            assert 0.99 < x.value[0] < 2.01
            assert np.ldexp(x.value[0].numpy(), int(x.log2_scale)) == one


@pytest.mark.parametrize("dtype", RANGES)
def test_zeros_take_the_others_scale(dtype):
    zeros = tensor.FlowTensor.of(tf.zeros([3], dtype))
    tiny = tensor.FlowTensor(tf.ones([3], dtype), tf.constant(-5000, dtype))
    total = tensor.add([zeros, tiny])
    np.testing.assert_array_equal(total.value, np.ones(3))
    assert total.log2_scale == -5000
    joined = tensor.combine(lambda values: tf.concat(values, 0), [tiny, zeros])
    np.testing.assert_array_equal(joined.value, [1, 1, 1, 0, 0, 0])
    both = tensor.add([zeros, zeros])
    assert not both.value.numpy().any() and np.isfinite(both.log2_scale)


@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_what_is_not_finite_stays(value):
    x = tensor.FlowTensor.of(tf.constant([1.0, value], tf.float64))
    assert not np.isfinite(x.value.numpy()).all()
