"""Masks on weights inside layers of layers: recurrent cells, attention, wrappers, custom layers."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from nested_models import CASES, FAST, LOSS, build, data, in_order, masks_for, not_zero, some
from small_models import masked_and_not_zero, policy, randomise, state

import tf_synflow
from tf_synflow import errors
from tf_synflow.flow.weights import all_weights
from tf_synflow.inject import tfmot

layers, optimizers = tf_keras.layers, tf_keras.optimizers


@pytest.fixture(scope="module", params=some(CASES))
def case(request):
    model = build(request.param)
    return request.param, model, masks_for(model)


class AfterEachBatch(tf_keras.callbacks.Callback):
    """Counts removed weights that are not zero, at the moments a user can look."""

    def __init__(self, pairs):
        super().__init__()
        self.pairs, self.looks, self.found = pairs, 0, 0

    def on_train_batch_end(self, batch, logs=None):
        self.looks += 1
        self.found += not_zero(self.pairs(self.model))


def test_injected_and_stripped(case):
    kind, model, masks = case
    before, pairs = state(model), in_order(model, masks)
    pruned = tfmot.inject(model, masks)
    assert state(model) == before
    assert any(name.startswith("layer/") for name in masks)
    for (value, mask), (original, _) in zip(pairs(pruned), pairs(model), strict=True):
        np.testing.assert_array_equal(value, original * mask)
    back = tfmot.masks_of(pruned)
    for one, other in zip(back.values(), masks.values(), strict=True):
        np.testing.assert_array_equal(one, other)
    if kind not in ("custom", "built late"):
        assert back == masks and list(back) == list(masks)
    stripped = tfmot.strip(pruned)
    assert type(stripped.get_layer("layer")) is type(model.get_layer("layer"))
    x, _ = data(16)
    outputs, plain = pruned(x), model(x)
    for one in (pruned, model):
        one.reset_states()
    np.testing.assert_allclose(stripped(x), outputs, rtol=1e-5, atol=1e-6)
    assert not np.allclose(outputs, plain, atol=1e-3)
    assert not_zero(pairs(stripped)) == 0


def test_removed_weights_draw_no_gradient(case):
    """The gradient is that of the plain model at the same weights, with zeros at the masks."""
    _, model, masks = case
    pruned = tfmot.inject(model, masks)
    stripped = tfmot.strip(pruned)
    x, y = data(16)

    def gradients(other):
        variables = [weight.variable for weight in all_weights(other).values()]
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf_keras.losses.sparse_categorical_crossentropy(y, other(x)))
        found = tape.gradient(loss, variables)
        other.reset_states()
        return [tf.convert_to_tensor(gradient).numpy() for gradient in found]

    wasted = 0.0
    for name, ours, dense in zip(
        all_weights(model), gradients(pruned), gradients(stripped), strict=True
    ):
        mask = masks.get(name, np.ones(dense.shape, bool))
        assert not ours[~mask].any()
        np.testing.assert_allclose(ours, dense * mask, rtol=1e-3, atol=1e-6, err_msg=name)
        wasted += np.square(dense[~mask]).sum()
    assert wasted > 0


def check_after_every_batch(case, optimizer):
    _, model, masks = case
    pairs = in_order(model, masks)
    pruned = tfmot.inject(model, masks)
    pruned.compile(optimizer, LOSS)
    watch = AfterEachBatch(pairs)
    x, y = data()
    pruned.fit(x, y, batch_size=16, epochs=2, verbose=0, callbacks=[watch])
    assert watch.looks == 4 and watch.found == 0 and not_zero(pairs(pruned)) == 0
    for (after, mask), (before, _) in zip(pairs(pruned), pairs(model), strict=True):
        assert not np.array_equal(after[mask], before[mask])


def test_after_every_batch_of_fit(case):
    """With decay and averages, which move what draws no gradient."""
    averaged = {"use_ema": True, "ema_momentum": 0.5, "ema_overwrite_frequency": 3}
    check_after_every_batch(case, optimizers.AdamW(0.01, weight_decay=0.1, **averaged))


@pytest.mark.parametrize("case", FAST, indirect=True)
def test_after_every_batch_with_momentum(case):
    check_after_every_batch(case, optimizers.SGD(0.1, momentum=0.9))


@pytest.mark.parametrize("name", ["mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("kind", ["LSTM", "Bidirectional", "MultiHeadAttention", "custom"])
def test_in_mixed_precision(kind, name):
    with policy(tf_keras, name):
        model = build(kind)
        masks = masks_for(model)
        pruned = tfmot.inject(model, masks)
        stripped = tfmot.strip(pruned)
    x, y = data()
    assert pruned(x).dtype == tf.as_dtype(name.removeprefix("mixed_"))
    np.testing.assert_array_equal(stripped(x), pruned(x))
    pruned.compile(optimizers.SGD(0.05, momentum=0.9), LOSS)
    history = pruned.fit(x, y, batch_size=16, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    assert not_zero(in_order(model, masks)(pruned)) == 0


def test_a_layer_in_another_precision_than_the_one_around_it():
    inner = layers.Dense(64, dtype="float32")
    model = tf_keras.Sequential(
        [
            tf_keras.Input((4, 6)),
            layers.TimeDistributed(inner, dtype="mixed_float16", name="layer"),
        ]
    )
    randomise(model)
    pruned = tfmot.inject(model, masks_for(model))
    x, _ = data(16)
    np.testing.assert_array_equal(tfmot.strip(pruned)(x), pruned(x))


@pytest.mark.parametrize("prunable", [["*/kernel", "*/gamma", "*/beta", "*/bias"], "*/bias"])
def test_biases_and_normalizations_when_asked(prunable):
    inputs = tf_keras.Input((4, 6))
    x = layers.BatchNormalization(name="norm")(inputs)
    x = layers.Bidirectional(layers.GRU(3, name="gru"), name="layer")(x)
    model = randomise(tf_keras.Model(inputs, layers.Dense(3, "softmax", name="head")(x)))
    masks = masks_for(model, prunable=prunable)
    assert ("norm/gamma" in masks) == (len(prunable) == 4)
    assert "layer/forward_gru/gru_cell/bias" in masks
    pruned = tfmot.inject(model, masks)
    assert tfmot.masks_of(pruned) == masks
    pruned.compile("adam", LOSS)
    pruned.fit(*data(), batch_size=16, verbose=0)
    assert masked_and_not_zero(pruned, masks) == 0
    assert masked_and_not_zero(tfmot.strip(pruned), masks) == 0


def test_statistics_are_no_weights():
    inputs = tf_keras.Input((4, 6))
    model = tf_keras.Model(inputs, layers.BatchNormalization(name="norm")(inputs))
    with pytest.raises(errors.UnsupportedLayerError, match="norm/moving_mean.*prunable="):
        tfmot.inject(model, tf_synflow.Masks({"norm/moving_mean": np.ones(6, bool)}))
    assert sorted(masks_for(model, prunable="*")) == ["norm/beta", "norm/gamma"]


def test_states_are_kept_and_reset():
    model = build("LSTM, stateful")
    pruned = tfmot.inject(model, masks_for(model))
    x, _ = data(16)
    first, second = (pruned.predict(x, verbose=0) for _ in range(2))
    assert not np.allclose(first, second)
    pruned.reset_states()
    np.testing.assert_allclose(pruned.predict(x, verbose=0), first, rtol=1e-6)


def test_a_configuration_of_old_names_attributes():
    """Files written when only a layer's own attributes could be masked."""
    wrapper = tfmot.PruneLowMagnitude(layers.Dense(3, name="d"), pruned=["kernel"])
    config = wrapper.get_config()
    assert config["pruned"] == ["kernel"]
    again = tfmot.PruneLowMagnitude.from_config(config)
    again.build((None, 2))
    assert again.pruning_vars[0][0] is again.layer.kernel

    class Own(layers.Layer):
        def build(self, shape):
            self.w = self.add_weight("my_weight", shape=(2,))

        def call(self, x):
            return x * self.w

    own = tfmot.PruneLowMagnitude(Own(), pruned=["w"])
    own.build((None, 2))
    assert own.pruning_vars[0][0] is own.layer.w


def test_a_mask_for_a_weight_that_the_layer_does_not_have():
    wrapper = tfmot.PruneLowMagnitude(layers.LSTM(3, name="rnn"), pruned=["kernel"])
    with pytest.raises(errors.UnsupportedLayerError, match="'rnn'.*'kernel'.*lstm_cell/kernel"):
        wrapper(np.zeros((1, 2, 3), "float32"))
    wrapper = tfmot.PruneLowMagnitude(layers.LSTM(3, name="rnn"), pruned={"kernel": (3, 12)})
    with pytest.raises(errors.UnsupportedLayerError, match="'rnn'.*kernel.*lstm_cell/kernel"):
        wrapper(np.zeros((1, 2, 3), "float32"))
