"""Layer-collapse on a real network: none under SynFlow at 10^5, magnitude is caught (fig. 1)."""

import numpy as np
import pytest
import tf_keras

import tf_synflow
from tf_synflow import errors
from tf_synflow.train import models

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def vgg16():
    return models.build(
        "vgg16_bn", input_shape=(32, 32, 3), num_classes=100, keras=tf_keras, seed=0
    )


def test_synflow_leaves_flow_at_a_compression_of_100_000(vgg16):
    masks = tf_synflow.compute_masks(vgg16, 1e5, verbose=False)
    assert masks.kept == masks.size - int((1 - 1e-5) * masks.size) == 148
    assert all(mask.any() for mask in masks.values())
    found = tf_synflow.summary(tf_synflow.apply_masks(vgg16, masks))
    assert found.flow_left and not found.empty_layers
    assert found.effective == found.kept == 148
    # One flow runs through every layer (paper, section 4).
    assert np.ptp([row.log2_score for row in found.rows]) < 1e-9


def test_magnitude_collapses_at_1000_and_is_refused(vgg16):
    with pytest.raises(errors.LayerCollapseError, match=r"empty: .*conv13/kernel"):
        tf_synflow.prune_at_init(vgg16, 1000, scorer="magnitude")
    pruned = tf_synflow.prune_at_init(vgg16, 1000, scorer="magnitude", allow_collapse=True)
    found = tf_synflow.summary(pruned)
    assert found.collapsed and "LAYER-COLLAPSE" in str(found)
