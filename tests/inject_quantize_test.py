"""Zeros through quantization-aware training: at every step, in what is saved, in the int8 file."""

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from small_models import policy

import tf_synflow
from tf_synflow import compat, errors
from tf_synflow.train import models

layers = tf_keras.layers


def conv():
    """Convolutions in front of ReLU layers, of which TFMOT does not quantize the weights."""
    return models.build("conv", input_shape=(8, 8, 1), num_classes=10, keras=tf_keras, seed=0)


def residual():
    """Normalizations in front of a ReLU layer and of a join."""
    image = layers.Input((8, 8, 3))
    x = start = layers.Conv2D(16, 3, padding="same", activation="relu")(image)
    for activation in ("relu", "linear"):
        x = layers.Conv2D(16, 3, padding="same", use_bias=False)(x)
        x = layers.Activation(activation)(layers.BatchNormalization()(x))
    x = layers.GlobalAveragePooling2D()(layers.ReLU()(layers.Add()([x, start])))
    return tf_keras.Model(image, head()(x))


def joined():
    """What TFMOT's prune-preserving scheme refuses or lets fill up."""
    image = layers.Input((12, 12, 3))
    ways = [layers.Conv2D(8, 3, padding="same", activation=a)(image) for a in (None, "relu")]
    x = layers.Concatenate()(ways)
    x = layers.Conv2DTranspose(8, 3, strides=2)(x)
    x = layers.SeparableConv2D(16, 3, activation="relu")(x)
    x = layers.Flatten()(layers.DepthwiseConv2D(3, strides=2)(x))
    return tf_keras.Model(image, head()(x))


def head():
    """Of outputs that fill the range from -6 to 6, with which TFMOT begins."""
    return layers.Dense(10, kernel_initializer=tf_keras.initializers.RandomNormal(0, 2))


def zeros(model):
    """How many weights of each kernel are zero, smallest first."""
    kernels = [v.numpy() for v in model.trainable_weights if v.shape.rank > 1]
    return sorted(np.count_nonzero(kernel == 0) for kernel in kernels)


