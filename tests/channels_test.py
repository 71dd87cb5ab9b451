"""Whole channels: with what reads them, in multiples, as many as were asked for."""

import functools

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_models import KERASES, mlp, randomise

import tf_synflow
from tf_synflow import quantities
from tf_synflow.masks import structure as structures
from tf_synflow.masks.select import select
from tf_synflow.masks.structure import Channels
from tf_synflow.train import models

each_keras = pytest.mark.parametrize("k", KERASES)


def of(compression):
    """Few rounds, for what holds after any of them."""
    return tf_synflow.SynFlowPruningSchedule(compression, rounds=5)


@each_keras
def test_no_class_goes_with_its_channel(k):
    layers = k.layers
    inputs = k.Input((8,))
    inner = k.Sequential(
        [k.Input((16,)), layers.Dense(10, name="head"), layers.Softmax()], name="top"
    )
    model = k.Model(inputs, inner(layers.Dense(16, activation="relu", name="first")(inputs)))
    masks = tf_synflow.compute_masks(
        randomise(model), schedule=of(4), structure="channel", verbose=False
    )
    assert masks.info["structure"] == {"first/kernel": "channel"}
    assert masks["top/head/kernel"].any(0).sum() > 1


@each_keras
@pytest.mark.filterwarnings("ignore:Whole channels")  # as magnitude comes close to collapse
@pytest.mark.parametrize("scorer", ["synflow", "magnitude"])
def test_a_channel_goes_with_what_reads_it(k, scorer):
    """So that `shrink` before training leaves nothing behind, also before a normalization."""
    layers = k.layers
    model = k.Sequential(
        [
            k.Input((8, 8, 3)),
            layers.Conv2D(16, 3, name="first"),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.Conv2D(16, 3, name="second"),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.GlobalAveragePooling2D(),
            layers.Dense(5, name="head"),
        ]
    )
    schedule = tf_synflow.SynFlowPruningSchedule(10, 10)
    masks = tf_synflow.compute_masks(
        model, scorer=scorer, schedule=schedule, structure="channel", verbose=False
    )
    asked = quantities.kept_count(masks.size, 0.1)
    assert asked <= masks.kept
    if scorer == "synflow":  # to a channel with what reads it; magnitude comes close to collapse
        assert masks.kept < asked + 9 * 16 + 9 * 16
    first, second, head = (masks[f"{name}/kernel"] for name in ("first", "second", "head"))
    for leads, reads in ((first, second.any((0, 1))), (second, head)):
        np.testing.assert_array_equal(leads.any((0, 1, 2)), reads.any(-1))
    for kernel in (first, second):  # whole but for what is gone before
        live = kernel.any((0, 1, 3))
        assert (kernel[:, :, live] == kernel.any((0, 1, 2))).all()
    small = tf_synflow.shrink(tf_synflow.apply_masks(model, masks), verbose=False)
    small = tf_synflow.strip_pruning(small)
    assert sum(layer.count_params() for layer in small.layers if hasattr(layer, "filters")) == (
        first.sum() + second.sum() + first.any((0, 1, 2)).sum() + second.any((0, 1, 2)).sum()
    )


@each_keras
@pytest.mark.parametrize("scorer", ["synflow", "magnitude"])
def test_widths_are_multiples_or_below(k, scorer):
    model = mlp(k, units=(64, 48, 40, 8))
    widths = set()
    for compression in (2, 4, 8, 24):
        masks = tf_synflow.compute_masks(
            model, scorer=scorer, schedule=of(compression), structure="channel:8", verbose=False
        )
        assert set(masks.info["structure"].values()) == {"channel:8"}
        assert masks.kept >= quantities.kept_count(masks.size, 1 / compression)
        own = [int(mask.any(0).sum()) for name, mask in masks.items() if name != "d3/kernel"]
        assert all(width % 8 == 0 or width < 8 for width in own), own
        widths.update(own)
        read = [int(mask.any(1).sum()) for name, mask in masks.items() if name != "d0/kernel"]
        assert read == own
    assert {width for width in widths if width > 8} and min(widths) < 8


def test_every_round_comes_near_what_it_asks_for():
    """Else the last would have to remove what all have left, and close a layer for it."""
    model = models.build(
        "vgg11_bn", input_shape=(32, 32, 3), num_classes=10, keras=keras, seed=0, width=1 / 8
    )
    masks = tf_synflow.compute_masks(model, 100, structure="channel:2", verbose=False)
    assert masks.kept < 1.25 * quantities.kept_count(masks.size, 1 / 100)
    widths = [int(mask.any((0, 1, 2)).sum()) for mask in masks.values() if mask.ndim == 4]
    assert min(widths) >= 2, widths


@given(
    st.integers(2, 9), st.integers(1, 40), st.integers(1, 30), st.floats(0.01, 1), st.floats(0, 1)
)
def test_widths_are_multiples_where_all_channels_tie(multiple, width, rows, density, score):
    own = {"d/kernel": structures.parse(f"channel:{multiple}")}
    scores = {"d/kernel": np.full((rows, width), score)}
    masks = {"d/kernel": np.ones((rows, width), bool)}
    left = int(select(scores, masks, density, structures=own)["d/kernel"].any(0).sum())
    assert left < multiple or left % multiple == 0 or left == width


def test_the_last_channel_of_a_layer_stays_though_others_rank_above_it():
    """Magnitude takes the last channels of one layer first."""
    model = mlp(keras, units=(32, 32, 8))
    model.get_layer("d1").kernel.assign(1e-3 * model.get_layer("d1").kernel)
    masks = tf_synflow.compute_masks(
        model, 34.5, scorer="magnitude", structure="channel", verbose=False
    )
    assert 52 <= masks.kept <= 60
    tf_synflow.apply_masks(model, masks)  # which refuses a model without a path


@pytest.mark.parametrize("structure", ["channel", "channel:16", {"c*": "channel", "d*": "1x4"}])
@pytest.mark.parametrize("compression", [30, 100])
def test_a_large_channel_does_not_end_the_pruning_of_small_ones(structure, compression):
    """The mean of a 3x3 kernel's last channel is below those of fifty 1x1 channels."""
    keras.utils.set_random_seed(0)
    conv = functools.partial(keras.layers.Conv2D, activation="relu")
    model = keras.Sequential(
        [
            keras.Input((12, 12, 4)),
            *(conv(16, 3, name="c0"), conv(32, 1, name="c1"), conv(32, 3, name="c2")),
            *(conv(64, 1, name="c3"), keras.layers.GlobalAveragePooling2D()),
            *(keras.layers.Dense(48, "relu", name="d0"), keras.layers.Dense(12, name="d1")),
        ]
    )
    masks = tf_synflow.compute_masks(model, compression, structure=structure, verbose=False)
    asked = quantities.kept_count(masks.size, 1 / compression)
    assert asked <= masks.kept <= 1.1 * asked + 8


def test_more_than_asked_for_stays_with_a_warning():
    """One channel of each layer is more than that."""
    model = mlp(keras, units=(8, 8))
    with pytest.warns(UserWarning, match=r"4 weights were to stay and 17 do, for without the"):
        tf_synflow.compute_masks(model, 60, scorer="magnitude", structure="channel", verbose=False)


def test_channels_of_dense_units():
    assert Channels().groups((4, 3)).pooled(np.ones((4, 3))).tolist() == [[4, 4, 4]]
