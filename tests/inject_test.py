"""Masks into TFMOT wrappers and out again: what the pruned model is before any training."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from small_models import (
    KERASES,
    images,
    masked_and_not_zero,
    mlp,
    randomise,
    residual,
    state,
    zoo,
)

import tf_synflow
from tf_synflow import Masks, compat, errors
from tf_synflow.flow.weights import all_weights

sparsity = compat.tfmot().sparsity.keras
ROUNDS = {"schedule": tf_synflow.SynFlowPruningSchedule(4, rounds=5)}
HALF = {"schedule": tf_synflow.SynFlowPruningSchedule(2, rounds=3)}
ZOO_KERNELS = [
    "conv/kernel",
    "depthwise/depthwise_kernel",
    "separable/depthwise_kernel",
    "separable/pointwise_kernel",
    "inner/twice/kernel",
    "head/kernel",
]


@pytest.fixture(scope="module")
def model():
    return zoo(tf_keras)


@pytest.fixture(scope="module")
def masks(model):
    return tf_synflow.compute_masks(model, **ROUNDS)


@pytest.fixture
def pruned(model, masks):
    return tf_synflow.apply_masks(model, masks)


def test_prune_at_init_is_compute_then_apply(model, masks):
    before = state(model)
    pruned = tf_synflow.prune_at_init(model, **ROUNDS)
    assert tf_synflow.masks_of(pruned) == masks
    assert state(model) == before
    assert not getattr(model, "_is_compiled", False)


def test_every_kind_of_kernel_is_masked(pruned, masks):
    assert list(masks) == ZOO_KERNELS and masks.compression == pytest.approx(4, rel=0.01)
    assert not any(mask.all() for mask in masks.values())
    assert masked_and_not_zero(pruned, masks) == 0


def test_kept_weights_and_all_others_are_the_models_own(model, masks, pruned):
    found = all_weights(pruned)
    for name, weight in all_weights(model).items():
        kept = masks.get(name, np.ones(weight.shape, bool))
        np.testing.assert_array_equal(found[name].value()[kept], weight.value()[kept])


def test_outputs_are_those_of_the_model_with_zeros(model, masks, pruned):
    x, _ = images(model)
    zeroed = zoo(tf_keras)
    for name, weight in all_weights(zeroed).items():
        if name in masks:
            weight.variable.assign(weight.variable * masks[name])
    np.testing.assert_allclose(pruned(x), zeroed(x), rtol=1e-6, atol=1e-7)


def test_masks_come_back(pruned, masks):
    back = tf_synflow.masks_of(pruned)
    assert back == masks and list(back) == list(masks)
    assert back.info["schedule"] == masks.info["schedule"]
    again = tf_synflow.apply_masks(tf_synflow.strip_pruning(pruned), back)
    assert tf_synflow.masks_of(again) == masks


@pytest.mark.parametrize("k", KERASES)
def test_masks_that_came_back_can_be_saved(k, tmp_path):
    back = tf_synflow.masks_of(tf_synflow.prune_at_init(mlp(k), 4))
    back.save(tmp_path / "masks.npz")
    loaded = Masks.load(tmp_path / "masks.npz")
    assert loaded == back and loaded.info == back.info


def test_masks_of_a_plain_model(model):
    with pytest.raises(errors.MaskError, match="expected"):
        tf_synflow.masks_of(model)


def test_wrapped_are_only_layers_with_masks(model):
    part = tf_synflow.apply_masks(model, {"head/kernel": np.eye(4, 3)})
    wrapped = [layer for layer in part.layers if hasattr(layer, "pruning_vars")]
    assert [layer.name for layer in wrapped] == ["prune_low_magnitude_head"]
    assert isinstance(wrapped[0], type(sparsity.prune_low_magnitude(tf_keras.layers.Dense(1))))
    assert isinstance(wrapped[0].pruning_schedule, tf_synflow.SynFlowPruningSchedule)


def test_freshly_injected_then_stripped_has_exact_zeros(model, masks, pruned):
    stripped = tf_synflow.strip_pruning(pruned)
    assert [layer.name for layer in stripped.layers] == [layer.name for layer in model.layers]
    assert not any(hasattr(layer, "pruning_vars") for layer in stripped.layers)
    found = all_weights(stripped)
    for name, mask in masks.items():
        assert not found[name].value()[~mask].any() and found[name].value()[mask].all()
    x, _ = images(model)
    np.testing.assert_array_equal(stripped(x), pruned(x))


def test_strip_masks_again_what_someone_set(pruned, masks):
    for weight in all_weights(pruned).values():
        weight.variable.assign(tf.ones_like(weight.variable))
    before = state(pruned)
    stripped = tf_synflow.strip_pruning(pruned)
    assert masked_and_not_zero(stripped, masks) == 0
    assert state(pruned) == before


def test_stripping_a_plain_model_copies_it(model):
    copied = tf_synflow.strip_pruning(model)
    assert copied is not model and state(copied) == state(model)


def test_tfmots_own_strip_works_too(pruned, masks):
    x, _ = images(pruned)
    outputs = pruned(x)
    stripped = sparsity.strip_pruning(pruned)
    assert masked_and_not_zero(stripped, masks) == 0
    np.testing.assert_array_equal(stripped(x), outputs)


def test_masks_of_tfmots_own_wrappers_can_be_applied():
    model = mlp(tf_keras)
    other = sparsity.prune_low_magnitude(
        tf_keras.models.clone_model(model), sparsity.PolynomialDecay(0.0, 0.5, 0, 10)
    )
    wanted = np.tile(np.eye(4), (4, 3))
    other.layers[1].pruning_vars[0][1].assign(wanted)
    masks = tf_synflow.masks_of(other)
    np.testing.assert_array_equal(masks["d0/kernel"], wanted)
    assert tf_synflow.masks_of(tf_synflow.apply_masks(model, masks)) == masks


def test_sequential_stays_sequential():
    model = tf_keras.Sequential(
        [tf_keras.Input((6,)), tf_keras.layers.Dense(4, name="a"), tf_keras.layers.Dense(3)]
    )
    pruned = tf_synflow.prune_at_init(model, **HALF)
    assert isinstance(pruned, tf_keras.Sequential)
    assert isinstance(tf_synflow.strip_pruning(pruned), tf_keras.Sequential)
    late = tf_keras.Sequential([tf_keras.layers.Dense(4, name="a"), tf_keras.layers.Dense(3)])
    late.build((None, 6))
    assert tf_synflow.masks_of(tf_synflow.prune_at_init(late, **HALF)).kept == 18


@pytest.mark.parametrize("kind", ["Dense", "Conv1D", "Conv3D", "Conv2DTranspose"])
def test_other_layers(kind):
    layers, rank = (
        tf_keras.layers,
        {"Dense": 0, "Conv1D": 1, "Conv3D": 3, "Conv2DTranspose": 2}[kind],
    )
    arguments = (3, 2) if rank else (3,)
    model = tf_keras.Sequential(
        [tf_keras.Input((*([4] * rank), 2)), getattr(layers, kind)(*arguments, name="layer")]
    )
    masks = tf_synflow.compute_masks(model, **HALF)
    pruned = tf_synflow.apply_masks(model, masks)
    x = np.ones((2, *([4] * rank), 2), "float32")
    np.testing.assert_array_equal(tf_synflow.strip_pruning(pruned)(x), pruned(x))
    assert masked_and_not_zero(pruned, masks) == 0


@pytest.mark.parametrize("mask_zero", [False, True])
def test_embedding(mask_zero):
    layers = tf_keras.layers
    inputs = tf_keras.Input((5,), dtype="int32")
    x = layers.Embedding(7, 4, mask_zero=mask_zero, name="embedding")(inputs)
    x = layers.GlobalAveragePooling1D()(x)
    model = randomise(tf_keras.Model(inputs, layers.Dense(2, name="head")(x)))
    masks = tf_synflow.compute_masks(model, **HALF)
    assert list(masks) == ["embedding/embeddings", "head/kernel"]
    pruned = tf_synflow.apply_masks(model, masks)
    x = np.array([[1, 2, 0, 0, 0], [3, 4, 5, 6, 1]])
    np.testing.assert_allclose(pruned(x), tf_synflow.strip_pruning(pruned)(x), rtol=1e-6)
    pruned.compile("adam", "mse")
    pruned.fit(x, np.ones((2, 2)), epochs=2, verbose=0)
    assert masked_and_not_zero(pruned, masks) == 0


@pytest.mark.parametrize("kind", ["Masking", "Embedding"])
def test_masks_of_time_steps_pass_through_wrapped_layers(kind):
    """Keras hands a wrapper the mask of time steps, whatever the layer in it takes."""
    layers = tf_keras.layers
    if kind == "Embedding":
        inputs = tf_keras.Input((4,), dtype="int32")
        x, data = layers.Embedding(5, 3, mask_zero=True)(inputs), np.array([[1, 2, 0, 0]])
    else:
        inputs = tf_keras.Input((4, 3))
        x, data = layers.Masking()(inputs), np.ones((1, 4, 3)) * [[[1], [2], [0], [0]]]
    x = layers.Conv1D(3, 1, name="steps")(layers.Dense(3, name="units")(x))
    model = randomise(tf_keras.Model(inputs, layers.GlobalAveragePooling1D()(x)))
    pruned = tf_synflow.prune_at_init(model, **HALF)
    np.testing.assert_allclose(pruned(data), tf_synflow.strip_pruning(pruned)(data), rtol=1e-6)


def test_normalization_and_biases_when_asked(tmp_path):
    model = residual(tf_keras)
    masks = tf_synflow.compute_masks(
        model, schedule=tf_synflow.SynFlowPruningSchedule(2, rounds=3),
        prunable=["*kernel", "*gamma", "*beta", "*bias"],
    )  # fmt: skip
    assert {"bn1/gamma", "bn1/beta", "head/bias"} < set(masks)
    pruned = tf_synflow.apply_masks(model, masks)
    pruned.compile("adam", "sparse_categorical_crossentropy")
    pruned.fit(*images(model), batch_size=8, verbose=0)
    assert masked_and_not_zero(pruned, masks) == 0
    moved = all_weights(pruned)["bn1/moving_mean"].value()
    assert not np.array_equal(moved, all_weights(model)["bn1/moving_mean"].value())
    pruned.save(tmp_path / "model.keras")
    assert tf_synflow.masks_of(tf_synflow.load_model(tmp_path / "model.keras")) == masks


def test_regularizers_still_count():
    inputs = tf_keras.Input((16,))
    outputs = tf_keras.layers.Dense(
        3, kernel_regularizer="l2", activity_regularizer="l2", name="d"
    )(inputs)
    pruned = tf_synflow.prune_at_init(tf_keras.Model(inputs, outputs), **HALF)
    stripped = tf_synflow.strip_pruning(pruned)
    x = np.ones((2, 16), "float32")
    pruned(x), stripped(x)
    assert len(pruned.losses) == len(stripped.losses) == 2
    np.testing.assert_allclose(sum(pruned.losses), sum(stripped.losses), rtol=1e-6)


def test_frozen_layers_stay_frozen():
    model = residual(tf_keras)
    model.get_layer("conv1").trainable = False
    model.get_layer("bn2").trainable = False
    pruned = tf_synflow.prune_at_init(model, **ROUNDS)
    masks = tf_synflow.masks_of(pruned)
    assert masked_and_not_zero(pruned, masks) == 0
    assert len(pruned.trainable_weights) == len(model.trainable_weights)
    stripped = tf_synflow.strip_pruning(pruned)
    x, _ = images(model)
    np.testing.assert_allclose(pruned(x), stripped(x), rtol=1e-6)


# --- what is refused ------------------------------------------------------------------------------


def test_a_pruned_model_is_not_pruned_again(pruned, masks):
    for again in (
        lambda: tf_synflow.prune_at_init(pruned, 2),
        lambda: tf_synflow.apply_masks(pruned, masks),
    ):
        with pytest.raises(errors.MaskError, match="pruned already.*strip_pruning"):
            again()


def test_layer_collapse_is_refused_and_can_be_insisted_on():
    model = mlp(tf_keras)
    masks = {"d0/kernel": np.ones((16, 12)), "d1/kernel": np.zeros((12, 8))}
    before = state(model)
    with pytest.raises(errors.LayerCollapseError, match="d1/kernel.*allow_collapse=True"):
        tf_synflow.apply_masks(model, masks)
    assert state(model) == before
    pruned = tf_synflow.apply_masks(model, masks, allow_collapse=True)
    assert tf_synflow.masks_of(pruned) == Masks(masks)


def test_collapse_without_an_empty_layer_is_found():
    """Every layer keeps a weight, and they do not meet."""
    masks = {"d0/kernel": np.zeros((16, 12)), "d1/kernel": np.zeros((12, 8))}
    masks["d0/kernel"][0, 3] = masks["d1/kernel"][4, 0] = 1
    with pytest.raises(errors.LayerCollapseError, match="empty: none"):
        tf_synflow.apply_masks(mlp(tf_keras), masks)


def test_an_empty_shortcut_is_no_collapse():
    pruned = tf_synflow.apply_masks(residual(tf_keras), {"shortcut/kernel": np.zeros((1, 1, 4, 6))})
    assert tf_synflow.masks_of(pruned).kept == 0


def test_prune_at_init_raises_rather_than_hand_back_a_dead_network():
    model = mlp(tf_keras, use_bias=False)
    weights = model.get_weights()
    weights[1] *= 1e-6  # magnitude takes all of the second layer
    model.set_weights(weights)
    with pytest.raises(errors.LayerCollapseError):
        tf_synflow.prune_at_init(model, 10, scorer="magnitude")
    dead = tf_synflow.prune_at_init(model, 10, scorer="magnitude", allow_collapse=True)
    assert not tf_synflow.masks_of(dead)["d1/kernel"].any()
    alive = tf_synflow.prune_at_init(model, 10)
    assert tf_synflow.masks_of(alive)["d1/kernel"].any()


class Elsewhere(tf_keras.layers.Layer):
    """A layer of the user's own that reads its weight from where no wrapper looks."""

    def build(self, shape):
        self.add_weight("kernel", shape=(shape[-1], 4))
        super().build(shape)

    def call(self, x):
        return x @ self.weights[0]


