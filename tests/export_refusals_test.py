"""What export_tflite refuses, why, and that no file is left of it."""

import os
import pathlib
import tempfile

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from sparse_models import mlp, resnet

from tf_synflow import errors
from tf_synflow.export import export_tflite

KERASES = [pytest.param(keras, id="keras3"), pytest.param(tf_keras, id="tf_keras")]


def test_sparse_true_refuses_a_model_with_nothing_to_encode(tmp_path):
    with pytest.raises(errors.ExportError, match="no tensor can be encoded"):
        export_tflite(mlp(keras, 0.0), tmp_path / "model.tflite", sparse=True)
    assert not os.listdir(tmp_path)


def test_sparse_true_points_to_the_file_that_falls_back(tmp_path):
    with pytest.raises(errors.ExportError, match="Or take sparse='auto', which falls back"):
        export_tflite(
            mlp(keras), tmp_path / "model.tflite", quantize="float16", sparse=True, tolerance=1e-9
        )
    assert not os.listdir(tmp_path)


def test_an_op_that_tflite_does_not_have_is_named(tmp_path):
    class Erfinv(keras.layers.Layer):
        def call(self, x):
            return tf.math.erfinv(tf.tanh(x))

    model = keras.Sequential([keras.Input((4,)), Erfinv(name="inverse")])
    with pytest.raises(errors.ExportError, match=r"no builtin for Erfinv \(.*inverse/.*Erfinv\);"):
        export_tflite(model, tmp_path / "model.tflite")
    assert not os.listdir(tmp_path)


def test_ranges_too_far_apart_for_xnnpack_are_said_to_be(tmp_path):
    """Behind a unit that is zero throughout, whose range is as narrow as TFLite makes one."""
    inputs = keras.Input((8,))
    zero = keras.layers.Dense(8, "relu", kernel_initializer=keras.initializers.Constant(-1))(inputs)
    outputs = keras.layers.Add()([keras.layers.Dense(3)(inputs), keras.layers.Dense(3)(zero)])
    images = np.random.RandomState(0).random_sample((16, 8)).astype("float32")
    with pytest.raises(errors.ExportError, match="XNNPACK takes no int8 ranges"):
        export_tflite(
            keras.Model(inputs, outputs),
            tmp_path / "x.tflite",
            quantize="int8",
            representative_data=images,
            shrink=False,
        )
    assert not os.listdir(tmp_path)


def test_outputs_that_have_vanished_are_said_to_be(tmp_path):
    stack = [keras.Input((8,)), *(keras.layers.Dense(8, "relu") for _ in range(9))]
    model = keras.Sequential([*stack, keras.layers.Dense(3)])
    for layer in model.layers:
        layer.kernel.assign(0.01 * np.abs(layer.kernel.numpy()))
    images = np.random.RandomState(0).random_sample((4, 8)).astype("float32")
    with pytest.raises(errors.ExportError, match="pruned and not trained yet"):
        export_tflite(
            model,
            tmp_path / "x.tflite",
            quantize="int8",
            representative_data=images,
            tolerance=1e-9,
        )


