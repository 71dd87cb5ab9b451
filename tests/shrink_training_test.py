"""A shrunk pruned model trains as the masked one does, step by step."""

import keras
import numpy as np
import pytest
import shrink_models
import small_models
import tf_keras

import tf_synflow

STEPS = 20


def _batch(model, count=16):
    random = np.random.RandomState(1)
    shape = (count, *model.inputs[0].shape[1:])
    if "int" in str(model.inputs[0].dtype):
        return random.randint(0, 20, shape), random.randint(0, 3, count)
    return random.standard_normal(shape).astype("float32"), random.randint(0, 3, count)


def _pruned(model):
    masks = shrink_models.starved_masks(model)  # which leave a path; to look for it takes time
    return tf_synflow.apply_masks(model, masks, allow_collapse=True)


def _losses(k, model, optimizer, steps=STEPS):
    loss = k.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, run_eagerly=True)  # tracing takes longer than these steps
    images, labels = _batch(model)
    return [float(np.ravel(model.train_on_batch(images, labels))[0]) for _ in range(steps)]


def _optimizer(k, name):
    sgd = {"learning_rate": 0.02, "momentum": 0.9, "nesterov": True, "global_clipnorm": 1.0}
    return k.optimizers.SGD(**sgd) if name == "sgd" else k.optimizers.Adam(0.003)


# Keras leaves grouped convolutions to XLA, which takes minutes to compile their gradients.
KINDS = [
    pytest.param(kind, "sgd", marks=[pytest.mark.slow] if kind == "resnext" else [])
    for kind in shrink_models.MODELS
]


@pytest.mark.parametrize("kind, optimizer", [*KINDS, ("resnet", "adam")])
@pytest.mark.parametrize("k", small_models.KERASES)
def test_the_losses_are_those_of_the_masked_model(k, kind, optimizer):
    model = shrink_models.MODELS[kind](k)
    pruned = _pruned(model)
    small = tf_synflow.shrink(pruned, verbose=False)
    report = tf_synflow.shrink_report(pruned, small)
    assert report.weights_after < 0.95 * report.weights_before
    expected = _losses(k, pruned, _optimizer(k, optimizer))
    assert np.ptp(expected) > 1e-3, "it does not learn, so this would show nothing"
    received = _losses(k, small, _optimizer(k, optimizer))
    np.testing.assert_allclose(received, expected, rtol=1e-5)
    images, _ = _batch(model)
    outputs = [np.asarray(one(images, training=False)) for one in (pruned, small)]
    np.testing.assert_allclose(outputs[1], outputs[0], atol=1e-4 * np.abs(outputs[0]).max())


@pytest.mark.parametrize("k", small_models.KERASES)
def test_in_float64_there_is_nothing_but_rounding(k):
    with small_models.policy(k, "float64"):
        model = shrink_models.resnet(k)
        pruned = _pruned(model)
        small = tf_synflow.shrink(pruned, verbose=False)
        for one in (pruned, small):
            _losses(k, one, k.optimizers.SGD(0.1, momentum=0.9))
        images, _ = _batch(model)
        outputs = [np.asarray(one(images, training=False)) for one in (pruned, small)]
    assert outputs[0].dtype == np.float64
    np.testing.assert_allclose(outputs[1], outputs[0], rtol=1e-10, atol=1e-12)


def test_through_a_traced_fit_and_xla():
    model = shrink_models.vgg(keras)
    pruned = _pruned(model)
    small = tf_synflow.shrink(pruned, verbose=False)
    images, labels = _batch(model)
    losses = []
    for one in (pruned, small):
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        one.compile(keras.optimizers.AdamW(0.003), loss, jit_compile=True)
        history = one.fit(images, labels, batch_size=8, epochs=4, shuffle=False, verbose=0)
        losses.append(history.history["loss"])
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-5)
    assert small_models.masked_and_not_zero(small, tf_synflow.masks_of(small)) == 0


