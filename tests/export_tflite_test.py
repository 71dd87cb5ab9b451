"""export_tflite end to end: both Kerases, real files, the real runtime."""

import json
import logging
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from sparse_models import cnn, mlp, resnet, sparsified

import tf_synflow
from tf_synflow import errors
from tf_synflow.export import export_tflite
from tf_synflow.export.emitted import read_tensors

KERASES = [pytest.param(keras, id="keras3"), pytest.param(tf_keras, id="tf_keras")]


def kernel_zeros(model):
    kernels = [layer.get_weights()[0] for layer in model.layers if hasattr(layer, "kernel")]
    return sum(int(np.count_nonzero(kernel == 0)) for kernel in kernels)


@pytest.mark.parametrize("k", KERASES)
@pytest.mark.parametrize("build", [mlp, cnn, resnet])
def test_both_encodings_agree_and_hold_the_models_zeros(k, build, tmp_path):
    model = build(k)
    before = [value.copy() for value in model.get_weights()]
    sizes = {}
    for sparse, encoding in ((False, "dense"), (True, "sparse")):
        path = tmp_path / f"{encoding}.tflite"
        report = export_tflite(model, path, sparse=sparse, shrink=False)
        assert report.encoding == encoding
        assert path.stat().st_size == report.file_bytes == getattr(report, f"{encoding}_bytes")
        assert report.agreement.max_rel < 1e-5
        assert report.agreement.n_inputs >= 8
        # Batch-norm folds into the kernels with factors that are not zero.
        in_kernels = [tensor for tensor in report.weights if len(tensor.shape) > 1]
        assert sum(tensor.zeros for tensor in in_kernels) == kernel_zeros(model)
        assert any(tensor.encoding != "dense" for tensor in in_kernels) == sparse
        sizes[encoding] = report.file_bytes
    assert sizes["sparse"] < sizes["dense"]
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))


@pytest.mark.parametrize("k", KERASES)
@pytest.mark.parametrize(("share", "encoding"), [(0.9, "sparse"), (0.98, "sparse"), (0.0, "dense")])
def test_auto_takes_the_smaller_file(k, share, encoding, tmp_path):
    report = export_tflite(mlp(k, share), tmp_path / "model.tflite", shrink=False)
    assert report.encoding == encoding
    assert report.file_bytes == min(report.dense_bytes, report.sparse_bytes)


def test_inputs_keep_their_names_in_a_model_that_is_rebuilt(tmp_path):
    layers = [keras.layers.Dense(32, "relu", dtype="mixed_float16"), keras.layers.Dense(3)]
    model = keras.Sequential([keras.Input((4,)), *layers])
    samples = {model.inputs[0].name: np.ones((2, 4))}
    export_tflite(model, tmp_path / "model.tflite", samples=samples)


@pytest.mark.parametrize("k", KERASES)
def test_mixed_precision_is_exported_in_float32(k, tmp_path):
    inputs = k.Input((20,))
    hidden = k.layers.Dense(32, activation="relu", dtype="mixed_bfloat16")(inputs)
    model = k.Model(inputs, k.layers.Dense(4, dtype="float32")(hidden))
    report = export_tflite(model, tmp_path / "model.tflite")
    assert report.agreement.max_rel < 1e-5
    assert {tensor.dtype for tensor in report.weights} == {"float32"}
    assert any("bfloat16" in note for note in report.notes)


@pytest.mark.parametrize("k", KERASES)
def test_an_output_without_a_batch(k, tmp_path):
    inputs = k.layers.Input((8,))
    logits = k.layers.Dense(10)(inputs)
    mean = keras.ops.mean(logits) if k is keras else tf.reduce_mean(logits)
    report = export_tflite(k.Model(inputs, mean), tmp_path / "model.tflite")
    assert report.batch_size == 1  # of more CompiledModel is given one by one
    assert report.agreement.max_rel < 1e-6


@pytest.mark.parametrize("k", KERASES)
def test_a_float64_input_is_exported_in_float32(k, tmp_path):
    model = k.Sequential([k.Input((20,), dtype="float64"), k.layers.Dense(4, dtype="float32")])
    report = export_tflite(model, tmp_path / "model.tflite")
    assert set(report.agreement.runtimes) == {"Interpreter", "CompiledModel", "tf.lite"}
    assert any("float64" in note for note in report.notes)


