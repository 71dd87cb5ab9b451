"""The frozen-mask contract in Keras 3: whatever trains the model, a removed weight is exactly 0."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops, optimizers
from small_models import images, masked_and_not_zero, policy, randomise, zoo
from watching import after_each_batch, moved

import tf_synflow
from tf_synflow import inject
from tf_synflow.flow.weights import all_weights

LOSS = "sparse_categorical_crossentropy"


@pytest.fixture(scope="module")
def model():
    return zoo(keras)


@pytest.fixture(scope="module")
def masks(model):
    return tf_synflow.compute_masks(model, schedule=tf_synflow.SynFlowPruningSchedule(4, rounds=3))


@pytest.fixture
def pruned(model, masks):
    return tf_synflow.apply_masks(model, masks)


def finite(model):
    return all(np.isfinite(weight.value()).all() for weight in all_weights(model).values())


EMA = {"use_ema": True, "ema_momentum": 0.5}


@pytest.mark.parametrize(
    ("optimizer", "options"),
    [
        (lambda: optimizers.SGD(0.1, momentum=0.9, nesterov=True), {}),
        (lambda: optimizers.Adam(0.01, **EMA, ema_overwrite_frequency=3), {}),
        (lambda: optimizers.AdamW(0.01, weight_decay=0.1), {"steps_per_execution": 2}),
        (lambda: optimizers.Lion(0.01, weight_decay=0.1), {}),
        # Its default, 1e-30, is 0/0 where a whole row and column of a matrix draw no gradient.
        (lambda: optimizers.Adafactor(0.01, epsilon_1=1e-12), {}),
        (lambda: optimizers.SGD(0.1, momentum=0.9, global_clipnorm=0.5), {}),
        (lambda: optimizers.Adam(0.01, gradient_accumulation_steps=2), {}),
        (lambda: optimizers.LossScaleOptimizer(optimizers.Adam(0.01)), {}),
        (lambda: optimizers.Adam(0.01), {"jit_compile": True}),
        (lambda: optimizers.Adam(0.01), {"run_eagerly": True}),
    ],
    ids="sgd adam+ema adamw lion adafactor clipnorm accumulation loss_scale jit eager".split(),
)
def test_after_every_batch_of_fit(optimizer, options, model, pruned, masks):
    pruned.compile(optimizer(), LOSS, **{"jit_compile": False, **options})
    watch = after_each_batch(keras, masks)
    pruned.fit(*images(model), epochs=2, batch_size=8, verbose=0, callbacks=[watch])
    assert watch.looks == 8 // options.get("steps_per_execution", 1)
    assert watch.found == 0 and masked_and_not_zero(pruned, masks) == 0
    assert moved(model, pruned) and finite(pruned)
    assert tf_synflow.masks_of(pruned) == masks
    stripped = tf_synflow.strip_pruning(pruned)
    assert masked_and_not_zero(stripped, masks) == 0
    x, _ = images(model)
    np.testing.assert_allclose(stripped(x), pruned(x), rtol=1e-6, atol=1e-7)


def test_final_average_of_the_weights(model, pruned, masks):
    """use_ema writes the averages over the weights when training ends."""
    pruned.compile(optimizers.SGD(0.1, use_ema=True, ema_momentum=0.9), LOSS, jit_compile=False)
    pruned.fit(*images(model), batch_size=8, verbose=0)
    assert masked_and_not_zero(pruned, masks) == 0 and moved(model, pruned)


class Mixing(optimizers.SGD):
    """Moves every entry by the mean of the tensor's gradient, as orthogonalizing optimizers do."""

    def update_step(self, gradient, variable, learning_rate):
        step = ops.ones(variable.shape) * ops.mean(gradient) + ops.cast(gradient, variable.dtype)
        super().update_step(step, variable, learning_rate)


