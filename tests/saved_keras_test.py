"""Pruned Keras 3 models saved and loaded, cloned and exported, here and in a fresh process."""

import json

import keras
import numpy as np
import processes
import pytest
import tensorflow as tf
import tf_keras
from keras_models import KINDS, LOSS, MODELS, inputs_of, moved, outputs, some_masks, train
from small_models import images, masked_and_not_zero, mlp, zoo
from watching import Interrupted, stop_in

import tf_synflow
from tf_synflow import Masks, errors, inject
from tf_synflow.flow.weights import all_weights


@pytest.mark.parametrize("kind", KINDS)
def test_saved_loaded_cloned_exported(kind, tmp_path):
    model = MODELS[kind]()
    masks = some_masks(model)
    pruned = inject.inject(model, masks)
    train(pruned, eagerly=True)
    expected = outputs(pruned)

    pruned.save(tmp_path / "model.keras")
    loaded = tf_synflow.load_model(tmp_path / "model.keras")
    assert isinstance(loaded, type(model))
    assert tf_synflow.masks_of(loaded) == masks and list(all_weights(loaded)) == list(
        all_weights(model)
    )
    np.testing.assert_array_equal(outputs(loaded), expected)
    iterations = [int(one.optimizer.iterations.numpy()) for one in (pruned, loaded)]
    assert iterations == [2, 2]
    loaded.run_eagerly = False
    loaded.fit(inputs_of(model), np.arange(8) % 3, verbose=0)
    assert masked_and_not_zero(loaded, masks) == 0 and moved(pruned, loaded, masks)

    config = pruned.get_config()
    cloned = type(pruned).from_config(json.loads(json.dumps(config)))
    cloned(inputs_of(model))
    assert tf_synflow.masks_of(cloned) == masks and masked_and_not_zero(cloned, masks) == 0
    cloned.set_weights(pruned.get_weights())
    np.testing.assert_array_equal(outputs(cloned), expected)

    everything = inject.inject(model, Masks({n: np.ones(m.shape, bool) for n, m in masks.items()}))
    pruned.save_weights(tmp_path / "model.weights.h5")
    everything.load_weights(tmp_path / "model.weights.h5")
    assert tf_synflow.masks_of(everything) == masks
    np.testing.assert_array_equal(outputs(everything), expected)

    pruned.export(tmp_path / "saved_model", verbose=False)
    exported = tf.saved_model.load(str(tmp_path / "saved_model"))
    received = tf.nest.flatten(exported.serve(inputs_of(model)))
    np.testing.assert_allclose(received[0], expected, rtol=1e-5, atol=1e-6)


def test_clone_model_keeps_masks():
    model = zoo(keras)
    masks = some_masks(model)
    pruned = inject.inject(model, masks)
    for recursive in (False, True):
        cloned = keras.models.clone_model(pruned, recursive=recursive)
        assert tf_synflow.masks_of(cloned) == masks
        assert masked_and_not_zero(cloned, masks) == 0


def test_backup_and_restore_and_checkpoints(tmp_path):
    model = mlp(keras, head="softmax")
    masks = some_masks(model)
    x, y = images(model)

    def fit(folder, *stop):
        pruned = inject.inject(model, masks)
        pruned.compile(keras.optimizers.Adam(0.01), LOSS, jit_compile=False)
        callbacks = [
            keras.callbacks.BackupAndRestore(str(tmp_path / folder)),
            keras.callbacks.ModelCheckpoint(str(tmp_path / "best.keras")),
            keras.callbacks.ModelCheckpoint(
                str(tmp_path / "best.weights.h5"), save_weights_only=True
            ),
            *stop,
        ]
        pruned.fit(x, y, epochs=3, shuffle=False, verbose=0, callbacks=callbacks)
        return pruned

    with pytest.raises(Interrupted):
        fit("broken", stop_in(keras, 2))
    resumed, whole = fit("broken"), fit("whole")
    assert masked_and_not_zero(resumed, masks) == 0
    np.testing.assert_allclose(resumed(x), whole(x), rtol=1e-6)
    best = tf_synflow.load_model(tmp_path / "best.keras")
    np.testing.assert_array_equal(best(x), whole(x))
    weights = inject.inject(model, masks)
    weights.load_weights(tmp_path / "best.weights.h5")
    np.testing.assert_array_equal(weights(x), whole(x))
    assert tf_synflow.masks_of(best) == tf_synflow.masks_of(weights) == masks