def test_widths_that_are_filled_up_do_not_change_the_training():
    model = shrink_models.vgg(tf_keras)
    pruned = _pruned(model)
    small = tf_synflow.shrink(pruned, verbose=False)
    filled = tf_synflow.shrink(pruned, multiple_of=4, verbose=False)
    widths = {row.name: row.units_after for row in tf_synflow.shrink_report(pruned, filled).rows}
    smallest = {row.name: row.units_after for row in tf_synflow.shrink_report(pruned, small).rows}
    assert widths != smallest
    for name in ("conv0", "conv1", "hidden"):
        assert widths[name] % 4 == 0 and 0 <= widths[name] - smallest[name] < 4
    sgd = [_losses(tf_keras, one, _optimizer(tf_keras, "sgd")) for one in (pruned, filled)]
    np.testing.assert_allclose(sgd[1], sgd[0], rtol=1e-5)


def test_a_trained_constant_stays():
    """A unit that no weight leads to, but a bias, which training moves."""
    masks = {"d0/kernel": np.ones((16, 12), bool)}
    masks["d0/kernel"][:, :5] = False
    for left, options in (
        (12, {}),
        (7, {"use_bias": False}),
        (12, {"use_bias": False, "activation": "sigmoid"}),  # 1/2 at zero
    ):
        model = small_models.mlp(tf_keras, **options)
        small = tf_synflow.shrink(tf_synflow.apply_masks(model, masks), verbose=False)
        assert tf_synflow.shrink_report(model, small).rows[0].units_after == left, options


def test_a_weight_that_is_zero_but_not_masked_counts():
    model = small_models.mlp(keras, use_bias=False)
    model.get_layer("d1").kernel.assign(np.zeros((12, 8)))
    masks = {"d0/kernel": np.ones((16, 12), bool)}
    masks["d0/kernel"][:, 0] = False
    pruned = tf_synflow.apply_masks(model, masks, allow_collapse=True)
    small = tf_synflow.shrink(pruned, verbose=False)
    assert [small.get_layer(name).units for name in ("d0", "d1", "d2")] == [11, 8, 4]


@pytest.mark.parametrize(
    "arguments", [{"kernel_constraint": "unit_norm"}, {"activity_regularizer": "l2"}]
)
def test_units_that_feel_each_other_stay(arguments):
    stack = [keras.Input((6,)), keras.layers.Dense(8, use_bias=False, name="hidden", **arguments)]
    model = keras.Sequential([*stack, keras.layers.Dense(3, name="head")])
    mask = np.ones((8, 3), bool)
    mask[:4] = False
    pruned = tf_synflow.apply_masks(model, {"head/kernel": mask})
    assert tf_synflow.shrink(pruned, verbose=False).get_layer("hidden").units == 8
    stripped = tf_synflow.strip_pruning(pruned)
    assert tf_synflow.shrink(stripped, verbose=False).get_layer("hidden").units == 4


def test_a_residual_branch_that_is_zero_for_ever_is_gone():
    layers = tf_keras.layers
    inputs = tf_keras.Input((6, 6, 4))
    y = layers.Conv2D(5, 3, padding="same", name="into")(inputs)
    y = layers.Conv2D(4, 3, padding="same", use_bias=False, name="out_of")(layers.ReLU()(y))
    x = layers.Flatten()(layers.Add(name="add")([inputs, y]))
    model = tf_keras.Model(inputs, layers.Dense(3, name="head")(x))
    pruned = tf_synflow.apply_masks(model, {"out_of/kernel": np.zeros((3, 3, 5, 4), bool)})
    small = tf_synflow.shrink(pruned, verbose=False)
    assert tf_synflow.shrink_report(pruned, small).gone == ["into", "out_of"]
    assert [type(layer).__name__ for layer in small.layers] == ["InputLayer", "Flatten", "Dense"]
