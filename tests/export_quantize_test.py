"""Quantized exports: right within the number format, or refused with the reason."""

import os

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

import tf_synflow
from tf_synflow import compat, errors
from tf_synflow.entropy import floor_bytes
from tf_synflow.export import export_tflite, samples
from tf_synflow.export.signature import Signature
from tf_synflow.export.verify import TOLERANCES

KERASES = [pytest.param(keras, id="keras3"), pytest.param(tf_keras, id="tf_keras")]
QUANTIZED = ["float16", "dynamic", "int8"]


def network(k, zeros=0.9):
    model = k.Sequential(
        [
            k.Input((8, 8, 3), name="x"),
            k.layers.Conv2D(32, 3, activation="relu"),
            k.layers.Conv2D(32, 3, activation="relu"),
            k.layers.Flatten(),
            k.layers.Dense(64, activation="relu"),
            k.layers.Dense(10, name="y"),
        ]
    )
    rng = np.random.default_rng(0)
    values = model.get_weights()
    kept = [np.where(rng.random(v.shape) < zeros, 0, v) if v.ndim > 1 else v for v in values]
    model.set_weights([v if v.ndim > 1 else rng.normal(0, 0.1, v.shape) for v in kept])
    return model


def images(count=32, seed=1):
    return np.random.default_rng(seed).standard_normal((count, 8, 8, 3)).astype(np.float32)


def data_for(quantize, data=None):
    return {"representative_data": images() if data is None else data} if quantize == "int8" else {}


@pytest.mark.parametrize("k", KERASES)
@pytest.mark.parametrize("quantize", QUANTIZED)
def test_each_format_is_right_and_smaller_than_float32(k, quantize, tmp_path):
    path = tmp_path / "model.tflite"
    model = network(k, zeros=0.0)
    plain = export_tflite(model, tmp_path / "plain.tflite")
    report = export_tflite(model, path, quantize=quantize, **data_for(quantize))
    assert report.quantize == quantize
    assert path.stat().st_size == report.file_bytes < 0.6 * plain.file_bytes
    assert 0 < report.agreement.max_rel < TOLERANCES[quantize]
    assert set(report.agreement.runtimes) == {"Interpreter", "CompiledModel", "tf.lite"}
    dtypes = {tensor.dtype for tensor in report.weights if tensor.elements > 1024}
    assert dtypes == {"float16" if quantize == "float16" else "int8"}
    assert f": {quantize}, dense" in str(report)


def test_int8_keeps_float32_inputs_and_outputs(tmp_path):
    from ai_edge_litert.interpreter import Interpreter

    path = tmp_path / "model.tflite"
    report = export_tflite(network(keras), path, quantize="int8", representative_data=images())
    interpreter = Interpreter(str(path))
    ends = interpreter.get_input_details() + interpreter.get_output_details()
    assert {end["dtype"] for end in ends} == {np.float32}
    assert report.agreement.n_inputs == len(images())
    assert report.agreement.argmax > 0.8