IN_A_FRESH_PROCESS = """
import json, sys
import numpy as np
import keras_models, tf_synflow
from small_models import masked_and_not_zero
folder, *names = sys.argv[1:]
report = {}
for name in names:
    model = tf_synflow.load_model(f"{folder}/{name}")
    masks = tf_synflow.masks_of(model)
    masks.save(f"{folder}/{name}.masks")
    x = keras_models.inputs_of(model)
    outputs = np.array(model(x)).tolist()
    if name.endswith(".h5"):  # Keras mixes up the variables of its optimizer, pruned or not
        model.compile("sgd", "sparse_categorical_crossentropy")
    model.run_eagerly = False
    model.fit(x, np.arange(8) % 3, verbose=0)
    report[name] = [outputs, masked_and_not_zero(model, masks)]
print("REPORT" + json.dumps(report))
"""


@pytest.mark.slow
def test_loaded_in_a_fresh_process(tmp_path):
    expected = {}
    for kind in ("shared", "subclassed", "lazy", "trainer", "constructed"):
        model = MODELS[kind]()
        pruned = inject.inject(model, some_masks(model))
        train(pruned, eagerly=True)
        for suffix in ("keras", "h5") if kind == "shared" else ("keras",):
            pruned.save(tmp_path / f"{kind}.{suffix}")
            expected[f"{kind}.{suffix}"] = outputs(pruned), some_masks(model)
    report = processes.reported(IN_A_FRESH_PROCESS, tmp_path, *expected)
    assert list(report) == list(expected)
    for name, (received, not_zero) in report.items():
        np.testing.assert_allclose(received, expected[name][0], rtol=1e-5, atol=1e-6)
        assert not_zero == 0
        assert Masks.load(tmp_path / f"{name}.masks") == expected[name][1]


def test_load_model_knows_either_keras(tmp_path):
    for k in (keras, tf_keras):
        model = mlp(k)
        pruned = inject.inject(model, some_masks(model))
        for name in ("model.keras", "model.h5"):
            path = tmp_path / f"{k.__name__}_{name}"
            pruned.save(path)
            loaded = tf_synflow.load_model(path)
            assert type(loaded).__module__.split(".")[0] == k.__name__
            assert tf_synflow.masks_of(loaded) == some_masks(model)
    folder = tmp_path / "unzipped"
    pruned = inject.inject(mlp(keras), some_masks(mlp(keras)))
    pruned.save(folder, zipped=False)
    assert tf_synflow.masks_of(tf_synflow.load_model(folder)) == some_masks(mlp(keras))
    with pytest.raises(errors.OutputError, match="does not exist"):
        tf_synflow.load_model(tmp_path / "nothing.keras")


def test_weights_of_other_masks_are_refused(tmp_path):
    model = mlp(keras)
    inject.inject(model, some_masks(model)).save_weights(tmp_path / "two.weights.h5")
    one = inject.inject(model, Masks({"d0/kernel": np.eye(16, 12) == 0}))
    with pytest.raises(ValueError, match="architecture"):
        other = mlp(keras, units=(12, 8, 4), use_bias=True)
        masks = {**some_masks(other), "d0/bias": np.ones(12, bool)}
        inject.inject(other, Masks(masks)).load_weights(tmp_path / "two.weights.h5")
    assert masked_and_not_zero(one, tf_synflow.masks_of(one)) == 0


def test_a_saved_model_for_serving_is_no_model_that_trains(tmp_path):
    pruned = tf_synflow.apply_masks(mlp(keras), some_masks(mlp(keras)))
    pruned.export(tmp_path / "served", verbose=False)
    with pytest.raises(errors.ModelError, match="for serving.*model.save"):
        tf_synflow.load_model(tmp_path / "served")