@pytest.mark.parametrize("k", KERASES)
def test_tensors_are_named_after_their_layers(k, tmp_path):
    inputs = k.Input((6, 6, 2))
    x = k.layers.Conv2D(4, 3, name="conv2d")(inputs)
    x = k.layers.Conv2D(4, 3, name="conv2d_1")(x)
    inner = k.Sequential([k.Input((2, 2, 4)), k.layers.Flatten(), k.layers.Dense(5, name="dense")])
    model = k.Model(inputs, k.layers.Dense(3, name="dense")(inner(x)), name="net")
    report = export_tflite(model, tmp_path / "model.tflite")
    names = {tensor.shape: tensor.name for tensor in report.weights if len(tensor.shape) > 1}
    assert "net/conv2d/" in names[4, 3, 3, 2]
    assert "net/conv2d_1/" in names[4, 3, 3, 4]
    assert f"net/{inner.name}/dense/" in names[5, 16]
    assert "net/dense/" in names[3, 5]
    assert model.get_layer("conv2d_1")(np.ones((1, 3, 3, 4))).shape == (1, 1, 1, 4)


@pytest.mark.parametrize("k", KERASES)
def test_a_subclassed_model_is_exported_without_a_warning(k, tmp_path):
    class Net(k.Model):
        def __init__(self):
            super().__init__()
            self.dense = k.layers.Dense(3)

        def call(self, x):
            return self.dense(x)

    model = Net()
    model(np.ones((2, 5), np.float32))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert export_tflite(model, tmp_path / "model.tflite").agreement.max_rel < 1e-5


def test_a_pruned_model_is_stripped_and_keeps_its_zeros(tmp_path):
    schedule = tf_synflow.SynFlowPruningSchedule(compression=10, rounds=5)
    pruned = tf_synflow.prune_at_init(cnn(tf_keras, 0.0), schedule=schedule)
    report = export_tflite(pruned, tmp_path / "model.tflite", sparse=True, shrink=False)
    masks = tf_synflow.masks_of(pruned)
    kernels = [tensor for tensor in report.weights if len(tensor.shape) > 1]
    assert sum(tensor.elements for tensor in kernels) == sum(mask.size for mask in masks.values())
    assert sum(tensor.zeros for tensor in kernels) == sum((~m).sum() for m in masks.values())
    assert any("stripped" in note for note in report.notes)


@pytest.mark.parametrize("k", KERASES)
def test_several_inputs_and_outputs_go_by_name(k, tmp_path):
    a, b = k.Input((4,), name="a"), k.Input((3,), name="b", dtype="int32")
    inner = k.Sequential([k.Input((3,)), k.layers.Embedding(7, 2), k.layers.Flatten()])
    x = k.layers.Concatenate()([k.layers.Dense(6)(a), inner(b)])
    outputs = [k.layers.Dense(3, name="left")(x), k.layers.Dense(5, name="right")(x)]
    model = k.Model([a, b], outputs)
    samples = {"b": np.full((3, 3), 6), "a": np.ones((3, 4))}
    report = export_tflite(model, tmp_path / "model.tflite", samples=samples)
    assert report.agreement.worst_output in ("left", "right")
    assert report.agreement.n_inputs == 8 + 3
    with pytest.raises(errors.DataError, match="expected the inputs"):
        export_tflite(model, tmp_path / "model.tflite", samples={"a": np.ones((3, 4))})


@pytest.mark.parametrize("k", KERASES)
def test_a_recurrent_model_is_right_on_its_second_run_too(k, tmp_path):
    model = k.Sequential([k.Input((5, 3)), k.layers.LSTM(4), k.layers.Dense(2)])
    report = export_tflite(model, tmp_path / "model.tflite")
    assert report.batch_size == 1
    assert report.agreement.max_rel < 1e-5


def test_batch_size_is_kept_or_refused(tmp_path):
    path = tmp_path / "model.tflite"
    assert export_tflite(mlp(keras), path).batch_size is None
    report = export_tflite(mlp(keras), path, batch_size=np.int64(4), samples=np.ones((6, 20)))
    assert report.batch_size == 4
    assert len(report.agreement.runtimes) == 3
    with pytest.raises(errors.QuantityError, match="batch_size"):
        export_tflite(mlp(keras), path, batch_size=0)


