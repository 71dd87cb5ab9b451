"""Masks on weights inside layers of layers: recurrent cells, attention, wrappers, custom layers."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from small_models import masked_and_not_zero, policy, randomise, state

import tf_synflow
from tf_synflow import Masks, errors
from tf_synflow.flow.weights import all_weights, select_prunable
from tf_synflow.inject import tfmot

layers, optimizers = tf_keras.layers, tf_keras.optimizers
LOSS = "sparse_categorical_crossentropy"


@tf_keras.utils.register_keras_serializable(package="nested_test")
class Experts(layers.Layer):
    """Weights in a list and a dict, layers in a list, one of them made without a name."""

    def build(self, shape):
        size = shape[-1]
        self.many = [self.add_weight(f"kernel_of_{i}", shape=(size, size)) for i in range(2)]
        self.named = {"gate": self.add_weight("gate", shape=(size, 2))}
        self.after = [layers.Dense(size), layers.Dense(size, name="last")]
        super().build(shape)

    def call(self, x):
        gate = tf.nn.softmax(x @ tf.convert_to_tensor(self.named["gate"]))
        x = sum(x @ tf.cast(kernel, x.dtype) * gate[..., i : i + 1]
                for i, kernel in enumerate(self.many))  # fmt: skip
        for layer in self.after:
            x = layer(x)
        return x


@tf_keras.utils.register_keras_serializable(package="nested_test")
class Late(layers.Layer):
    """A layer in it builds when it is called first, so `build` does not make all weights."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = layers.Dense(4)

    def call(self, x, training=None):
        return self.dense(x)


def attention(x):
    return layers.MultiHeadAttention(2, 3, name="layer")(x, x[:, :2], key=x[:, 1:3])


def stacked(x):
    cells = [layers.LSTMCell(4), layers.GRUCell(3)]
    return layers.RNN(cells, return_sequences=True, name="layer")(x)


def with_state(x):
    state = [layers.Dense(4)(x[:, 0]), layers.Dense(4)(x[:, 1])]
    return layers.LSTM(4, return_sequences=True, name="layer")(x, initial_state=state)


def both_ways_with_state(x):
    state = [layers.Dense(4)(x[:, 0]), layers.Dense(4)(x[:, 1])]
    rnn = layers.GRU(4, return_sequences=True)
    return layers.Bidirectional(rnn, name="layer")(x, initial_state=state)


class Plus(layers.SimpleRNNCell):
    """A cell that takes a constant."""

    def call(self, inputs, states, constants=None, training=None):
        return super().call(inputs + constants[0], states, training)


tf_keras.utils.register_keras_serializable(package="nested_test")(Plus)


def with_constants(x):
    rnn = layers.RNN(Plus(4), return_sequences=True, name="layer")
    return rnn(x, constants=x[:, 0])


CASES = {
    "LSTM": lambda x: layers.LSTM(4, return_sequences=True, name="layer")(x),
    "GRU": lambda x: layers.GRU(4, return_sequences=True, name="layer")(x),
    "GRU, reset before": lambda x: layers.GRU(4, reset_after=False, name="layer")(x),
    "SimpleRNN": lambda x: layers.SimpleRNN(4, name="layer")(x),
    "LSTM, unrolled, dropout": lambda x: layers.LSTM(
        4, unroll=True, dropout=0.2, recurrent_dropout=0.2, name="layer"
    )(x),
    "LSTM, masked": lambda x: layers.LSTM(4, name="layer")(layers.Masking()(x)),
    "LSTM, stateful": lambda x: layers.LSTM(4, stateful=True, name="layer")(x),
    "initial_state": with_state,
    "constants": with_constants,
    "StackedRNNCells": stacked,
    "Bidirectional": lambda x: layers.Bidirectional(layers.LSTM(3), name="layer")(x),
    "Bidirectional, initial_state": both_ways_with_state,
    "TimeDistributed": lambda x: layers.TimeDistributed(layers.Dense(5), name="layer")(x),
    "ConvLSTM1D": lambda x: layers.ConvLSTM1D(2, 2, name="layer")(layers.Reshape((4, 3, 2))(x)),
    "ConvLSTM2D": lambda x: layers.ConvLSTM2D(2, 2, name="layer")(layers.Reshape((4, 2, 3, 1))(x)),
    "ConvLSTM3D": lambda x: layers.ConvLSTM3D(2, 2, padding="same", name="layer")(
        layers.Reshape((4, 2, 3, 1, 1))(x)
    ),
    "MultiHeadAttention": attention,
    "EinsumDense": lambda x: layers.EinsumDense("abc,cd->abd", (None, 5), name="layer")(x),
    "custom": lambda x: Experts(name="layer")(x),
    "built late": lambda x: Late(name="layer")(x),
}