@pytest.mark.parametrize("name", ["Muon", "Mixing"])
def test_optimizers_that_are_not_element_wise(name, model, pruned, masks):
    """A removed weight without gradient is moved along with its neighbours, and set back."""
    if name == "Muon" and keras.__version__ < "3.13":
        pytest.skip(f"Muon of Keras {keras.__version__} trains no model at all on TensorFlow")
    optimizer = Mixing(0.1) if name == "Mixing" else optimizers.Muon(0.01)
    pruned.compile(optimizer, LOSS, jit_compile=False)
    watch = after_each_batch(keras, masks)
    pruned.fit(*images(model), batch_size=8, verbose=0, callbacks=[watch])
    assert watch.looks == 4 and watch.found == 0
    assert moved(model, pruned) and finite(pruned)


@pytest.mark.parametrize("name", ["mixed_bfloat16", "mixed_float16"])
def test_in_mixed_precision_with_a_head_in_float32(name, masks):
    with policy(keras, name):
        model = zoo(keras)
        pruned = tf_synflow.apply_masks(model, masks)
    assert pruned.get_layer("head").compute_dtype == "float32"
    assert pruned.get_layer("conv").compute_dtype == name.removeprefix("mixed_")
    x, y = images(model)
    assert pruned(x).dtype == tf.float32
    stripped = tf_synflow.strip_pruning(pruned)
    np.testing.assert_array_equal(stripped(x), pruned(x))
    pruned.compile(optimizers.SGD(0.05, momentum=0.9), LOSS, jit_compile=False)
    history = pruned.fit(x, y, batch_size=8, verbose=0).history
    assert isinstance(pruned.optimizer, optimizers.LossScaleOptimizer) == (name == "mixed_float16")
    assert np.isfinite(history["loss"]).all()
    assert masked_and_not_zero(pruned, masks) == 0 and moved(model, pruned)