@pytest.mark.parametrize(("last", "quantize"), [("Flatten", None), ("Reshape", "int8")])
@pytest.mark.parametrize("k", KERASES)
def test_a_network_that_ends_in_another_shape(k, last, quantize, tmp_path):
    """As MobileNets do: with a free batch, CompiledModel gives an error or garbage."""
    layers = k.layers
    last = layers.Flatten() if last == "Flatten" else layers.Reshape((10,))
    inputs = k.Input((16, 16, 3))
    x = layers.Conv2D(8, 3, padding="same", activation="relu")(inputs)
    x = layers.GlobalAveragePooling2D(keepdims=True)(x)
    x = last(layers.Conv2D(10, 1)(x))
    model, path = sparsified(k.Model(inputs, x), 0.5), tmp_path / "model.tflite"
    images = np.random.RandomState(0).random_sample((9, 16, 16, 3)).astype("float32")
    options = {"quantize": quantize, "representative_data": images if quantize else None}
    report = export_tflite(model, path, **options)
    assert report.agreement.max_rel < (0.1 if quantize else 1e-5)
    assert len(report.agreement.runtimes) == 3
    (details,) = tf.lite.Interpreter(str(path)).get_input_details()
    assert details["shape_signature"][0] == (report.batch_size or -1)
    if report.batch_size is None:
        return
    assert "batch size fixed at 1, for with a free one: CompiledModel" in report.notes[0]
    assert "No file was written" not in report.notes[0]
    path.unlink()
    with pytest.raises(errors.ExportError, match=r"CompiledModel(.|\n)*batch_size=1"):
        export_tflite(model, path, batch_size=None, **options)
    assert list(tmp_path.iterdir()) == []


def test_a_runtime_that_cannot_be_used_is_named_with_the_reason(tmp_path):
    model = keras.Sequential([keras.Input((None, None, 3)), keras.layers.Conv2D(4, 3)])
    report = export_tflite(model, tmp_path / "model.tflite")
    assert set(report.agreement.runtimes) == {"Interpreter", "tf.lite"}
    assert "free dimension" in report.agreement.not_run["CompiledModel"]
    assert "Not run in CompiledModel: it has a free dimension" in str(report)


def test_the_report_reads_well_and_equals_the_file(tmp_path):
    path = tmp_path / "model.tflite"
    report = export_tflite(cnn(tf_keras), path)
    assert tuple(read_tensors(path.read_bytes())) == report.tensors
    values = json.loads(report.to_json())
    assert values["totals"]["zeros"] == report.zeros
    assert values["agreement"]["max_rel"] == report.agreement.max_rel
    text = str(report)
    assert f"{report.file_bytes:,} bytes" in text
    assert "csr (densified at load)" in text
    assert "ai-edge-litert" in text


def test_the_log_levels_are_as_before(tmp_path):
    levels = {name: logging.getLogger(name).level for name in ("absl", "tensorflow")}
    export_tflite(mlp(tf_keras), tmp_path / "model.tflite")
    assert levels == {name: logging.getLogger(name).level for name in levels}


@pytest.mark.parametrize("k", KERASES)
def test_int64_inputs_which_compiled_model_does_not_take(k, tmp_path):
    inputs = k.Input((5,), dtype="int64", name="tokens")
    x = k.layers.Flatten()(k.layers.Embedding(20, 4)(inputs))
    report = export_tflite(k.Model(inputs, k.layers.Dense(3)(x)), tmp_path / "model.tflite")
    assert set(report.agreement.runtimes) == {"Interpreter", "tf.lite"}
    assert "no buffers of int64" in report.agreement.not_run["CompiledModel"]


def test_shrinking_below_what_a_target_computes_sparsely_is_said(tmp_path):
    convolutions = [keras.layers.Conv2D(size, 1, activation="relu") for size in (64, 8)]
    model = keras.Sequential([keras.Input((4, 4, 8)), *convolutions])
    alive = np.arange(64) % 8 == 0
    convolutions[0].kernel.assign(convolutions[0].kernel * alive)
    convolutions[1].kernel.assign(convolutions[1].kernel * alive[:, None])

    def said(**options):
        notes = export_tflite(model, tmp_path / "model.tflite", **options).notes
        return [note for note in notes if "densely" in note]

    assert "1x1 convolutions are zero (before" in said(target="wasm")[0]
    assert not said(target="wasm", shrink=False)
    assert not said(target="cpu-x86")