@pytest.mark.parametrize(
    "data",
    [
        images(),
        [images()],
        {"x": images()},
        images().tolist(),
        tf.data.Dataset.from_tensor_slices((images(), np.zeros(32))).batch(8),
        tf.data.Dataset.from_tensor_slices(images()).batch(8).repeat(),
        ({"x": images(4, seed)} for seed in range(8)),
        lambda: ([image[None]] for image in images()),
    ],
    ids=[
        *("array", "list", "dict", "nested list", "dataset of pairs", "endless", "generator"),
        "function, as TFLite's converter takes it",
    ],
)
def test_representative_data_in_every_form(data):
    found = samples.representative(Signature(network(keras)).inputs, data)
    assert found["x"].shape[1:] == (8, 8, 3)
    assert found["x"].dtype == np.float32
    assert 32 <= len(found["x"]) <= samples.MOST_REPRESENTATIVE


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (None, "x_train"),
        (images()[..., :2], "have shape"),
        (images()[:0], "at least one"),
        (images()[0], r"a single one is x\[None\]"),
        (np.full((2, 8, 8, 3), np.nan), "not finite"),
        (np.where(np.arange(4)[:, None, None, None] == 2, np.inf, images(4)), "first in sample 2"),
        (np.zeros((4, 8, 8, 3)), "hold 0 throughout"),
        (1e38 * np.sign(images() - 0.5), r"hold 1e\+38; expected magnitudes up"),
        (np.full((2, 8, 8, 3), "a"), "expected finite numbers"),
        ([images(), images()], r"have shape .* Join a list of batches"),
        ([images(), images(4)], r"one array. Join a list of batches"),
        ([images(), [1.0]], "one array"),
        ({"z": images()}, "expected the inputs"),
        (iter([]), "no batch"),
        (iter([images()[..., :2]]), "have shape"),
        (7, "expected an array"),
        ("images.npy", r"Read it: numpy.load\(path\)"),
    ],
)
def test_representative_data_that_does_not_fit(data, words, tmp_path):
    path = tmp_path / "model.tflite"
    with pytest.raises(errors.DataError, match=words):
        export_tflite(network(keras), path, quantize="int8", representative_data=data)
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize(
    ("photos", "words"),
    [
        (np.linspace(0, 1, 8 * 48), "382 values that uint8 does not"),  # scaled, as for training
        (np.linspace(-3, 200, 8 * 48).round(), "values that uint8 does not, -3 for one"),
        (np.full(8 * 48, 7), "hold 7 throughout"),
    ],
)
def test_representative_data_of_an_integer_input(photos, words, tmp_path):
    inputs = keras.Input((4, 4, 3), dtype="uint8", name="photo")
    x = keras.layers.Rescaling(1 / 255)(inputs)
    x = keras.layers.Flatten()(keras.layers.Conv2D(4, 3)(x))
    model = keras.Model(inputs, keras.layers.Dense(3)(x))
    path = tmp_path / "model.tflite"
    options = {"quantize": "int8", "representative_data": photos.reshape(8, 4, 4, 3)}
    with pytest.raises(errors.DataError, match=words):
        tf_synflow.export_tflite(model, path, **options)
    assert not path.exists()
    random = np.random.RandomState(0).randint(0, 256, (16, 4, 4, 3))
    report = tf_synflow.export_tflite(
        model, path, quantize="int8", representative_data=random.astype("float32")
    )
    assert report.agreement.max_rel < 0.1


def test_representative_data_of_several_inputs(tmp_path):
    a, b = keras.Input((8,), name="a"), keras.Input((4,), name="b")
    x = keras.layers.Concatenate()([keras.layers.Dense(8)(a), keras.layers.Dense(8)(b)])
    model = keras.Model([a, b], keras.layers.Dense(3, name="y")(x))
    rng = np.random.default_rng(0)
    data = {"b": 100 * rng.standard_normal((20, 4)), "a": rng.standard_normal((20, 8))}
    path = tmp_path / "model.tflite"
    report = export_tflite(model, path, quantize="int8", representative_data=data)
    listed = [data["a"], data["b"]]
    again = export_tflite(model, path, quantize="int8", representative_data=listed)
    assert report.agreement.max_rel == again.agreement.max_rel < 0.1
    with pytest.raises(errors.DataError, match="differ in number"):
        export_tflite(model, path, quantize="int8", representative_data=[data["a"], data["b"][:3]])


def test_representative_data_without_int8_is_an_error(tmp_path):
    with pytest.raises(errors.DataError, match="quantize='int8' only"):
        export_tflite(network(keras), tmp_path / "m.tflite", representative_data=images())


@pytest.mark.parametrize("k", KERASES)
def test_a_loop_in_int8_is_refused_and_unrolled_it_is_right(k, tmp_path):
    """TFLite's calibrator takes the whole process down on a loop."""
    path = tmp_path / "model.tflite"
    data = np.random.default_rng(0).standard_normal((16, 4, 6)).astype(np.float32)

    def model(unroll):
        return k.Sequential([k.Input((4, 6)), k.layers.LSTM(8, unroll=unroll), k.layers.Dense(3)])

    with pytest.raises(errors.ExportError, match="unroll=True"):
        export_tflite(model(False), path, quantize="int8", representative_data=data)
    assert not path.exists()
    report = export_tflite(model(True), path, quantize="int8", representative_data=data)
    assert report.agreement.max_rel < TOLERANCES["int8"]


def test_a_refusal_says_why_and_auto_falls_back(tmp_path):
    path = tmp_path / "model.tflite"
    inputs = keras.Input((64,))
    model = keras.Model(inputs, keras.layers.Dense(64)(inputs))
    kernel, bias = model.get_weights()
    model.set_weights([np.where(np.random.default_rng(0).random((64, 64)) < 0.9, 0, kernel), bias])
    with pytest.raises(errors.ExportError, match="int8 weight with float activations"):
        export_tflite(model, path, quantize="dynamic", sparse=True, shrink=False)
    with pytest.raises(errors.ExportError, match="tflite-micro has no DENSIFY"):
        export_tflite(model, path, target="microcontroller", sparse=True, shrink=False)
    assert not path.exists()
    report = export_tflite(model, path, quantize="dynamic", shrink=False)
    assert report.encoding == "dense"
    assert "float activations" in str(report)
    assert list(report.dense_because.values()) == [
        "the default delegate cannot take a sparse int8 weight with float activations"
    ]


