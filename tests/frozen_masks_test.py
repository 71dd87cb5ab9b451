"""The frozen-mask contract: at every moment, in everything saved, a removed weight is exactly 0."""

import numpy as np
import processes
import pytest
import tensorflow as tf
import tf_keras
from small_models import images, masked_and_not_zero, policy, zoo
from watching import Interrupted, after_each_batch, moved, stop_in

import tf_synflow
from tf_synflow import compat
from tf_synflow.flow.weights import all_weights

optimizers = tf_keras.optimizers
sparsity = compat.tfmot().sparsity.keras
LOSS = "sparse_categorical_crossentropy"


@pytest.fixture(scope="module")
def model():
    return zoo(tf_keras)


@pytest.fixture(scope="module")
def masks(model):
    return tf_synflow.compute_masks(model, schedule=tf_synflow.SynFlowPruningSchedule(4, rounds=3))


@pytest.fixture
def pruned(model, masks):
    return tf_synflow.apply_masks(model, masks)


@pytest.mark.parametrize(
    ("optimizer", "options"),
    [
        (lambda: optimizers.SGD(0.1, momentum=0.9, nesterov=True), {}),
        (lambda: optimizers.Adam(0.01), {}),
        (lambda: optimizers.AdamW(0.01, weight_decay=0.1), {"steps_per_execution": 2}),
        (
            lambda: optimizers.Adam(
                0.01, use_ema=True, ema_momentum=0.5, ema_overwrite_frequency=3
            ),
            {},
        ),
        (lambda: optimizers.SGD(0.1, momentum=0.9, global_clipnorm=0.5), {}),
        (lambda: optimizers.RMSprop(0.01, clipvalue=0.01, momentum=0.9), {}),
        (lambda: optimizers.legacy.Adam(0.01), {}),
    ],
    ids="sgd adam adamw+steps_per_execution ema global_clipnorm clipvalue legacy".split(),
)
def test_after_every_batch_of_fit(optimizer, options, model, pruned, masks):
    pruned.compile(optimizer(), LOSS, **options)
    watch = after_each_batch(tf_keras, masks)
    pruned.fit(*images(model), epochs=2, batch_size=8, verbose=0, callbacks=[watch])
    assert watch.looks == 8 // options.get("steps_per_execution", 1)
    assert watch.found == 0 and masked_and_not_zero(pruned, masks) == 0
    assert moved(model, pruned)
    assert tf_synflow.masks_of(pruned) == masks
    assert masked_and_not_zero(tf_synflow.strip_pruning(pruned), masks) == 0


def test_final_average_of_the_weights(model, pruned, masks):
    """use_ema writes the averages over the weights when training ends."""
    pruned.compile(optimizers.SGD(0.1, use_ema=True, ema_momentum=0.9), LOSS)
    pruned.fit(*images(model), batch_size=8, verbose=0)
    assert masked_and_not_zero(pruned, masks) == 0
    pruned.optimizer.finalize_variable_values(pruned.trainable_variables)
    assert masked_and_not_zero(pruned, masks) == 0


@pytest.mark.slow
def test_under_xla(model, pruned, masks):
    pruned.compile(optimizers.Adam(0.01), LOSS, jit_compile=True)
    pruned.fit(*images(model), batch_size=16, verbose=0)
    assert masked_and_not_zero(pruned, masks) == 0 and moved(model, pruned)


@pytest.mark.parametrize("name", ["mixed_bfloat16", "mixed_float16"])
def test_in_mixed_precision_with_a_head_in_float32(name, masks):
    with policy(tf_keras, name):
        model = zoo(tf_keras)
        pruned = tf_synflow.apply_masks(model, masks)
    assert pruned.layers[-1].compute_dtype == "float32"
    assert pruned.layers[1].compute_dtype == name.removeprefix("mixed_")
    x, y = images(model)
    assert pruned(x).dtype == tf.float32
    pruned.compile(optimizers.SGD(0.05, momentum=0.9), LOSS)
    history = pruned.fit(x, y, batch_size=8, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    assert masked_and_not_zero(pruned, masks) == 0 and moved(model, pruned)
    stripped = tf_synflow.strip_pruning(pruned)
    assert masked_and_not_zero(stripped, masks) == 0
    np.testing.assert_array_equal(stripped(x), pruned(x))


def test_train_on_batch_alone(model, pruned, masks):
    pruned.compile(optimizers.AdamW(0.01, weight_decay=0.1), LOSS)
    x, y = images(model)
    for _ in range(3):
        pruned.train_on_batch(x, y)
        assert masked_and_not_zero(pruned, masks) == 0
    assert moved(model, pruned)


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "tf.function"])
def test_custom_training_loop(compiled, model, pruned, masks):
    optimizer = optimizers.SGD(0.1, momentum=0.9)
    x, y = images(model)

    def step():
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(
                tf_keras.losses.sparse_categorical_crossentropy(y, pruned(x, training=True))
            )
        gradients = tape.gradient(loss, pruned.trainable_variables)
        optimizer.apply_gradients(zip(gradients, pruned.trainable_variables, strict=True))

    step = tf.function(step) if compiled else step
    for _ in range(3):
        step()
        assert masked_and_not_zero(pruned, masks) == 0
    assert moved(model, pruned)


