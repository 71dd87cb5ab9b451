"""Several outputs and inputs: what masks cut off is refused, or said."""

import warnings

import numpy as np
import pytest
from small_models import KERASES, randomise

import tf_synflow
from tf_synflow import errors

each_keras = pytest.mark.parametrize("k", KERASES)


def two_by_two(k):
    """An image and a table of numbers in, a label and an amount out."""
    layers = k.layers
    image, table = k.Input((6, 6, 2), name="image"), k.Input((3,), name="table")
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3, name="conv")(image))
    x = layers.Concatenate()([x, layers.Dense(4, activation="relu", name="fc")(table)])
    x = layers.Dense(6, activation="relu", name="mix")(x)
    heads = [layers.Dense(3, name="label")(x), layers.Dense(1, name="amount")(x)]
    return randomise(k.Model([image, table], heads))


def masks_of(model, *empty):
    masks = tf_synflow.compute_masks(model, 1)
    return {name: np.zeros_like(mask) if name in empty else mask for name, mask in masks.items()}


@each_keras
def test_an_output_that_nothing_reaches(k):
    model = two_by_two(k)
    masks = masks_of(model, "amount/kernel")
    with pytest.raises(
        errors.LayerCollapseError, match=r"no path to the output 'amount' \(empty: amount/kernel\)"
    ):
        tf_synflow.apply_masks(model, masks)
    summary = tf_synflow.summary(tf_synflow.apply_masks(model, masks, allow_collapse=True))
    assert summary.flow_left and summary.to_dict()["dead_outputs"] == ["amount"]
    assert "NO FLOW TO amount" in str(summary) and not summary.dead_inputs


@each_keras
def test_an_input_that_is_ignored(k):
    model = two_by_two(k)
    with pytest.warns(UserWarning, match="no path from the input 'table'") as said:
        pruned = tf_synflow.apply_masks(model, masks_of(model, "fc/kernel"))
    assert said[0].filename == __file__
    assert "NO FLOW FROM table" in str(tf_synflow.summary(pruned))
    images = np.ones((2, 6, 6, 2), "float32")
    found = [pruned([images, np.full((2, 3), value, "float32")]) for value in (0, 5)]
    np.testing.assert_array_equal(found[0][0], found[1][0])


@each_keras
def test_nothing_is_said_where_all_flows(k):
    model = two_by_two(k)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pruned = tf_synflow.prune_at_init(model, 2)
    text = str(tf_synflow.summary(pruned))
    assert text.endswith("flow is left from input to output")


@each_keras
def test_ends_that_are_cut_off_in_the_dense_model_are_not_the_masks_doing(k):
    inputs, other = k.Input((4,), name="one"), k.Input((4,), name="other")
    x = k.layers.Dense(3, name="fc")(inputs)
    frozen = k.layers.Dense(2, name="zeros", kernel_initializer="zeros")(other)
    model = k.Model([inputs, other], [x, frozen])
    masks = {"fc/kernel": np.eye(4, 3, dtype=bool)}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tf_synflow.apply_masks(model, masks)