@pytest.mark.parametrize(
    ("quantize", "why"), [("float16", "unpacks no float16"), ("dynamic", "float activations")]
)
def test_a_microcontroller_gets_no_format_that_it_does_not_run(quantize, why, tmp_path):
    path = tmp_path / "model.tflite"
    with pytest.raises(errors.ExportError, match=f"{why}.*expected None or 'int8'"):
        export_tflite(network(keras), path, target="microcontroller", quantize=quantize)
    assert not path.exists()


def test_int8_says_what_stays_in_float(tmp_path):
    path = tmp_path / "model.tflite"
    inputs = keras.Input((8, 8, 3))
    outputs = keras.layers.Lambda(tf.sin)(keras.layers.Conv2D(4, 3)(inputs))
    options = {"quantize": "int8", "target": "microcontroller", "representative_data": images()}
    report = export_tflite(keras.Model(inputs, outputs), path, **options)
    assert any(note.endswith("int8 kernel: SIN") for note in report.notes)
    report = export_tflite(network(keras), path, shrink=False, **options)
    assert not report.notes
    assert {tensor.encoding for tensor in report.weights} == {"dense"}


def test_unstructured_zeros_in_a_float32_dense_layer_run_sparse(tmp_path):
    report = export_tflite(network(keras, 0.97), tmp_path / "model.tflite", shrink=False)
    kernels = {t.shape: (t.encoding, t.densified) for t in report.weights if len(t.shape) > 1}
    assert kernels[(64, 512)] == ("csr", False)
    assert kernels[(32, 3, 3, 32)] == ("csr", True)
    assert "csr (runs sparse)" in str(report)


@pytest.mark.parametrize("k", KERASES)
def test_shrinking_first_gives_a_smaller_file_with_the_same_outputs(k, tmp_path):
    schedule = tf_synflow.SynFlowPruningSchedule(compression=100, rounds=10)
    pruned = tf_synflow.prune_at_init(network(k, 0.0), schedule=schedule)
    path = tmp_path / "model.tflite"
    whole = export_tflite(pruned, path, shrink=False)
    small = export_tflite(pruned, path)
    assert small.dense_bytes < 0.5 * whole.dense_bytes
    assert small.agreement.max_rel < 1e-5
    assert any("shrunk" in note for note in small.notes)


@pytest.mark.parametrize("quantize", QUANTIZED)
def test_a_wrong_file_is_not_left(quantize, tmp_path):
    path = tmp_path / "model.tflite"
    path.write_bytes(b"what was here")
    with pytest.raises(errors.ExportError, match="differs from the Keras model"):
        export_tflite(network(keras), path, quantize=quantize, tolerance=1e-9, **data_for(quantize))
    assert path.read_bytes() == b"what was here"
    assert os.listdir(tmp_path) == ["model.tflite"]


def test_a_range_that_the_data_does_not_show_is_found_by_samples(tmp_path):
    path = tmp_path / "model.tflite"
    options = {"quantize": "int8", "representative_data": 0.01 * images()}
    with pytest.raises(errors.ExportError, match="on a sample input"):
        export_tflite(network(keras), path, samples=100 * images(4), **options)


