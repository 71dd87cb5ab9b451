"""Model files: both Kerases are read, what is wrong is said, nothing half-written is left."""

import keras
import numpy as np
import pytest
import tf_keras

import tf_synflow
from tf_synflow.cli import model_files
from tf_synflow.errors import ModelError, OutputError


def small(module):
    return module.Sequential(
        [
            module.Input((6,)),
            module.layers.Dense(5, activation="relu", name="first"),
            module.layers.Dense(3, name="last"),
        ]
    )


@pytest.mark.parametrize(
    ("k", "name"),
    [(tf_keras, "m.keras"), (tf_keras, "m.h5"), (tf_keras, "m"), (keras, "m.keras")],
)
@pytest.mark.parametrize("pruned", [False, True])
def test_saved_models_come_back(k, name, pruned, tmp_path):
    model = small(k)
    if pruned:
        model = tf_synflow.prune_at_init(model, 3, verbose=False)
    model_files.save(model, str(tmp_path / name))
    again = model_files.load(str(tmp_path / name))
    x = np.ones((2, 6), np.float32)
    np.testing.assert_allclose(again.predict(x, verbose=0), model.predict(x, verbose=0), rtol=1e-6)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    if pruned:
        assert tf_synflow.masks_of(again) == tf_synflow.masks_of(model)


@pytest.mark.parametrize("name", ["m.keras", "m.h5"])
def test_keras_3_files_are_told_apart(name, tmp_path):
    model = small(keras)
    model.save(tmp_path / name)
    again = model_files.load(str(tmp_path / name))
    assert isinstance(again, keras.Model)
    np.testing.assert_array_equal(again.get_weights()[0], model.get_weights()[0])


@pytest.mark.parametrize("name", ["m.keras", "m.h5"])
def test_truncated_files(name, tmp_path):
    path = tmp_path / name
    small(tf_keras).save(path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ModelError, match="could not be read as a model"):
        model_files.load(str(path))


def test_other_files(tmp_path):
    (tmp_path / "notes.keras").write_text("no model")
    (tmp_path / "folder").mkdir()
    tf_synflow.Masks({"d/kernel": np.ones((2, 2), bool)}).save(tmp_path / "masks.npz")
    for name in ("notes.keras", "folder", "masks.npz"):
        for load in (model_files.load, tf_synflow.load_model):
            with pytest.raises(ModelError, match=name):
                load(str(tmp_path / name))
    with pytest.raises(OutputError, match="does not exist"):
        model_files.load(str(tmp_path / "nowhere.h5"))


def test_outputs_are_checked_first(tmp_path):
    taken = tmp_path / "taken.keras"
    taken.write_text("precious")
    suffixes = model_files.SUFFIXES
    model_files.check_free(str(tmp_path / "new.keras"), suffixes)
    with pytest.raises(OutputError, match="exists already"):
        model_files.check_free(str(taken), suffixes)
    with pytest.raises(OutputError, match="'.onnx'"):
        model_files.check_free(str(tmp_path / "m.onnx"), suffixes)
    with pytest.raises(OutputError, match="missing or not writable"):
        model_files.check_free(str(tmp_path / "no" / "m.keras"), suffixes)


def test_a_failed_save_leaves_nothing(tmp_path):
    occupied = tmp_path / "m.h5"
    occupied.mkdir()
    with pytest.raises(OutputError, match="is as it was"):
        model_files.save(small(tf_keras), str(occupied))
    assert list(tmp_path.iterdir()) == [occupied]
    assert list(occupied.iterdir()) == []
