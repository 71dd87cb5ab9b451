"""Masks into Keras 3 models of every kind and out again, and through files."""

import json
import os
import pathlib
import subprocess
import sys

import keras
import keras_models
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from keras import layers
from keras_models import KINDS, MODELS, inputs_of, some_masks
from small_models import images, masked_and_not_zero, mlp, randomise, state, zoo
from watching import Interrupted, stop_in

import tf_synflow
from tf_synflow import Masks, errors, inject
from tf_synflow.flow.weights import all_weights

LOSS = "sparse_categorical_crossentropy"


@pytest.fixture(scope="module", params=KINDS)
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def model(kind):
    return MODELS[kind]()


@pytest.fixture(scope="module")
def masks(model):
    return some_masks(model)


@pytest.fixture
def pruned(model, masks):
    return inject.inject(model, masks)


def outputs(model):
    return model(inputs_of(model), training=False).numpy()


def train(model, eagerly=False, **options):
    """A few steps, which take longer to trace than to run; returns the losses."""
    x = inputs_of(model)
    y = np.arange(len(tf.nest.flatten(x)[0])) % 3
    optimizer = keras.optimizers.SGD(0.1, momentum=0.9)
    model.compile(optimizer, LOSS, jit_compile=False, run_eagerly=eagerly)
    return model.fit(x, y, batch_size=4, verbose=0, shuffle=False, **options).history["loss"]


def moved(model, pruned, masks):
    before, after = all_weights(model), all_weights(pruned)
    return all(
        not np.array_equal(before[name].value()[mask], after[name].value()[mask])
        for name, mask in masks.items()
    )


def test_what_comes_back_is_like_what_was_given(model, masks, pruned):
    before = state(model)
    assert isinstance(pruned, type(model)) and pruned.name == model.name and not pruned.compiled
    assert [layer.name for layer in pruned.layers] == [layer.name for layer in model.layers]
    for one, other in zip(model.layers, pruned.layers, strict=True):
        assert isinstance(other, type(one)) and other is not one
    assert tf_synflow.masks_of(pruned) == masks and list(tf_synflow.masks_of(pruned)) == list(masks)
    found = all_weights(pruned)
    assert list(found) == list(all_weights(model))
    for name, weight in all_weights(model).items():
        mask = masks.get(name, np.ones(weight.shape, bool))
        np.testing.assert_array_equal(found[name].value(), np.where(mask, weight.value(), 0))
    assert state(model) == before


def test_trains_with_exact_zeros_and_strips(kind, model, masks, pruned):
    before = state(model)
    losses = train(pruned, epochs=2)
    assert np.isfinite(losses).all()
    assert masked_and_not_zero(pruned, masks) == 0
    assert moved(model, pruned, masks)
    assert state(model) == before
    stripped = tf_synflow.strip_pruning(pruned)
    assert type(stripped) is type(model)
    assert masked_and_not_zero(stripped, masks) == 0
    np.testing.assert_array_equal(outputs(stripped), outputs(pruned))
    assert inject.weights.wrappers(pruned) and not inject.weights.wrappers(stripped)


def test_saved_loaded_cloned_exported(kind, model, masks, pruned, tmp_path):
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


def test_a_layer_in_two_models_stays_one():
    """Keras itself can make such a model, and train it; not save it."""
    model = randomise(keras_models.shared(across=True))
    masks = some_masks(model)
    pruned = inject.inject(model, masks)
    assert len(pruned.weights) == len(model.weights)
    train(pruned)
    assert masked_and_not_zero(pruned, masks) == 0 and moved(model, pruned, masks)
    stripped = tf_synflow.strip_pruning(pruned)
    for one in (pruned, stripped):
        assert one.get_layer("inner").get_layer("twice") is one.get_layer("twice")
    np.testing.assert_array_equal(outputs(stripped), outputs(pruned))


def test_a_fitted_compiled_model_can_be_pruned_and_compiled_again():
    class Unregistered(keras.losses.Loss):
        def call(self, y_true, y_pred):
            return keras.losses.sparse_categorical_crossentropy(y_true, y_pred)

    model = zoo(keras)
    model.compile("adam", Unregistered(), jit_compile=False)
    x, y = images(model)
    model.fit(x, y, verbose=0)
    before, iterations = state(model), model.optimizer.iterations.numpy()
    masks = some_masks(model)
    pruned = inject.inject(model, masks)
    assert not pruned.compiled and model.compiled
    for optimizer in ("adam", "sgd"):
        pruned.compile(optimizer, Unregistered(), jit_compile=False)
        pruned.fit(x, y, verbose=0)
        assert masked_and_not_zero(pruned, masks) == 0
    assert state(model) == before and model.optimizer.iterations.numpy() == iterations
    model.fit(x, y, verbose=0)  # as if nothing had been