@pytest.mark.parametrize("k", KERASES)
def test_a_failed_comparison_leaves_the_older_file(k, tmp_path):
    path = tmp_path / "model.tflite"
    export_tflite(mlp(k), path)
    before = path.read_bytes()
    with pytest.raises(errors.ExportError, match="differs from the Keras model"):
        export_tflite(resnet(k), path, tolerance=0.0)
    broken = mlp(k)
    broken.layers[-1].bias.assign(np.full(10, np.nan))
    with pytest.raises(errors.ExportError, match="NaN"):
        export_tflite(broken, path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["model.tflite"]


@pytest.mark.parametrize("k", KERASES)
@pytest.mark.parametrize("beside", [False, True])
def test_an_output_that_is_the_input_is_refused_with_the_reason(k, beside, tmp_path):
    inputs = k.Input((8,))
    same = k.layers.Dropout(0.5)(inputs)
    model = k.Model(inputs, [same, k.layers.Dense(3)(inputs)] if beside else same)
    with pytest.raises(errors.ExportError, match="returns an input as it came") as said:
        export_tflite(model, tmp_path / "model.tflite")
    assert ("no op at all" in str(said.value)) != beside
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("k", KERASES)
def test_an_output_that_is_returned_twice(k, tmp_path):
    inputs = k.Input((4,))
    outputs = k.layers.Dense(3)(inputs)
    model = k.Model(inputs, [outputs, k.layers.Dropout(0.5)(outputs)])
    with pytest.raises(errors.ExportError, match="holds once what a model returns twice"):
        export_tflite(model, tmp_path / "model.tflite")
    assert not os.listdir(tmp_path)


def test_paths_that_cannot_be_written(tmp_path):
    with pytest.raises(errors.OutputError, match="is a folder"):
        export_tflite(mlp(keras), tmp_path)
    with pytest.raises(errors.OutputError, match="no folder"):
        export_tflite(mlp(keras), tmp_path / "missing" / "model.tflite")
    with pytest.raises(errors.OutputError, match="received None; expected the name of a file"):
        export_tflite(mlp(keras), None)
    for name in ("long" * 100, "nul\0"):
        with pytest.raises(errors.OutputError, match="can be no file's name"):
            export_tflite(mlp(keras), tmp_path / name)
    assert not os.listdir(tmp_path)


@pytest.mark.skipif(not pathlib.Path("/dev/full").exists(), reason="needs Linux")
def test_a_write_that_fails_leaves_nothing(tmp_path, monkeypatch):
    path, make = tmp_path / "model.tflite", tempfile.mkdtemp

    def make_full(suffix=None, prefix=None, dir=None):
        # The disk is full for real: the temporary file that export opens is the full device.
        folder = make(suffix, prefix, dir)
        if dir == tmp_path:
            pathlib.Path(folder, path.name).symlink_to("/dev/full")
        return folder

    monkeypatch.setattr(tempfile, "mkdtemp", make_full)
    with pytest.raises(errors.OutputError, match="No space left"):
        export_tflite(mlp(keras), path)
    assert not os.listdir(tmp_path)


def test_a_full_temporary_folder(tmp_path, monkeypatch):
    def save(*_):  # TensorFlow's error, which is no OSError
        raise tf.errors.ResourceExhaustedError(None, None, "variables: No space left on device")

    monkeypatch.setattr("tf_synflow.export.convert._save", save)
    with pytest.raises(errors.OutputError, match="No space left.*TMPDIR"):
        export_tflite(mlp(keras), tmp_path / "model.tflite")
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"sparse": "yes"}, errors.UnknownNameError),
        ({"sparse": 1}, errors.UnknownNameError),
        ({"quantize": "int4"}, errors.UnknownNameError),
        ({"quantize": True}, errors.UnknownNameError),
        ({"target": "gpu"}, errors.UnknownNameError),
        ({"target": ["wasm"]}, errors.UnknownNameError),
        ({"shrink": "no"}, errors.UnknownNameError),
        ({"seed": "a"}, errors.QuantityError),
        ({"seed": None}, errors.QuantityError),
        ({"tolerance": -1.0}, errors.QuantityError),
        ({"tolerance": float("nan")}, errors.QuantityError),
        ({"tolerance": "1e-3"}, errors.QuantityError),
    ],
)
def test_options_out_of_range(options, error, tmp_path):
    with pytest.raises(error, match="expected"):
        export_tflite(mlp(keras), tmp_path / "model.tflite", **options)


@pytest.mark.parametrize("thing", ["model", np.ones(3), None])
def test_what_is_no_model(thing, tmp_path):
    with pytest.raises(errors.ModelError, match="expected a Keras model"):
        export_tflite(thing, tmp_path / "model.tflite")


@pytest.mark.parametrize("k", KERASES)
def test_an_unbuilt_model(k, tmp_path):
    with pytest.raises(errors.ModelError, match="no defined inputs"):
        export_tflite(k.Sequential([k.layers.Dense(3)]), tmp_path / "model.tflite")


def test_samples_beyond_the_vocabulary(tmp_path):
    inputs = tf_keras.Input((5,), dtype="int32", name="tokens")
    x = tf_keras.layers.Flatten()(tf_keras.layers.Embedding(20, 4)(inputs))
    model = tf_keras.Model(inputs, tf_keras.layers.Dense(3)(x))
    with pytest.raises(errors.DataError, match="on a sample input.*tokens within its vocabulary"):
        export_tflite(model, tmp_path / "model.tflite", samples=np.full((2, 5), 20))
    assert not os.listdir(tmp_path)


def test_sizes_left_open_that_the_converter_cannot_take(tmp_path):
    inputs = keras.Input((None, None, 3))
    x = keras.layers.UpSampling2D()(keras.layers.Conv2D(4, 3, padding="same")(inputs))
    model = keras.Model(inputs, keras.layers.Conv2D(1, 1)(x))
    with pytest.raises(errors.ExportError, match="sizes that the model leaves open"):
        export_tflite(model, tmp_path / "model.tflite")
    assert not os.listdir(tmp_path)
