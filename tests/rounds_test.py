"""Too few rounds: a network that collapses on the way is told from one that cannot be scored."""

import keras
import pytest
from small_models import mlp

import tf_synflow
from tf_synflow import errors


def test_zeros_are_not_ranked_after_a_collapse():
    """All that is left scores zero, though something is left of every weight."""
    model = mlp(keras, units=(16, 128, 128, 16), use_bias=False)
    schedule = tf_synflow.SynFlowPruningSchedule(200, rounds=2)
    for way in ({}, {"ties": "reference"}):
        with pytest.raises(errors.LayerCollapseError, match="rounds=100"):
            tf_synflow.compute_masks(model, schedule=schedule, **way)


def test_a_collapse_between_rounds_is_named_and_more_rounds_help():
    model = mlp(keras, units=(4, 256, 256, 4), use_bias=False)
    few = tf_synflow.SynFlowPruningSchedule(2000, rounds=2)
    with pytest.raises(errors.LayerCollapseError, match=r"empty: d2/kernel.*rounds=100"):
        tf_synflow.compute_masks(model, schedule=few)
    masks = tf_synflow.compute_masks(model, 2000)
    assert all(mask.any() for mask in masks.values())
