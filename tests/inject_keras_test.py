"""Masks into Keras 3 models of every kind and out again."""

import keras
import keras_models
import numpy as np
import pytest
import tf_keras
from keras import layers
from keras_models import KINDS, MODELS, moved, outputs, some_masks, train
from small_models import images, masked_and_not_zero, mlp, randomise, state, zoo

import tf_synflow
from tf_synflow import Masks, errors, inject
from tf_synflow.flow.weights import all_weights


@pytest.fixture(scope="module", params=KINDS)
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def model(kind):
    return MODELS[kind]()


@pytest.fixture(scope="module")
def masks(model):
    return some_masks(model)


@pytest.fixture
def pruned(model, masks):
    return inject.inject(model, masks)


def test_what_comes_back_is_like_what_was_given(model, masks, pruned):
    before = state(model)
    assert isinstance(pruned, type(model)) and pruned.name == model.name and not pruned.compiled
    assert [layer.name for layer in pruned.layers] == [layer.name for layer in model.layers]
    for one, other in zip(model.layers, pruned.layers, strict=True):
        assert isinstance(other, type(one)) and other is not one
    assert tf_synflow.masks_of(pruned) == masks and list(tf_synflow.masks_of(pruned)) == list(masks)
    found = all_weights(pruned)
    assert list(found) == list(all_weights(model))
    for name, weight in all_weights(model).items():
        mask = masks.get(name, np.ones(weight.shape, bool))
        np.testing.assert_array_equal(found[name].value(), np.where(mask, weight.value(), 0))
    assert state(model) == before


def test_trains_with_exact_zeros_and_strips(kind, model, masks, pruned):
    before = state(model)
    losses = train(pruned, epochs=2)
    assert np.isfinite(losses).all()
    assert masked_and_not_zero(pruned, masks) == 0
    assert moved(model, pruned, masks)
    assert state(model) == before
    stripped = tf_synflow.strip_pruning(pruned)
    assert type(stripped) is type(model)
    assert masked_and_not_zero(stripped, masks) == 0
    np.testing.assert_array_equal(outputs(stripped), outputs(pruned))
    assert inject.weights.wrappers(pruned) and not inject.weights.wrappers(stripped)


def test_a_layer_in_two_models_stays_one():
    """Keras itself can make such a model, and train it; not save it."""
    model = randomise(keras_models.shared(across=True))
    masks = some_masks(model)
    pruned = inject.inject(model, masks)
    assert len(pruned.weights) == len(model.weights)
    train(pruned)
    assert masked_and_not_zero(pruned, masks) == 0 and moved(model, pruned, masks)
    stripped = tf_synflow.strip_pruning(pruned)
    for one in (pruned, stripped):
        assert one.get_layer("inner").get_layer("twice") is one.get_layer("twice")
    np.testing.assert_array_equal(outputs(stripped), outputs(pruned))


def test_a_fitted_compiled_model_can_be_pruned_and_compiled_again():
    class Unregistered(keras.losses.Loss):
        def call(self, y_true, y_pred):
            return keras.losses.sparse_categorical_crossentropy(y_true, y_pred)

    model = zoo(keras)
    model.compile("adam", Unregistered(), jit_compile=False)
    x, y = images(model)
    model.fit(x, y, verbose=0)
    before, iterations = state(model), model.optimizer.iterations.numpy()
    masks = some_masks(model)
    pruned = inject.inject(model, masks)
    assert not pruned.compiled and model.compiled
    for optimizer in ("adam", "sgd"):
        pruned.compile(optimizer, Unregistered(), jit_compile=False)
        pruned.fit(x, y, verbose=0)
        assert masked_and_not_zero(pruned, masks) == 0
    assert state(model) == before and model.optimizer.iterations.numpy() == iterations
    model.fit(x, y, verbose=0)  # as if nothing had been


def test_nothing_is_left_behind_when_pruning_fails():
    model = MODELS["custom"]()
    model.get_layer("custom").get_config = lambda: {"name": "custom", "no_such_argument": 1}
    before = state(model)
    with pytest.raises(errors.ModelError, match="'custom'.*no_such_argument.*get_config"):
        inject.inject(model, some_masks(model))
    assert state(model) == before and not inject.weights.wrappers(model)


