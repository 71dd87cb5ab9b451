"""SynFlowPruningSchedule as TFMOT knows a schedule."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from small_models import images, residual

from tf_synflow import compat, errors
from tf_synflow.densities import densities
from tf_synflow.schedule import SynFlowPruningSchedule

sparsity = compat.tfmot().sparsity.keras


def test_is_a_tfmot_schedule_that_never_fires():
    schedule = SynFlowPruningSchedule(compression=4)
    assert isinstance(schedule, sparsity.PruningSchedule)
    for step in (tf.constant(0), tf.constant(10**6, tf.int64)):
        fires, goal = schedule(step)
        assert tf.is_tensor(fires) and fires.dtype == tf.bool and not bool(fires)
        assert tf.is_tensor(goal) and float(goal) == 0.75


@pytest.mark.parametrize("kind", ["exponential", "linear"])
def test_knows_the_density_of_each_round(kind):
    assert SynFlowPruningSchedule(50, 7, kind).densities() == densities(50, 7, kind)


def test_configuration_survives_tf_keras_serialization():
    schedule = SynFlowPruningSchedule(12.5, rounds=3, kind="linear")
    for loaded in (
        SynFlowPruningSchedule.from_config(schedule.get_config()["config"]),
        tf_keras.utils.deserialize_keras_object(tf_keras.utils.serialize_keras_object(schedule)),
        tf_keras.utils.legacy.deserialize_keras_object(schedule.get_config()),
    ):
        assert type(loaded) is SynFlowPruningSchedule
        assert loaded.get_config() == schedule.get_config()


@pytest.mark.parametrize("bad", [{"compression": 0.5}, {"rounds": 0}, {"rounds": 1.5}])
def test_out_of_range(bad):
    with pytest.raises(errors.QuantityError):
        SynFlowPruningSchedule(**bad)


def test_unknown_kind():
    with pytest.raises(errors.UnknownNameError):
        SynFlowPruningSchedule(kind="cubic")


def test_masks_stay_under_tfmots_own_wrapper_and_its_callback():
    model = sparsity.prune_low_magnitude(
        tf_keras.Sequential([tf_keras.Input((8,)), tf_keras.layers.Dense(4, name="d")]),
        pruning_schedule=SynFlowPruningSchedule(4),
    )
    (variable, mask, _), *_ = model.layers[-1].pruning_vars
    wanted = np.arange(32).reshape(8, 4) % 4 == 0
    mask.assign(wanted.astype("float32"))
    variable.assign(variable * mask)
    model.compile("sgd", "mse")
    model.fit(
        np.ones((16, 8)), np.ones((16, 4)), batch_size=4, epochs=2, verbose=0,
        callbacks=[sparsity.UpdatePruningStep()],
    )  # fmt: skip
    np.testing.assert_array_equal(mask.numpy() == 1, wanted)
    stripped = sparsity.strip_pruning(model)
    assert not stripped.layers[-1].get_weights()[0][~wanted].any()


def test_tfmots_own_schedule_would_overwrite_them():
    """Why the class exists; fails when TFMOT's ConstantSparsity has learnt to leave masks alone."""
    model = residual(tf_keras)
    wrapped = sparsity.prune_low_magnitude(
        model.get_layer("head"), pruning_schedule=sparsity.ConstantSparsity(0.5, 0, frequency=1)
    )
    model = tf_keras.Sequential([tf_keras.Input((6,)), wrapped])
    mask = wrapped.pruning_vars[0][1]
    mask.assign(np.zeros(mask.shape))
    model.compile("sgd", "sparse_categorical_crossentropy")
    model.fit(*images(model), verbose=0, callbacks=[sparsity.UpdatePruningStep()])
    assert mask.numpy().any()
