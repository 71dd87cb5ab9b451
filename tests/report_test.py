"""The summary's FLOPs: two for each weight and each position that it is applied at."""

import keras
import numpy as np
import pytest
import tf_keras
from small_models import KERASES

import tf_synflow

each_keras = pytest.mark.parametrize("k", KERASES)


def flops(model):
    summary = tf_synflow.summary(model)
    assert summary.flops == summary.dense_flops
    return {row.name: row.flops for row in summary.rows}


@each_keras
def test_of_images(k):
    layers = k.layers
    inputs = k.Input((8, 6, 3))
    x = layers.Conv2D(4, 3, 2, padding="same", name="conv")(inputs)  # to 4x3
    x = layers.DepthwiseConv2D(3, name="deep")(x)  # to 2x1
    x = layers.Conv2DTranspose(5, 2, 2, name="up")(x)  # to 4x2, from 2x1
    x = layers.Conv2D(10, 1, groups=5, name="grouped")(x)
    x = layers.GlobalAveragePooling2D()(x)
    model = k.Model(inputs, layers.Dense(7, name="head")(x))
    assert flops(model) == {
        "conv/kernel": 2 * (3 * 3 * 3 * 4) * 12,
        "deep/depthwise_kernel": 2 * (3 * 3 * 4) * 2,
        "up/kernel": 2 * (2 * 2 * 5 * 4) * 2,
        "grouped/kernel": 2 * (1 * 10) * 8,
        "head/kernel": 2 * 70,
    }


@each_keras
def test_of_text(k):
    """A lookup multiplies nothing."""
    layers = k.layers
    inputs = k.Input((9,), dtype="int32")
    x = layers.LSTM(5, name="lstm")(layers.Embedding(50, 8, name="table")(inputs))
    found = flops(k.Model(inputs, layers.Dense(3, name="head")(x)))
    assert found["table/embeddings"] == 0
    cells = [value for name, value in found.items() if name.startswith("lstm")]
    assert sorted(cells) == sorted([2 * 8 * 20 * 9, 2 * 5 * 20 * 9])
    assert found["head/kernel"] == 2 * 15


def test_a_table_the_other_way_round_is_a_dense_layer():
    inputs = keras.Input((9,), dtype="int32")
    table = keras.layers.ReversibleEmbedding(50, 8, name="table")
    model = keras.Model(inputs, table(table(inputs), reverse=True))
    assert flops(model) == {"table/embeddings": 2 * 50 * 8 * 9}


def test_what_is_removed_does_not_count():
    model = tf_keras.Sequential([tf_keras.Input((6,)), tf_keras.layers.Dense(4, name="d")])
    mask = np.arange(24).reshape(6, 4) % 3 == 0
    summary = tf_synflow.summary(tf_synflow.apply_masks(model, {"d/kernel": mask}))
    assert (summary.flops, summary.dense_flops) == (2 * 8, 2 * 24)
