"""A copy of a model goes by the model's names, and says what it cannot copy."""

import pytest
from small_models import KERASES

import tf_synflow
from tf_synflow import errors

HALF = tf_synflow.SynFlowPruningSchedule(2, rounds=3)


@pytest.mark.parametrize("k", KERASES)
def test_numbered_names_are_those_of_the_model(k):
    """Of a layer whose configuration holds none, and of the layers that it makes itself."""

    class Twice(k.layers.Layer):
        def __init__(self, factor=2.0):
            super().__init__()
            self.factor, self.dense = factor, k.layers.Dense(6)

        def call(self, x):
            return self.factor * self.dense(x)

        def get_config(self):
            return {"factor": self.factor}

        def compute_output_shape(self, shape):
            return (*shape[:-1], 6)

    inputs = k.Input((4,))
    model = k.Model(inputs, k.layers.Dense(3)(Twice()(inputs)))
    masks = tf_synflow.compute_masks(model, schedule=HALF)
    pruned = tf_synflow.apply_masks(model, masks)
    assert list(tf_synflow.masks_of(pruned)) == list(masks)
    again = tf_synflow.apply_masks(model, tf_synflow.masks_of(pruned))
    assert tf_synflow.masks_of(again) == masks
    stripped = tf_synflow.strip_pruning(pruned)
    small = tf_synflow.shrink(stripped, verbose=False)
    for made in (stripped, small):
        assert [layer.name for layer in made.layers] == [layer.name for layer in model.layers]
    assert not tf_synflow.shrink_report(stripped, small).gone


@pytest.mark.parametrize("k", KERASES)
def test_a_layer_without_a_configuration_is_said(k):
    class Bare(k.layers.Layer):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def call(self, x):
            return self.inner(x)

    inputs = k.Input((4,))
    model = k.Model(inputs, k.layers.Dense(3)(Bare(k.layers.Dense(6))(inputs)))
    with pytest.raises(errors.ModelError, match="Implement get_config"):
        tf_synflow.prune_at_init(model, schedule=HALF)