def test_nothing_is_left_behind_when_pruning_fails():
    model = MODELS["custom"]()
    model.get_layer("custom").get_config = lambda: {"name": "custom", "no_such_argument": 1}
    before = state(model)
    with pytest.raises(errors.ModelError, match="'custom'.*no_such_argument.*get_config"):
        inject.inject(model, some_masks(model))
    assert state(model) == before and not inject.weights.wrappers(model)


# --- calls of layers ------------------------------------------------------------------------------


def test_calls_with_masks_of_time_steps_and_keywords():
    """Attention over padded tokens, with several inputs and keyword arguments."""
    tokens = keras.Input((5,), dtype="int32", name="tokens")
    x = layers.Embedding(11, 8, mask_zero=True, name="embedding")(tokens)
    attention = layers.MultiHeadAttention(2, 4, name="attention")
    x, weights = attention(x, x, use_causal_mask=True, return_attention_scores=True)
    x = layers.Bidirectional(layers.LSTM(4, return_sequences=True), name="lstm")(x)
    x, last = layers.GRU(4, return_state=True, name="gru")(x)
    x = layers.Concatenate()(
        [x, layers.LSTM(4, name="second")(x[:, None], initial_state=[last] * 2)]
    )
    model = randomise(keras.Model(tokens, [layers.Dense(3, name="head")(x), weights]))
    masks = some_masks(model)
    assert {"attention/query/kernel", "gru/gru_cell/recurrent_kernel"} < set(masks)
    pruned = inject.inject(model, masks)
    stripped = tf_synflow.strip_pruning(pruned)
    data = np.array([[1, 2, 3, 0, 0], [4, 5, 6, 7, 8], [9, 10, 0, 0, 0]])
    for ours, plain in zip(pruned(data), stripped(data), strict=True):
        np.testing.assert_array_equal(ours, plain)
    assert not np.allclose(pruned(data)[0], model(data)[0])
    pruned.compile("adam", ["mse", None], run_eagerly=True)  # to trace it takes ten seconds
    pruned.fit(data, np.ones((3, 3)), verbose=0)
    assert masked_and_not_zero(pruned, masks) == 0 and moved(model, pruned, masks)


def test_stateful_layers_keep_and_reset_their_state():
    inputs = keras.Input((3, 2), batch_size=2)
    x = layers.LSTM(4, stateful=True, name="lstm")(inputs)
    model = randomise(keras.Model(inputs, layers.Dense(2, name="head")(x)))
    pruned = inject.inject(model, some_masks(model))
    data = np.ones((2, 3, 2), "float32")
    first, second = pruned(data).numpy(), pruned(data).numpy()
    assert not np.allclose(first, second)
    pruned.reset_states() if hasattr(pruned, "reset_states") else pruned.get_layer(
        "lstm"
    ).reset_states()
    np.testing.assert_array_equal(pruned(data), first)


def test_layers_stay_what_they_are():
    """Names, classes and attributes: what reads a model's layers reads a pruned one's."""
    pruned = inject.inject(zoo(keras), some_masks(zoo(keras)))
    conv = pruned.get_layer("conv")
    assert isinstance(conv, layers.Conv2D) and conv.filters == 4
    assert conv.kernel is conv.trainable_variables[0]
    text = []
    pruned.summary(print_fn=text.append)
    assert "Conv2D" in "\n".join(text)
    assert pruned.count_params() == zoo(keras).count_params()
    part = keras.Model(pruned.inputs, conv.output)
    x, _ = images(pruned)
    np.testing.assert_array_equal(part(x), conv(x))


def test_frozen_layers_stay_frozen():
    model = zoo(keras)
    model.get_layer("conv").trainable = False
    pruned = inject.inject(model, some_masks(model))
    assert not pruned.get_layer("conv").trainable
    assert len(pruned.trainable_weights) == len(model.trainable_weights)
    assert len(tf_synflow.strip_pruning(pruned).trainable_weights) == len(model.trainable_weights)
    model = MODELS["subclassed"]()
    model.blocks[0].trainable = False
    pruned = inject.inject(model, some_masks(model))
    assert not pruned.blocks[0].trainable and pruned.blocks[1].trainable


def test_summary_export_and_the_way_there():
    model = zoo(keras)
    pruned = tf_synflow.prune_at_init(
        model, schedule=tf_synflow.SynFlowPruningSchedule(4, rounds=3), wrapper="keras"
    )
    masks = tf_synflow.masks_of(pruned)
    assert masks.info["schedule"]["compression"] == 4
    assert tf_synflow.masks_of(tf_synflow.apply_masks(model, masks)) == masks
    rows = tf_synflow.summary(pruned).rows
    assert {row.name: row.kept for row in rows} == {n: int(m.sum()) for n, m in masks.items()}