def fit(model, epochs=2):
    """Trains in the way that moves most weights; the inputs."""
    random = np.random.default_rng(0)
    inputs = random.random((32, *model.inputs[0].shape[1:]), np.float32)
    optimizer = tf_keras.optimizers.Adam(0.003, weight_decay=0.01, use_ema=True, ema_momentum=0.5)
    model.compile(optimizer, tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(inputs, random.integers(0, 10, 32), batch_size=16, epochs=epochs, verbose=0)
    return inputs


@pytest.mark.parametrize("network", [conv, residual, joined])
def test_zeros_stay_through_training_and_saving_into_the_file(network, tmp_path):
    tf_keras.utils.set_random_seed(0)
    pruned = tf_synflow.prune_at_init(network(), 8, verbose=False)
    before = [value.copy() for value in pruned.get_weights()]
    aware = tf_synflow.quantize_aware(pruned)
    removed = zeros(tf_synflow.strip_pruning(pruned))
    assert sum(removed) > 1000 and zeros(aware) == removed
    inputs = fit(aware)
    assert zeros(aware) == removed
    for value, same in zip(pruned.get_weights(), before, strict=True):
        np.testing.assert_array_equal(value, same)
    path = tmp_path / "model.tflite"
    report = tf_synflow.export_tflite(aware, path, quantize="int8", samples=inputs)
    stored = sorted(tensor.zeros for tensor in report.weights if len(tensor.shape) > 1)
    for zero, found in zip(removed, stored, strict=True):
        assert zero <= found <= 1.01 * zero + 30  # a kept weight below half a step is zero as well
    # TFMOT's quantizer of transposed convolutions cannot be in a SavedModel.
    for name in ("model.h5", "saved")[: 1 if network is joined else 2]:
        aware.save(tmp_path / name)
        loaded = tf_synflow.load_model(tmp_path / name)
        np.testing.assert_array_equal(
            loaded.predict(inputs, verbose=0), aware.predict(inputs, verbose=0)
        )
        fit(loaded, epochs=1)
        assert zeros(loaded) == removed


def test_a_shrunk_and_a_dense_model_are_taken_too():
    pruned = tf_synflow.prune_at_init(conv(), 100, structure="channel", verbose=False)
    small = tf_synflow.shrink(pruned, verbose=False)
    aware = tf_synflow.quantize_aware(small)
    assert zeros(aware) == zeros(tf_synflow.strip_pruning(small))
    dense = tf_synflow.quantize_aware(conv())
    fit(dense, epochs=1)
    assert sum(zeros(dense)) == 0


def test_the_scheme_of_tfmot_alone_would_lose_zeros():
    """Why `quantize_aware` is there; when this fails, TFMOT may have been mended."""
    tfmot = compat.tfmot()
    pruned = tf_synflow.prune_at_init(conv(), 8, verbose=False)
    plain = tf_synflow.strip_pruning(pruned)
    aware = tfmot.quantization.keras.quantize_apply(
        tfmot.quantization.keras.quantize_annotate_model(plain),
        tfmot.experimental.combine.Default8BitPrunePreserveQuantizeScheme(),
    )
    fit(aware, epochs=1)
    assert sum(zeros(aware)) < 0.95 * sum(zeros(plain))


def test_a_channel_without_a_weight_under_xla():
    """Of which the range is empty; XLA makes NaN of it."""
    model = conv()
    kernel = model.get_layer("conv2").kernel
    kernel.assign(kernel * (np.arange(32) > 7))
    aware = tf_synflow.quantize_aware(model)
    aware.compile("adam", tf_keras.losses.MeanSquaredError(), jit_compile=True)
    inputs = np.random.default_rng(0).random((16, 8, 8, 1), np.float32)
    aware.fit(inputs, np.zeros((16, 10)), verbose=0)
    assert zeros(aware) == [0, 0, 8 * 9 * 32]
    assert all(np.isfinite(value).all() for value in aware.get_weights())


def test_a_kernel_of_zeros_is_warned_of():
    model = conv()
    model.get_layer("head").kernel.assign(np.zeros(model.get_layer("head").kernel.shape))
    with pytest.warns(UserWarning, match="head/kernel is zero throughout, and will stay so"):
        tf_synflow.quantize_aware(model)


def test_vectors_that_are_pruned_are_warned_of():
    masks = tf_synflow.Masks({"conv2/bias": np.arange(32) > 7})
    pruned = tf_synflow.apply_masks(conv(), masks)
    with pytest.warns(UserWarning, match="conv2/bias is pruned.*will train"):
        tf_synflow.quantize_aware(pruned)


def test_what_is_zero_and_not_pruned_trains():
    """As a head does that begins at zero: the masks say what is pruned, where there are masks."""
    pruned = tf_synflow.prune_at_init(conv(), 8, verbose=False)
    kernel = pruned.get_layer("prune_low_magnitude_head").layer.kernel
    kernel.assign(tf.zeros_like(kernel))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        aware = tf_synflow.quantize_aware(pruned)
    removed = tf_synflow.masks_of(pruned)
    fit(aware)
    for layer in ("conv1", "conv2", "head"):
        kernel = next(v for v in aware.weights if v.name == f"{layer}/kernel:0").numpy()
        mask = removed[f"{layer}/kernel"]
        assert not kernel[mask == 0].any()
        assert (kernel != 0).sum() > 0.5 * mask.sum()  # behind a ReLU that is off nothing trains


def test_a_refusal_says_what_ranges_do(tmp_path):
    aware = tf_synflow.quantize_aware(conv())
    inputs, path = fit(aware, epochs=1), tmp_path / "model.tflite"
    with pytest.raises(errors.ExportError, match="train for some hundred steps first"):
        tf_synflow.export_tflite(aware, path, quantize="int8", samples=inputs, tolerance=1e-6)
    assert not any(tmp_path.iterdir())


def test_without_int8_the_file_still_computes_in_steps(tmp_path):
    """Which its agreement allows for: one rounding may go the other way."""
    aware = tf_synflow.quantize_aware(conv())
    inputs = fit(aware, epochs=1)
    report = tf_synflow.export_tflite(aware, tmp_path / "model.tflite", samples=inputs)
    assert report.agreement.tolerance == 0.2


@pytest.mark.parametrize(
    "door",
    [
        tf_synflow.quantize_aware,
        tf_synflow.strip_pruning,
        tf_synflow.shrink,
        tf_synflow.score,
        tf_synflow.masks_of,
        tf_synflow.summary,
        lambda model: tf_synflow.prune_at_init(model, 2),
    ],
)
def test_what_comes_before_says_so(door):
    aware = tf_synflow.quantize_aware(conv())
    with pytest.raises(errors.ModelError, match="received one for quantization-aware training"):
        door(aware)


def in_half_precision():
    with policy(tf_keras, "mixed_bfloat16"):
        return tf_keras.Sequential([layers.Input((4,)), layers.Dense(3)])


def lstm():
    return tf_keras.Sequential([layers.Input((8, 4)), layers.LSTM(4), layers.Dense(10)])


def tokens():
    layer = layers.Embedding(50, 8)
    return tf_keras.Sequential([layers.Input((8,), dtype="int32"), layer, layers.Flatten(), head()])


def nested():
    return tf_keras.Sequential([layers.Input((4,)), tf_keras.Sequential([layers.Dense(3)])])


@pytest.mark.parametrize(
    ("build", "error", "match"),
    [
        (lstm, errors.UnsupportedLayerError, "lstm.*after training"),
        (tokens, errors.UnsupportedLayerError, "whole numbers.*after training"),
        (nested, errors.UnsupportedLayerError, "inside another"),
        (
            lambda: keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)]),
            errors.ModelError,
            "received a Keras 3 model",
        ),
        (in_half_precision, errors.ModelError, "bfloat16.*expected float32"),
        (lambda: "model.h5", errors.ModelError, "str"),
    ],
    ids=["lstm", "tokens", "nested", "keras3", "half", "no_model"],
)
def test_what_cannot_be_trained_so_says_what_to_do(build, error, match):
    with pytest.raises(error, match=match):
        tf_synflow.quantize_aware(build())