def build(kind):
    batch = 16 if "stateful" in kind else None
    inputs = tf_keras.Input((4, 6), batch_size=batch)
    x = CASES[kind](inputs)
    x = layers.Dense(3, activation="softmax", name="head")(layers.Flatten()(x))
    return randomise(tf_keras.Model(inputs, x))


def masks_for(model, density=0.4, prunable=lambda name: "bias" not in name, seed=3):
    random = np.random.RandomState(seed)
    found = all_weights(model)
    names = select_prunable(found, prunable)
    return Masks({n: random.random_sample(found[n].shape) < density for n in names})


def data(count=32):
    random = np.random.RandomState(0)
    x = random.standard_normal((count, 4, 6)).astype("float32")
    x[::3, 2:] = 0  # shorter sequences, for Masking
    return x, random.randint(0, 3, count)


# One of each mechanism; the others take their time.
FAST = ("LSTM", "initial_state", "Bidirectional", "MultiHeadAttention", "custom", "built late")


def some(kinds):
    return [k if k in FAST else pytest.param(k, marks=pytest.mark.slow) for k in kinds]


@pytest.fixture(scope="module", params=some(CASES))
def case(request):
    model = build(request.param)
    return request.param, model, masks_for(model)


def in_order(model, masks):
    """(value, mask) for each weight. By position: a copy may number nameless layers anew."""
    names = list(all_weights(model))
    return lambda other: [
        (weight.value(), masks[name])
        for name, weight in zip(names, all_weights(other).values(), strict=True)
        if name in masks
    ]


def not_zero(pairs):
    return sum(int(np.count_nonzero(value[~mask])) for value, mask in pairs)


class AfterEachBatch(tf_keras.callbacks.Callback):
    """Counts removed weights that are not zero, at the moments a user can look."""

    def __init__(self, pairs):
        super().__init__()
        self.pairs, self.looks, self.found = pairs, 0, 0

    def on_train_batch_end(self, batch, logs=None):
        self.looks += 1
        self.found += not_zero(self.pairs(self.model))


def test_injected_and_stripped(case):
    kind, model, masks = case
    before, pairs = state(model), in_order(model, masks)
    pruned = tfmot.inject(model, masks)
    assert state(model) == before
    assert any(name.startswith("layer/") for name in masks)
    for (value, mask), (original, _) in zip(pairs(pruned), pairs(model), strict=True):
        np.testing.assert_array_equal(value, original * mask)
    back = tfmot.masks_of(pruned)
    for one, other in zip(back.values(), masks.values(), strict=True):
        np.testing.assert_array_equal(one, other)
    if kind not in ("custom", "built late"):
        assert back == masks and list(back) == list(masks)
    stripped = tfmot.strip(pruned)
    assert type(stripped.get_layer("layer")) is type(model.get_layer("layer"))
    x, _ = data(16)
    outputs = pruned.predict(x, verbose=0)
    pruned.reset_states()
    np.testing.assert_allclose(stripped.predict(x, verbose=0), outputs, rtol=1e-5, atol=1e-6)
    assert not np.allclose(outputs, model.predict(x, verbose=0), atol=1e-3)
    assert not_zero(pairs(stripped)) == 0


def test_removed_weights_draw_no_gradient(case):
    """The gradient is that of the plain model at the same weights, with zeros at the masks."""
    _, model, masks = case
    pruned = tfmot.inject(model, masks)
    stripped = tfmot.strip(pruned)
    x, y = data(16)

    def gradients(other):
        variables = [weight.variable for weight in all_weights(other).values()]

        @tf.function
        def step():
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean(tf_keras.losses.sparse_categorical_crossentropy(y, other(x)))
            return tape.gradient(loss, variables)

        return [tf.convert_to_tensor(gradient).numpy() for gradient in step()]

    wasted = 0.0
    for name, ours, dense in zip(
        all_weights(model), gradients(pruned), gradients(stripped), strict=True
    ):
        mask = masks.get(name, np.ones(dense.shape, bool))
        assert not ours[~mask].any()
        np.testing.assert_allclose(ours, dense * mask, rtol=1e-3, atol=1e-6, err_msg=name)
        wasted += np.square(dense[~mask]).sum()
    assert wasted > 0


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda: optimizers.SGD(0.1, momentum=0.9),
        lambda: optimizers.AdamW(
            0.01, weight_decay=0.1, use_ema=True, ema_momentum=0.5, ema_overwrite_frequency=3
        ),
    ],
    ids=["sgd", "adamw+ema"],
)
def test_after_every_batch_of_fit(case, optimizer):
    _, model, masks = case
    pairs = in_order(model, masks)
    pruned = tfmot.inject(model, masks)
    pruned.compile(optimizer(), LOSS)
    watch = AfterEachBatch(pairs)
    x, y = data()
    pruned.fit(x, y, batch_size=16, epochs=2, verbose=0, callbacks=[watch])
    assert watch.looks == 4 and watch.found == 0 and not_zero(pairs(pruned)) == 0
    for (after, mask), (before, _) in zip(pairs(pruned), pairs(model), strict=True):
        assert not np.array_equal(after[mask], before[mask])