def test_a_mask_that_cannot_be_frozen_in_is_never_dropped_in_silence():
    model = tf_keras.Sequential([tf_keras.Input((6,)), Elsewhere(name="layer")])
    masks = {"layer/kernel": np.eye(6, 4)}
    with pytest.raises(errors.UnsupportedLayerError, match="layer/kernel.*no attribute"):
        tf_synflow.apply_masks(model, masks, allow_collapse=True)


@pytest.mark.parametrize(("own", "other"), [(tf_keras, keras), (keras, tf_keras)])
def test_objects_of_the_other_keras_say_which_import_to_use(own, other):
    pruned = tf_synflow.prune_at_init(mlp(own), **HALF)
    for wrong in (
        {"optimizer": other.optimizers.Adam()},
        {"loss": [other.losses.MeanSquaredError()]},
        {"metrics": {"d2": other.metrics.MeanSquaredError()}},
    ):
        with pytest.raises(errors.ModelError, match=f"`import {own.__name__}`"):
            pruned.compile(**{"optimizer": "sgd", "loss": "mse", **wrong})
    pruned.compile(own.optimizers.Adam(), own.losses.MeanSquaredError())
    pruned.fit(np.ones((4, 16)), np.ones((4, 4)), verbose=0)


def test_a_subclassed_model_of_tf_keras_is_told_what_it_lacks():
    class Net(tf_keras.Model):
        def __init__(self):
            super().__init__()
            self.fc = tf_keras.layers.Dense(3, name="fc")

        def call(self, x):
            return self.fc(x)

    model = Net()
    model.build((None, 4))
    for call in (tf_synflow.prune_at_init, lambda m: tf_synflow.apply_masks(m, {})):
        with pytest.raises(errors.ModelError, match="subclassed Net of tf_keras.*need a graph"):
            call(model)