class Inside(layers.Layer):
    """A float32 layer inside a layer of another precision."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.exact = layers.Dense(4, dtype="float32", name="exact")
        self.kernel = None

    def build(self, shape):
        self.exact.build(shape)
        self.kernel = self.add_weight(shape=(4, 3), name="kernel")

    def call(self, x):
        return ops.matmul(ops.cast(self.exact(x), self.compute_dtype), self.kernel)


def test_layers_inside_keep_their_own_precision():
    inputs = keras.Input((16,))
    model = keras.Model(inputs, Inside(dtype="mixed_bfloat16", name="mixed")(inputs))
    masks = {"mixed/exact/kernel": np.eye(16, 4) == 0, "mixed/kernel": np.eye(4, 3) == 0}
    pruned = inject.inject(model, tf_synflow.Masks(masks))
    x = np.random.RandomState(0).random_sample((8, 16)).astype("float32")
    np.testing.assert_array_equal(tf_synflow.strip_pruning(pruned)(x), pruned(x))


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "tf.function"])
def test_custom_training_loop(compiled, model, pruned, masks):
    optimizer = optimizers.SGD(0.1, momentum=0.9)
    optimizer.build(pruned.trainable_variables)
    x, y = images(model)

    def step():
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(
                keras.losses.sparse_categorical_crossentropy(y, pruned(x, training=True))
            )
        gradients = tape.gradient(loss, pruned.trainable_variables)
        optimizer.apply_gradients(zip(gradients, pruned.trainable_variables, strict=True))

    step = tf.function(step) if compiled else step
    for _ in range(3):
        step()
        assert masked_and_not_zero(pruned, masks) == 0
    assert moved(model, pruned)


def test_train_on_batch_alone(model, pruned, masks):
    pruned.compile(optimizers.AdamW(0.01, weight_decay=0.1), LOSS, jit_compile=False)
    x, y = images(model)
    for _ in range(3):
        pruned.train_on_batch(x, y)
        assert masked_and_not_zero(pruned, masks) == 0
    assert moved(model, pruned)


def test_removed_weights_draw_no_gradient(model, pruned, masks):
    """The gradient is that of the plain model at the same weights, with zeros at the masks."""
    plain = tf_synflow.strip_pruning(pruned)
    x, y = images(model)

    def gradients(model):
        found = all_weights(model)
        variables = {n: w.variable.value for n, w in found.items() if w.variable.trainable}
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(
                keras.losses.sparse_categorical_crossentropy(y, model(x, training=True))
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
    assert wasted > 0


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda: optimizers.SGD(0.1, momentum=0.9),
        lambda: optimizers.AdamW(0.01, global_clipnorm=0.5),
    ],
    ids=["sgd", "adamw+global_clipnorm"],
)
def test_same_trajectory_as_masking_the_gradients_by_hand(optimizer, model, pruned, masks):
    x, y = images(model)
    by_hand, apply = tf_synflow.strip_pruning(pruned), optimizer()
    mask_of = {id(all_weights(by_hand)[name].variable): mask for name, mask in masks.items()}
    losses = []
    for _ in range(8):
        with tf.GradientTape() as tape:
            outputs = by_hand(x, training=True)
            loss = tf.reduce_mean(keras.losses.sparse_categorical_crossentropy(y, outputs))
        variables = by_hand.trainable_variables
        gradients = tape.gradient(loss, variables)
        gradients = [g * mask_of.get(id(v), 1.0) for g, v in zip(gradients, variables, strict=True)]
        apply.apply_gradients(zip(gradients, variables, strict=True))
        losses.append(float(loss))
    pruned.compile(optimizer(), LOSS, jit_compile=False)
    received = pruned.fit(x, y, batch_size=32, epochs=8, shuffle=False, verbose=0).history["loss"]
    np.testing.assert_allclose(received, losses, atol=1e-5)
    assert abs(losses[0] - losses[-1]) > 1e-3


@pytest.mark.filterwarnings("ignore:Skipping variable loading")
def test_what_is_assigned_is_masked(model, masks, pruned, tmp_path):
    """Weights of a dense model fit a pruned one, which keeps its zeros."""
    full = [weight + 1.0 for weight in model.get_weights()]
    pruned.set_weights(full)
    assert masked_and_not_zero(pruned, masks) == 0
    dense = tf_synflow.strip_pruning(model)
    dense.set_weights(full)
    dense.save_weights(tmp_path / "dense.weights.h5")
    other = tf_synflow.apply_masks(model, masks)
    other.load_weights(tmp_path / "dense.weights.h5")
    assert masked_and_not_zero(other, masks) == 0
    x, _ = images(model)
    np.testing.assert_array_equal(other(x), pruned(x))
    kernel = other.get_layer("head").kernel
    with pytest.raises(ValueError, match="must match"):
        kernel.assign(np.ones(3))


def test_saved_are_zeros_whatever_was_written_past_keras(pruned, masks, tmp_path):
    for name in masks:
        variable = all_weights(pruned)[name].variable.value
        variable.assign(tf.ones_like(variable))
    assert masked_and_not_zero(pruned, masks) > 0
    x, _ = images(pruned)
    before = pruned(x).numpy()
    stripped = tf_synflow.strip_pruning(pruned)
    assert masked_and_not_zero(stripped, masks) == 0
    np.testing.assert_array_equal(stripped(x), before)
    pruned.save(tmp_path / "model.keras")
    loaded = tf_synflow.load_model(tmp_path / "model.keras")
    assert masked_and_not_zero(loaded, masks) == 0
    np.testing.assert_array_equal(loaded(x), before)


class Noisy(layers.Layer):
    """Everything a layer may do beside computing: statistics, random numbers, losses, counts."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = layers.Dense(8, activity_regularizer="l2", kernel_regularizer="l2", name="d")
        self.norm = layers.BatchNormalization(name="norm")
        self.dropout = layers.Dropout(0.5, seed=3)

    def build(self, shape):
        self.dense.build(shape)
        self.norm.build((shape[0], 8))
        self.calls = self.add_weight(shape=(), initializer="zeros", trainable=False, name="calls")

    def call(self, x, training=None):
        if training:
            self.calls.assign_add(1.0)
        x = self.norm(self.dense(x), training=training)
        self.add_loss(0.01 * ops.mean(ops.square(x)))
        return self.dropout(x, training=training)