# --- calls of layers ------------------------------------------------------------------------------


def test_calls_with_masks_of_time_steps_and_keywords():
    """Attention over padded tokens, with several inputs and keyword arguments."""
    tokens = keras.Input((5,), dtype="int32", name="tokens")
    x = layers.Embedding(11, 8, mask_zero=True, name="embedding")(tokens)
    attention = layers.MultiHeadAttention(2, 4, name="attention")
    x, weights = attention(x, x, use_causal_mask=True, return_attention_scores=True)
    x = layers.Bidirectional(layers.LSTM(4, return_sequences=True), name="lstm")(x)
    x, last = layers.GRU(4, return_state=True, name="gru")(x)
    x = layers.Concatenate()(
        [x, layers.LSTM(4, name="second")(x[:, None], initial_state=[last] * 2)]
    )
    model = randomise(keras.Model(tokens, [layers.Dense(3, name="head")(x), weights]))
    masks = some_masks(model)
    assert {"attention/query/kernel", "gru/gru_cell/recurrent_kernel"} < set(masks)
    pruned = inject.inject(model, masks)
    stripped = tf_synflow.strip_pruning(pruned)
    data = np.array([[1, 2, 3, 0, 0], [4, 5, 6, 7, 8], [9, 10, 0, 0, 0]])
    for ours, plain in zip(pruned(data), stripped(data), strict=True):
        np.testing.assert_array_equal(ours, plain)
    assert not np.allclose(pruned(data)[0], model(data)[0])
    pruned.compile("adam", ["mse", None], run_eagerly=True)  # to trace it takes ten seconds
    pruned.fit(data, np.ones((3, 3)), verbose=0)
    assert masked_and_not_zero(pruned, masks) == 0 and moved(model, pruned, masks)


def test_stateful_layers_keep_and_reset_their_state():
    inputs = keras.Input((3, 2), batch_size=2)
    x = layers.LSTM(4, stateful=True, name="lstm")(inputs)
    model = randomise(keras.Model(inputs, layers.Dense(2, name="head")(x)))
    pruned = inject.inject(model, some_masks(model))
    data = np.ones((2, 3, 2), "float32")
    first, second = pruned(data).numpy(), pruned(data).numpy()
    assert not np.allclose(first, second)
    pruned.reset_states() if hasattr(pruned, "reset_states") else pruned.get_layer(
        "lstm"
    ).reset_states()
    np.testing.assert_array_equal(pruned(data), first)


def test_layers_stay_what_they_are():
    """Names, classes and attributes: what reads a model's layers reads a pruned one's."""
    pruned = inject.inject(zoo(keras), some_masks(zoo(keras)))
    conv = pruned.get_layer("conv")
    assert isinstance(conv, layers.Conv2D) and conv.filters == 4
    assert conv.kernel is conv.trainable_variables[0]
    text = []
    pruned.summary(print_fn=text.append)
    assert "Conv2D" in "\n".join(text)
    assert pruned.count_params() == zoo(keras).count_params()
    part = keras.Model(pruned.inputs, conv.output)
    x, _ = images(pruned)
    np.testing.assert_array_equal(part(x), conv(x))


def test_frozen_layers_stay_frozen():
    model = zoo(keras)
    model.get_layer("conv").trainable = False
    pruned = inject.inject(model, some_masks(model))
    assert not pruned.get_layer("conv").trainable
    assert len(pruned.trainable_weights) == len(model.trainable_weights)
    assert len(tf_synflow.strip_pruning(pruned).trainable_weights) == len(model.trainable_weights)
    model = MODELS["subclassed"]()
    model.blocks[0].trainable = False
    pruned = inject.inject(model, some_masks(model))
    assert not pruned.blocks[0].trainable and pruned.blocks[1].trainable