def test_removed_weights_draw_no_gradient(model, pruned, masks):
    """The gradient is that of the plain model at the same weights, with zeros at the masks."""
    plain = tf_synflow.strip_pruning(pruned)
    x, y = images(model)

    def gradients(model):
        found = all_weights(model)
        variables = {n: w.variable for n, w in found.items() if w.variable.trainable}
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(
                tf_keras.losses.sparse_categorical_crossentropy(y, model(x, training=True))
            )
        return tape.gradient(loss, variables)

    ours, dense = gradients(pruned), gradients(plain)
    assert set(ours) == set(dense) > set(masks)
    wasted = 0.0
    for name, gradient in dense.items():
        mask = masks.get(name, np.ones(gradient.shape, bool))
        assert not ours[name].numpy()[~mask].any()
        np.testing.assert_allclose(ours[name], gradient * mask, rtol=1e-4, atol=1e-6)
        wasted += np.square(gradient.numpy()[~mask]).sum()
    # Nothing of it reaches the norm that global_clipnorm sees, and there was something to reach it.
    masked = [g * masks.get(n, 1.0) for n, g in dense.items()]
    np.testing.assert_allclose(
        tf.linalg.global_norm(list(ours.values())), tf.linalg.global_norm(masked), rtol=1e-5
    )
    assert wasted > 0


def test_tfmots_callback_and_summaries_do_no_harm(model, pruned, masks, tmp_path):
    pruned.compile("adam", LOSS)
    callbacks = [sparsity.UpdatePruningStep(), sparsity.PruningSummaries(str(tmp_path))]
    pruned.fit(*images(model), epochs=2, batch_size=16, verbose=0, callbacks=callbacks)
    assert tf_synflow.masks_of(pruned) == masks
    assert masked_and_not_zero(pruned, masks) == 0 and moved(model, pruned)


# --- saved and loaded -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(model, masks):
    pruned = tf_synflow.apply_masks(model, masks)
    pruned.compile(optimizers.Adam(0.01), LOSS)
    pruned.fit(*images(model), batch_size=16, verbose=0)
    return pruned


def filled(model, masks):
    """A pruned model with ones where zeros belong, for a checkpoint to put right."""
    pruned = tf_synflow.apply_masks(model, masks)
    for weight in all_weights(pruned).values():
        weight.variable.assign(tf.ones_like(weight.variable))
    assert masked_and_not_zero(pruned, masks) > 0
    return pruned


def test_checkpoint_holds_zeros(model, trained, masks, tmp_path):
    path = tf.train.Checkpoint(model=trained).save(str(tmp_path / "checkpoint"))
    restored = filled(model, masks)
    tf.train.Checkpoint(model=restored).restore(path).assert_existing_objects_matched()
    assert masked_and_not_zero(restored, masks) == 0
    x, _ = images(model)
    np.testing.assert_array_equal(restored(x), trained(x))


@pytest.mark.parametrize("name", ["model.weights.h5", "weights.h5", "weights"])
def test_weights_hold_zeros_and_masks(name, model, trained, masks, tmp_path):
    trained.save_weights(tmp_path / name)
    everything = {n: np.ones(mask.shape, bool) for n, mask in masks.items()}
    restored = tf_synflow.apply_masks(model, everything)
    loaded = restored.load_weights(tmp_path / name)
    if loaded is not None:
        loaded.expect_partial()
    assert tf_synflow.masks_of(restored) == masks
    assert masked_and_not_zero(restored, masks) == 0
    x, _ = images(model)
    np.testing.assert_array_equal(restored(x), trained(x))