def test_quantization_aware_training_keeps_the_zeros_into_the_int8_file(tmp_path):
    """TFMOT's prune-preserving scheme, on a stripped tf_keras model."""
    tfmot = compat.tfmot()
    schedule = tf_synflow.SynFlowPruningSchedule(compression=10, rounds=10)
    pruned = tf_synflow.prune_at_init(network(tf_keras, 0.0), schedule=schedule)
    final = tf_synflow.strip_pruning(pruned)
    zeros = sorted(int((v == 0).sum()) for v in final.get_weights() if v.ndim > 1)
    aware = tfmot.quantization.keras.quantize_apply(
        tfmot.quantization.keras.quantize_annotate_model(final),
        tfmot.experimental.combine.Default8BitPrunePreserveQuantizeScheme(),
    )
    aware.compile("adam", tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    labels = np.random.default_rng(0).integers(0, 10, 32)
    aware.fit(images(), labels, epochs=2, verbose=0)
    path = tmp_path / "model.tflite"
    report = export_tflite(aware, path, quantize="int8", samples=images(8, seed=5))
    kernels = [tensor for tensor in report.weights if len(tensor.shape) > 1]
    assert {tensor.dtype for tensor in kernels} == {"int8"}
    assert report.notes == (
        "shrink=True does nothing behind quantize_aware: shrink comes before it",
    )
    # A kept weight below half a step becomes zero as well.
    for trained, stored in zip(zeros, sorted(t.zeros for t in kernels), strict=True):
        assert trained <= stored <= trained + 5
    with pytest.raises(errors.DataError, match="learnt its ranges"):
        export_tflite(aware, path, quantize="int8", representative_data=images())
    with pytest.raises(errors.ExportError, match="int8 all the same"):
        export_tflite(aware, path, quantize="float16")


def test_the_entropy_floor():
    assert floor_bytes(np.zeros((8, 8), np.float32)) == 0
    assert floor_bytes(np.ones((8, 8), np.float32)) == 256
    half = np.repeat([0, 1], 32).astype(np.float16)
    assert floor_bytes(half) == (64 + 32 * 16) / 8
    # Kept values that are all alike cost nothing in int8 beyond their places.
    assert floor_bytes(half.astype(np.int8)) == 64 / 8


def _with_offset(offset, n_inputs=64):
    """A network whose output is `offset` and some units, and int8 of it."""
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Dense(64, "relu"), keras.layers.Dense(1)]
    model = keras.Sequential([keras.Input((20,)), *layers])
    model.layers[-1].bias.assign([offset])
    inputs = np.random.default_rng(0).standard_normal((n_inputs, 20), np.float32)
    return model, {"quantize": "int8", "representative_data": inputs}


@pytest.mark.parametrize(("offset", "is_said"), [(0, False), (300, True)])
def test_an_output_of_few_steps_is_said_to_be_so(offset, is_said, tmp_path):
    """Within the tolerance of its largest value, and yet coarse."""
    model, int8 = _with_offset(offset)
    report = export_tflite(model, tmp_path / "model.tflite", **int8)
    assert any("hardly follows" in note for note in report.agreement.notes) == is_said
    assert (report.agreement.unfollowed > 0.5) == is_said


def test_few_representative_samples_are_said_to_be(tmp_path):
    for count, is_said in ((1, True), (31, True), (32, False)):
        report = export_tflite(
            network(keras),
            tmp_path / "model.tflite",
            quantize="int8",
            representative_data=images(count),
        )
        assert (f"representative_data hold {count}, and" in str(report)) == is_said


def test_representative_data_are_taken_from_all_over():
    rows = np.arange(5000, dtype=np.float32)[:, np.newaxis]
    inputs = Signature(keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])).inputs
    (found,) = samples.representative(inputs, rows).values()
    assert len(found) == samples.MOST_REPRESENTATIVE
    assert (found[0], found[-1]) == (0, 4999)
    assert set(np.diff(found[:, 0])) == {4, 5}


def test_dynamic_says_when_nothing_is_large_enough(tmp_path):
    for units, is_said in ((20, True), (64, False)):
        model = keras.Sequential([keras.Input((20,)), keras.layers.Dense(units)])
        report = export_tflite(model, tmp_path / "model.tflite", quantize="dynamic")
        assert any("all is left in float32" in note for note in report.notes) == is_said


def test_an_output_no_nearer_than_a_constant_is_refused(tmp_path):
    path = tmp_path / "model.tflite"
    model, int8 = _with_offset(1e5)
    with pytest.raises(errors.ExportError, match="a constant would do as well") as said:
        export_tflite(model, path, **int8)
    assert "take an offset out" in str(said.value)
    assert not path.exists()
    # float32 has the steps; few inputs cannot tell; and who wants it may have it.
    assert export_tflite(model, path).agreement.unfollowed < 0.1
    model, few = _with_offset(1e5, n_inputs=8)
    assert export_tflite(model, path, **few).agreement.unfollowed == 1
    assert export_tflite(model, path, **int8, tolerance=1).agreement.unfollowed == 1


@pytest.mark.parametrize("quantize", [None, "float16", "dynamic", "int8"])
def test_a_constant_output_is_followed(quantize, tmp_path):
    """What float32 rounds is no variation."""
    model, int8 = _with_offset(3.0)
    model.layers[0].set_weights([1e-9 * w for w in model.layers[0].get_weights()])
    data = int8["representative_data"] if quantize == "int8" else None
    report = export_tflite(
        model, tmp_path / "model.tflite", quantize=quantize, representative_data=data
    )
    assert report.agreement.unfollowed is None