def test_export_is_of_the_stripped_model(tmp_path):
    model = mlp(keras)
    pruned = inject.inject(model, some_masks(model))
    report = tf_synflow.export_tflite(pruned, tmp_path / "pruned.tflite")
    plain = tf_synflow.export_tflite(tf_synflow.strip_pruning(pruned), tmp_path / "plain.tflite")
    assert any("stripped" in note for note in report.notes)
    sizes = [(tmp_path / name).stat().st_size for name in ("pruned.tflite", "plain.tflite")]
    assert sizes[0] == sizes[1] and plain.notes != report.notes


def test_a_pruned_subclassed_model_is_summed_up_and_exported(tmp_path):
    model = MODELS["subclassed"]()
    pruned = tf_synflow.prune_at_init(model, 2)
    assert type(pruned).__name__ == "Subclassed" and isinstance(pruned, type(model))
    assert tf_synflow.summary(pruned).density == pytest.approx(0.5, abs=0.01)
    report = tf_synflow.export_tflite(pruned, tmp_path / "model.tflite")
    assert any("followed" in note for note in report.notes)


# --- callbacks and processes ----------------------------------------------------------------------


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
    here = pathlib.Path(__file__).parent
    done = subprocess.run(
        [sys.executable, "-c", IN_A_FRESH_PROCESS, str(tmp_path), *expected],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(here.parent), str(here)])},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    report = json.loads(done.stdout.split("REPORT")[1])
    assert list(report) == list(expected)
    for name, (received, not_zero) in report.items():
        np.testing.assert_allclose(received, expected[name][0], rtol=1e-5, atol=1e-6)
        assert not_zero == 0
        assert Masks.load(tmp_path / f"{name}.masks") == expected[name][1]


# --- files and what is refused --------------------------------------------------------------------


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


def test_a_wrapper_of_the_other_keras():
    with pytest.raises(errors.ModelError, match="tf_keras model with wrapper='keras'.*'tfmot'"):
        tf_synflow.prune_at_init(mlp(tf_keras), 2, wrapper="keras")
    with pytest.raises(errors.UnknownNameError, match="wrapper.*'torch'.*auto, keras, tfmot"):
        tf_synflow.prune_at_init(mlp(keras), 2, wrapper="torch")


def test_a_pruned_model_is_not_pruned_again():
    for kind in ("shared", "subclassed"):
        model = MODELS[kind]()
        pruned = inject.inject(model, some_masks(model))
        with pytest.raises(errors.MaskError, match="pruned already.*strip_pruning"):
            tf_synflow.prune_at_init(pruned, 2)


def test_masks_of_a_plain_model():
    with pytest.raises(errors.MaskError, match="expected"):
        tf_synflow.masks_of(mlp(keras))


def test_weights_of_other_masks_are_refused(tmp_path):
    model = mlp(keras)
    inject.inject(model, some_masks(model)).save_weights(tmp_path / "two.weights.h5")
    one = inject.inject(model, Masks({"d0/kernel": np.eye(16, 12) == 0}))
    with pytest.raises(ValueError, match="architecture"):
        other = mlp(keras, units=(12, 8, 4), use_bias=True)
        masks = {**some_masks(other), "d0/bias": np.ones(12, bool)}
        inject.inject(other, Masks(masks)).load_weights(tmp_path / "two.weights.h5")
    assert masked_and_not_zero(one, tf_synflow.masks_of(one)) == 0


def test_a_layer_whose_copy_has_other_weights_is_refused():
    model = keras_models.forgetful()
    with pytest.raises(errors.ModelError, match="'forgetful'.*shapes.*get_config"):
        inject.inject(model, Masks({"forgetful/dense/kernel": np.ones((16, 5), bool)}))


class Handing(keras.Model):
    """Its configuration holds a layer itself, not its description."""

    def __init__(self, encoder, **kwargs):
        super().__init__(**kwargs)
        self.encoder = encoder

    def call(self, x):
        return self.encoder(x)

    def get_config(self):
        return {**super().get_config(), "encoder": self.encoder}


def test_a_copy_that_would_share_weights_with_the_users_model_is_refused():
    model = Handing(layers.Dense(3, name="dense"))
    model(np.ones((1, 16)))
    before = state(model)
    with pytest.raises(errors.ModelError, match="hands on its own layers.*serialize_keras_object"):
        inject.inject(model, some_masks(model))
    assert state(model) == before
    model.encoder.kernel.assign(np.ones((16, 3)))
    assert model.encoder.kernel.numpy().all()


def test_like_is_for_models_that_were_converted():
    model = mlp(keras)
    pruned = inject.inject(model, some_masks(model))
    for other in (model, mlp(tf_keras)):
        with pytest.raises(errors.ModelError, match="like: received.*wrapper='tfmot'"):
            tf_synflow.strip_pruning(pruned, like=other)