def noisy():
    inputs = keras.Input((16,))
    x = Noisy(name="noisy")(inputs)
    return randomise(keras.Model(inputs, layers.Dense(3, "softmax", name="head")(x)))


@pytest.mark.parametrize("options", [{}, {"jit_compile": True}, {"run_eagerly": True}], ids=str)
def test_statistics_seeds_counts_and_losses_of_a_layer_go_on(options):
    model = noisy()
    masks = {"noisy/d/kernel": np.random.RandomState(0).random_sample((16, 8)) < 0.5}
    pruned = inject.inject(model, tf_synflow.Masks(masks))
    plain = tf_synflow.strip_pruning(pruned)
    x, y = images(model)
    assert not np.array_equal(pruned(x, training=True), pruned(x, training=True))
    before = all_weights(pruned)
    history = []
    for one in (pruned, plain):
        one.get_layer("noisy").dropout.seed_generator.state.assign([0, 3])
        one.get_layer("noisy").calls.assign(0.0)
        one.get_layer("noisy").norm.set_weights(model.get_layer("noisy").norm.get_weights())
        one.compile("sgd", LOSS, **{"jit_compile": False, **options})
        history.append(one.fit(x, y, batch_size=32, shuffle=False, verbose=0).history["loss"])
    assert float(pruned.get_layer("noisy").calls.numpy()) == 1.0
    # The first step is that of the plain model in all: loss with all penalties, statistics, seed.
    np.testing.assert_allclose(*history, rtol=1e-6)
    for name in ("noisy/norm/moving_mean", "noisy/norm/moving_variance"):
        after = before[name].value()
        assert not np.array_equal(after, all_weights(model)[name].value())
        np.testing.assert_allclose(after, all_weights(plain)[name].value(), rtol=1e-5)
    seeds = [one.get_layer("noisy").dropout.seed_generator.state for one in (pruned, plain)]
    np.testing.assert_array_equal(seeds[0].numpy(), seeds[1].numpy())
    assert masked_and_not_zero(pruned, masks) == 0
    pruned(x), plain(x)
    assert len(pruned.losses) == len(plain.losses) == 3
    np.testing.assert_allclose(
        sorted(map(float, pruned.losses)), sorted(map(float, plain.losses)), rtol=0.05
    )


def test_a_penalty_or_constraint_on_the_whole_weight_leaves_zeros():
    """Orthogonality has a gradient at zero, and this constraint moves zeros."""

    @keras.saving.register_keras_serializable("frozen_masks_keras_test")
    class Shifted(keras.constraints.Constraint):
        def __call__(self, w):
            return w - ops.mean(w) + 0.1

    inputs = keras.Input((16,))
    x = layers.Dense(
        8, "relu", kernel_regularizer=keras.regularizers.OrthogonalRegularizer(0.1),
        kernel_constraint=Shifted(), name="d",
    )(inputs)  # fmt: skip
    model = randomise(keras.Model(inputs, layers.Dense(3, "softmax")(x)))
    masks = {"d/kernel": np.random.RandomState(0).random_sample((16, 8)) < 0.5}
    pruned = tf_synflow.apply_masks(model, masks)
    pruned.compile(optimizers.SGD(0.1, momentum=0.9), LOSS, jit_compile=False)
    watch = after_each_batch(keras, masks)
    pruned.fit(*images(model), batch_size=8, verbose=0, callbacks=[watch])
    assert watch.looks == 4 and watch.found == 0
    stripped = tf_synflow.strip_pruning(pruned)
    np.testing.assert_allclose(sum(pruned.losses), sum(stripped.losses), rtol=1e-6)
    velocity = pruned.optimizer.variables[2]
    assert tuple(velocity.shape) == (16, 8) and not velocity.numpy()[~masks["d/kernel"]].any()