@pytest.mark.parametrize("name", ["mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("kind", ["LSTM", "Bidirectional", "MultiHeadAttention", "custom"])
def test_in_mixed_precision(kind, name):
    with policy(tf_keras, name):
        model = build(kind)
        masks = masks_for(model)
        pruned = tfmot.inject(model, masks)
        stripped = tfmot.strip(pruned)
    x, y = data()
    assert pruned(x).dtype == tf.as_dtype(name.removeprefix("mixed_"))
    np.testing.assert_array_equal(stripped(x), pruned(x))
    pruned.compile(optimizers.SGD(0.05, momentum=0.9), LOSS)
    history = pruned.fit(x, y, batch_size=16, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    assert not_zero(in_order(model, masks)(pruned)) == 0


def test_a_layer_in_another_precision_than_the_one_around_it():
    inner = layers.Dense(64, dtype="float32")
    model = tf_keras.Sequential(
        [
            tf_keras.Input((4, 6)),
            layers.TimeDistributed(inner, dtype="mixed_float16", name="layer"),
        ]
    )
    randomise(model)
    pruned = tfmot.inject(model, masks_for(model))
    x, _ = data(16)
    np.testing.assert_array_equal(tfmot.strip(pruned)(x), pruned(x))


@pytest.mark.parametrize("prunable", [["*/kernel", "*/gamma", "*/beta", "*/bias"], "*/bias"])
def test_biases_and_normalizations_when_asked(prunable):
    inputs = tf_keras.Input((4, 6))
    x = layers.BatchNormalization(name="norm")(inputs)
    x = layers.Bidirectional(layers.GRU(3, name="gru"), name="layer")(x)
    model = randomise(tf_keras.Model(inputs, layers.Dense(3, "softmax", name="head")(x)))
    masks = masks_for(model, prunable=prunable)
    assert ("norm/gamma" in masks) == (len(prunable) == 4)
    assert "layer/forward_gru/gru_cell/bias" in masks
    pruned = tfmot.inject(model, masks)
    assert tfmot.masks_of(pruned) == masks
    pruned.compile("adam", LOSS)
    pruned.fit(*data(), batch_size=16, verbose=0)
    assert masked_and_not_zero(pruned, masks) == 0
    assert masked_and_not_zero(tfmot.strip(pruned), masks) == 0


def test_statistics_are_no_weights():
    inputs = tf_keras.Input((4, 6))
    model = tf_keras.Model(inputs, layers.BatchNormalization(name="norm")(inputs))
    with pytest.raises(errors.UnsupportedLayerError, match="norm/moving_mean.*prunable="):
        tfmot.inject(model, tf_synflow.Masks({"norm/moving_mean": np.ones(6, bool)}))
    assert sorted(masks_for(model, prunable="*")) == ["norm/beta", "norm/gamma"]


def test_states_are_kept_and_reset():
    model = build("LSTM, stateful")
    pruned = tfmot.inject(model, masks_for(model))
    x, _ = data(16)
    first, second = (pruned.predict(x, verbose=0) for _ in range(2))
    assert not np.allclose(first, second)
    pruned.reset_states()
    np.testing.assert_allclose(pruned.predict(x, verbose=0), first, rtol=1e-6)


def test_a_configuration_of_old_names_attributes():
    """Files written when only a layer's own attributes could be masked."""
    wrapper = tfmot.PruneLowMagnitude(layers.Dense(3, name="d"), pruned=["kernel"])
    config = wrapper.get_config()
    assert config["pruned"] == ["kernel"]
    again = tfmot.PruneLowMagnitude.from_config(config)
    again.build((None, 2))
    assert again.pruning_vars[0][0] is again.layer.kernel

    class Own(layers.Layer):
        def build(self, shape):
            self.w = self.add_weight("my_weight", shape=(2,))

        def call(self, x):
            return x * self.w

    own = tfmot.PruneLowMagnitude(Own(), pruned=["w"])
    own.build((None, 2))
    assert own.pruning_vars[0][0] is own.layer.w


def test_a_mask_for_a_weight_that_the_layer_does_not_have():
    wrapper = tfmot.PruneLowMagnitude(layers.LSTM(3, name="rnn"), pruned=["kernel"])
    with pytest.raises(errors.UnsupportedLayerError, match="'rnn'.*'kernel'.*lstm_cell/kernel"):
        wrapper(np.zeros((1, 2, 3), "float32"))
    wrapper = tfmot.PruneLowMagnitude(layers.LSTM(3, name="rnn"), pruned={"kernel": (3, 12)})
    with pytest.raises(errors.UnsupportedLayerError, match="'rnn'.*kernel.*lstm_cell/kernel"):
        wrapper(np.zeros((1, 2, 3), "float32"))


# --- saved and loaded -----------------------------------------------------------------------------

FORMATS = ["model.keras", "model.h5", "saved_model"]
SAVED = [kind for kind in CASES if kind not in ("constants", "LSTM, stateful")]


@pytest.fixture(scope="module")
def trained():
    made = {}

    def get(kind):
        if kind not in made:
            model = build(kind)
            masks = masks_for(model)
            pruned = tfmot.inject(model, masks)
            pruned.compile(optimizers.Adam(0.01), LOSS)
            pruned.fit(*data(), batch_size=16, verbose=0)
            made[kind] = (pruned, in_order(model, masks))
        return made[kind]

    return get


@pytest.mark.parametrize(
    "name", ["model.keras", *(pytest.param(name, marks=pytest.mark.slow) for name in FORMATS[1:])]
)
@pytest.mark.parametrize("kind", some(SAVED))
def test_saved_and_loaded(kind, name, trained, tmp_path):
    pruned, pairs = trained(kind)
    pruned.save(tmp_path / name)
    loaded = tf_synflow.load_model(tmp_path / name)
    x, y = data()
    np.testing.assert_allclose(loaded(x), pruned(x), rtol=1e-5, atol=1e-6)
    for one, other in zip(
        tfmot.masks_of(loaded).values(), tfmot.masks_of(pruned).values(), strict=True
    ):
        np.testing.assert_array_equal(one, other)
    loaded.fit(x, y, batch_size=16, verbose=0)
    assert not_zero(pairs(loaded)) == 0 and not_zero(pairs(tfmot.strip(loaded))) == 0


IN_A_FRESH_PROCESS = """
import json, sys
import numpy as np
import tf_synflow
import inject_tfmot_nested_test as test
folder, *names = sys.argv[1:]
x, y = test.data()
report = {}
for name in names:
    model = tf_synflow.load_model(f"{folder}/{name}")
    outputs = np.array(model(x)).tolist()
    model.fit(x, y, verbose=0)
    masks = list(tf_synflow.masks_of(model).values())
    values = [w.value() for w in test.all_weights(model).values()]
    np.savez(f"{folder}/{name}.after.npz", *values)
    report[name] = [outputs, [np.packbits(mask).tolist() for mask in masks]]
print("REPORT" + json.dumps(report))
"""


@pytest.mark.slow
def test_loaded_in_a_fresh_process(trained, tmp_path):
    kinds = ["Bidirectional", "MultiHeadAttention", "StackedRNNCells", "custom", "built late"]
    files = {}
    for number, kind in enumerate(kinds):
        for name in FORMATS:
            files[f"{number}_{name}"] = kind
            trained(kind)[0].save(tmp_path / f"{number}_{name}")
    here = pathlib.Path(__file__).parent
    done = subprocess.run(
        [sys.executable, "-c", IN_A_FRESH_PROCESS, str(tmp_path), *files],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(here.parent), str(here)])},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    report = json.loads(done.stdout.split("REPORT")[1])
    x, _ = data()
    for file, kind in files.items():
        pruned, _ = trained(kind)
        outputs, bits = report[file]
        np.testing.assert_allclose(outputs, pruned(x), rtol=1e-5, atol=1e-6)
        masks = tfmot.masks_of(pruned)
        assert bits == [np.packbits(mask).tolist() for mask in masks.values()]
        after = np.load(tmp_path / f"{file}.after.npz").values()
        for name, value in zip(all_weights(pruned), after, strict=True):
            assert name not in masks or not value[~masks[name]].any()
