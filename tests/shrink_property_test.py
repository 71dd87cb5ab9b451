"""Random networks under random masks: whatever goes, the outputs stay."""

import keras
import numpy as np
import small_models
import tf_keras
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import tf_synflow
from tf_synflow import Masks
from tf_synflow.flow import weights

MOVES = (
    *("conv", "narrow", "grouped", "depthwise", "separable", "norm", "relu", "sigmoid"),
    *("pad", "pool", "add", "gate"),
)
SETTINGS = settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)


def _network(k, moves, use_bias, seed):
    """Layers in a row, with joins of the last two tensors that fit."""
    layers = k.layers
    inputs = x = k.Input((6, 6, 3))
    x = before = layers.Conv2D(4, 3, padding="same", use_bias=use_bias)(x)
    for move in moves:
        y = x
        if move == "conv":
            y = layers.Conv2D(4, 3, padding="same", use_bias=use_bias, activation="relu")(x)
        elif move == "narrow":
            y = layers.Conv2D(4, 1, use_bias=use_bias)(x)
        elif move == "grouped":
            y = layers.Conv2D(4, 3, padding="same", use_bias=use_bias, groups=2)(x)
        elif move == "separable":
            y = layers.SeparableConv2D(4, 1, use_bias=use_bias)(x)
        elif move == "depthwise":
            y = layers.DepthwiseConv2D(3, padding="same", use_bias=use_bias)(x)
        elif move == "norm":
            y = layers.BatchNormalization()(x)
        elif move == "relu":
            y = layers.ReLU()(x)
        elif move == "sigmoid":
            y = layers.Activation("sigmoid")(x)
        elif move == "pad":
            y = layers.Cropping2D(1)(layers.ZeroPadding2D(1)(x))
        elif move == "pool":
            y = layers.MaxPooling2D(2, strides=1, padding="same")(x)
        elif move == "add":
            y = layers.Add()([x, before])
        elif move == "gate":
            y = layers.Multiply()([x, layers.GlobalAveragePooling2D(keepdims=True)(before)])
        x, before = y, x
    x = layers.Conv2D(4, 3, use_bias=False)(layers.Concatenate()([x, before]))
    x = layers.Dense(3, use_bias=use_bias)(layers.Flatten()(x))
    return small_models.randomise(k.Model(inputs, x), seed)


@SETTINGS
@given(
    k=st.sampled_from([tf_keras, keras]),
    moves=st.lists(st.sampled_from(MOVES), min_size=2, max_size=6),
    use_bias=st.booleans(),
    pruned=st.booleans(),
    multiple_of=st.sampled_from([1, 1, 3]),
    seed=st.integers(0, 10_000),
)
def test_outputs_stay(k, moves, use_bias, pruned, multiple_of, seed):
    model = _network(k, moves, use_bias, seed)
    random = np.random.RandomState(seed)
    found = weights.all_weights(model)
    masks = {}
    for name in weights.select_prunable(found):
        shape = found[name].shape
        rows, columns = (random.random_sample(n) < 0.6 for n in shape[-2:])
        masks[name] = (random.random_sample(shape) < 0.7) & rows[:, None] & columns
        masks[name] &= random.random_sample() < 0.85  # else what is behind is a constant
    before = tf_synflow.apply_masks(model, Masks(masks), allow_collapse=True)
    if not pruned:
        before = tf_synflow.strip_pruning(before)
    small = tf_synflow.shrink(before, multiple_of=multiple_of, verbose=False)
    images = random.standard_normal((4, 6, 6, 3)).astype("float32")
    expected, received = (np.asarray(one(images, training=False)) for one in (before, small))
    assert np.max(np.abs(expected - received)) <= 1e-6 * max(np.max(np.abs(expected)), 1e-3)