def test_summary_export_and_the_way_there():
    model = zoo(keras)
    pruned = tf_synflow.prune_at_init(
        model, schedule=tf_synflow.SynFlowPruningSchedule(4, rounds=3), wrapper="keras"
    )
    masks = tf_synflow.masks_of(pruned)
    assert masks.info["schedule"]["compression"] == 4
    assert tf_synflow.masks_of(tf_synflow.apply_masks(model, masks)) == masks
    rows = tf_synflow.summary(pruned).rows
    assert {row.name: row.kept for row in rows} == {n: int(m.sum()) for n, m in masks.items()}


def test_export_is_of_the_stripped_model(tmp_path):
    model = mlp(keras)
    pruned = inject.inject(model, some_masks(model))
    report = tf_synflow.export_tflite(pruned, tmp_path / "pruned.tflite")
    plain = tf_synflow.export_tflite(tf_synflow.strip_pruning(pruned), tmp_path / "plain.tflite")
    assert any("stripped" in note for note in report.notes)
    sizes = [(tmp_path / name).stat().st_size for name in ("pruned.tflite", "plain.tflite")]
    assert sizes[0] == sizes[1] and plain.notes != report.notes


def test_a_pruned_subclassed_model_is_summed_up_and_exported(tmp_path):
    model = MODELS["subclassed"]()
    pruned = tf_synflow.prune_at_init(model, 2)
    assert type(pruned).__name__ == "Subclassed" and isinstance(pruned, type(model))
    assert tf_synflow.summary(pruned).density == pytest.approx(0.5, abs=0.01)
    report = tf_synflow.export_tflite(pruned, tmp_path / "model.tflite")
    assert any("followed" in note for note in report.notes)


# --- what is refused --------------------------------------------------------------------


def test_a_wrapper_of_the_other_keras():
    with pytest.raises(errors.ModelError, match="tf_keras model with wrapper='keras'.*'tfmot'"):
        tf_synflow.prune_at_init(mlp(tf_keras), 2, wrapper="keras")
    with pytest.raises(errors.UnknownNameError, match="wrapper.*'torch'.*auto, keras, tfmot"):
        tf_synflow.prune_at_init(mlp(keras), 2, wrapper="torch")


def test_a_pruned_model_is_not_pruned_again():
    for kind in ("shared", "subclassed"):
        model = MODELS[kind]()
        pruned = inject.inject(model, some_masks(model))
        with pytest.raises(errors.MaskError, match="pruned already.*strip_pruning"):
            tf_synflow.prune_at_init(pruned, 2)


def test_masks_of_a_plain_model():
    with pytest.raises(errors.MaskError, match="expected"):
        tf_synflow.masks_of(mlp(keras))


def test_a_layer_whose_copy_has_other_weights_is_refused():
    model = keras_models.forgetful()
    with pytest.raises(errors.ModelError, match="'forgetful'.*shapes.*get_config"):
        inject.inject(model, Masks({"forgetful/dense/kernel": np.ones((16, 5), bool)}))


class Handing(keras.Model):
    """Its configuration holds a layer itself, not its description."""

    def __init__(self, encoder, **kwargs):
        super().__init__(**kwargs)
        self.encoder = encoder

    def call(self, x):
        return self.encoder(x)

    def get_config(self):
        return {**super().get_config(), "encoder": self.encoder}


def test_a_copy_that_would_share_weights_with_the_users_model_is_refused():
    model = Handing(layers.Dense(3, name="dense"))
    model(np.ones((1, 16)))
    before = state(model)
    with pytest.raises(errors.ModelError, match="hands on its own layers.*serialize_keras_object"):
        inject.inject(model, some_masks(model))
    assert state(model) == before
    model.encoder.kernel.assign(np.ones((16, 3)))
    assert model.encoder.kernel.numpy().all()


def test_like_is_for_models_that_were_converted():
    model = mlp(keras)
    pruned = inject.inject(model, some_masks(model))
    for other in (model, mlp(tf_keras)):
        with pytest.raises(errors.ModelError, match="like: received.*wrapper='tfmot'"):
            tf_synflow.strip_pruning(pruned, like=other)