FORMATS = ["model.keras", "model.h5", "saved_model"]


@pytest.mark.parametrize("name", FORMATS)
def test_saved_and_loaded(name, trained, masks, tmp_path):
    trained.save(tmp_path / name)
    loaded = tf_synflow.load_model(tmp_path / name)
    schedule = [w.pruning_schedule for w in loaded.layers if hasattr(w, "pruning_schedule")][0]
    assert isinstance(schedule, tf_synflow.SynFlowPruningSchedule)
    assert (schedule.compression, schedule.rounds, schedule.kind) == (4, 3, "exponential")
    x, y = images(trained)
    np.testing.assert_allclose(loaded(x), trained(x), rtol=1e-5, atol=1e-6)
    assert tf_synflow.masks_of(loaded) == masks
    assert masked_and_not_zero(loaded, masks) == 0
    if name != "saved_model":  # where tf_keras begins the optimizer anew, pruned or not
        assert int(loaded.optimizer.iterations) == int(trained.optimizer.iterations) == 2
    loaded.fit(x, y, batch_size=16, verbose=0)
    assert masked_and_not_zero(loaded, masks) == 0
    assert masked_and_not_zero(tf_synflow.strip_pruning(loaded), masks) == 0
    assert moved(trained, loaded)


def test_loaded_training_is_the_same_training(model, masks, tmp_path):
    """The next epoch after loading is, to rounding, the next epoch without."""
    x, y = images(model)
    pruned = tf_synflow.apply_masks(model, masks)
    pruned.compile(optimizers.SGD(0.1, momentum=0.9), LOSS)
    pruned.fit(x, y, batch_size=16, verbose=0, shuffle=False)
    pruned.save(tmp_path / "model.keras")
    loaded = tf_synflow.load_model(tmp_path / "model.keras")
    losses = [
        m.fit(x, y, batch_size=16, epochs=2, verbose=0, shuffle=False).history["loss"]
        for m in (pruned, loaded)
    ]
    np.testing.assert_allclose(*losses, rtol=1e-5)


IN_A_FRESH_PROCESS = """
import json, sys
import numpy as np
import tf_synflow
from small_models import masked_and_not_zero
folder, *names = sys.argv[1:]
x, y = (np.load(f"{folder}/{n}.npy") for n in "xy")
report = {}
for name in names:
    model = tf_synflow.load_model(f"{folder}/{name}")
    masks = tf_synflow.masks_of(model)
    masks.save(f"{folder}/{name}.masks")
    outputs = np.array(model(x)).tolist()
    model.fit(x, y, verbose=0)
    report[name] = [outputs, masked_and_not_zero(model, masks)]
print("REPORT" + json.dumps(report))
"""


@pytest.mark.slow
def test_loaded_in_a_fresh_process(trained, masks, tmp_path):
    x, y = images(trained)
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", y)
    for name in FORMATS:
        trained.save(tmp_path / name)
    report = processes.reported(IN_A_FRESH_PROCESS, tmp_path, *FORMATS)
    assert list(report) == FORMATS
    for name, (outputs, not_zero) in report.items():
        np.testing.assert_allclose(outputs, trained(x), rtol=1e-5, atol=1e-6)
        assert not_zero == 0
        assert tf_synflow.Masks.load(tmp_path / f"{name}.masks") == masks


def test_backup_and_restore(model, masks, tmp_path):
    x, y = images(model)

    def run(pruned, *callbacks):
        pruned.compile(optimizers.SGD(0.1, momentum=0.9), LOSS)
        backup = tf_keras.callbacks.BackupAndRestore(str(tmp_path / "backup"))
        history = pruned.fit(
            x, y, batch_size=16, epochs=3, verbose=0, callbacks=[backup, *callbacks]
        )
        return pruned, history.epoch

    with pytest.raises(Interrupted):
        run(tf_synflow.apply_masks(model, masks), stop_in(tf_keras, 2))
    pruned, epochs = run(filled(model, masks))
    assert epochs == [2]
    assert tf_synflow.masks_of(pruned) == masks
    assert masked_and_not_zero(pruned, masks) == 0


def test_loading_what_is_not_there(tmp_path):
    with pytest.raises(tf_synflow.errors.OutputError, match="none.keras.*does not exist"):
        tf_synflow.load_model(tmp_path / "none.keras")
