"""Recurrent layers: what flows through the input side and through the state path."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from flow_sums import NO_BIAS, flow_and_sums, without_additive_terms
from small_models import KERASES, policy, randomise

import tf_synflow
from tf_synflow import errors

each_keras = pytest.mark.parametrize("k", KERASES)
SERIES = (4, 3)


def between(k, function, shape=SERIES):
    """A dense layer, what function(layers, x) makes, a dense layer; no additive terms."""
    # Names are numbered from here: lstm_cell. Keras 3 would collect all garbage each time.
    k.backend.clear_session(**({"free_memory": False} if k is keras else {}))
    inputs = k.Input(shape)
    x = k.layers.Dense(3, name="before", **NO_BIAS)(inputs)
    outputs = function(k.layers, x)
    outputs = list(outputs) if isinstance(outputs, list | tuple) else [outputs]
    outputs = [k.layers.Dense(2, name=f"after{i}", **NO_BIAS)(y) for i, y in enumerate(outputs)]
    return without_additive_terms(k.Model(inputs, outputs))


def assert_carries_all(flow, sums, *parts):
    """The weights whose names have one of these parts carry R between them."""
    chosen = [total for name, total in sums.items() if any(part in name for part in parts)]
    assert chosen and flow > 0
    np.testing.assert_allclose(sum(chosen), flow, rtol=1e-12)


def in_time(name, **arguments):
    return lambda layers, x: getattr(layers, name)(4, **{**NO_BIAS, **arguments})(x)


LAYERS = {
    "relu": in_time("SimpleRNN", activation="relu"),
    **{name: in_time(name) for name in ("SimpleRNN", "LSTM", "GRU")},
    "GRU reset before": in_time("GRU", reset_after=False),
    "GRU hard": in_time("GRU", recurrent_activation="hard_sigmoid", activation="relu"),
    "LSTM backwards": in_time("LSTM", go_backwards=True, return_sequences=True),
    "GRU sequences": in_time("GRU", return_sequences=True),
    "LSTM unrolled": in_time("LSTM", unroll=True),
    "LSTM states": in_time("LSTM", return_state=True),
    "GRU states": in_time("GRU", return_state=True, return_sequences=True),
    "a cell": lambda layers, x: layers.RNN(layers.LSTMCell(4, **NO_BIAS))(x),
    "a simple cell": lambda layers, x: layers.RNN(
        layers.SimpleRNNCell(4, **NO_BIAS), return_sequences=True
    )(x),
}


@each_keras
@pytest.mark.parametrize("name", LAYERS)
def test_the_input_side_carries_all_the_flow(name, k):
    traced = k is tf_keras and name in ("SimpleRNN", "LSTM", "GRU")
    flow, sums = flow_and_sums(between(k, LAYERS[name]), traced=traced)
    assert_carries_all(flow, sums, "before/")
    assert_carries_all(flow, sums, "after")
    assert_carries_all(flow, sums, "_cell/kernel")
    assert next(total for n, total in sums.items() if n.endswith("recurrent_kernel")) > 0


@each_keras
def test_a_stateful_layer_starts_from_zeros_and_keeps_its_state(k):
    inputs = k.Input(SERIES, batch_size=2)
    layer = k.layers.LSTM(4, stateful=True, name="s", **NO_BIAS)
    model = without_additive_terms(k.Model(inputs, layer(inputs)))
    plain = between(k, lambda layers, x: layers.LSTM(4, name="s", **NO_BIAS)(x))
    model.predict(np.ones((2, *SERIES), "float32"), verbose=0)
    before = [state.numpy() for state in layer.states]
    assert all(state.any() for state in before)
    first = tf_synflow.score(model, prunable="*kernel")
    second = tf_synflow.score(model, prunable="*kernel")
    for name in first:
        np.testing.assert_array_equal(first[name], second[name])
    for state, kept in zip(layer.states, before, strict=True):
        np.testing.assert_array_equal(state.numpy(), kept)
    assert list(first) == [n for n in tf_synflow.score(plain) if n.startswith("s/")]


@each_keras
def test_stacked_cells(k):
    def function(layers, x):
        cells = [layers.LSTMCell(4, name="lstm", **NO_BIAS),
                 layers.GRUCell(3, name="gru", **NO_BIAS),
                 layers.SimpleRNNCell(2, name="simple", **NO_BIAS)]  # fmt: skip
        return layers.RNN(cells, return_sequences=True, return_state=False)(x)

    flow, sums = flow_and_sums(between(k, function))
    assert_carries_all(flow, sums, "/lstm/kernel")
    assert_carries_all(flow, sums, "/gru/kernel")
    assert_carries_all(flow, sums, "/simple/kernel")


@each_keras
@pytest.mark.parametrize(
    ("mode", "sequences", "kind"),
    [
        ("concat", True, "LSTM"),
        ("sum", False, "GRU"),
        ("ave", True, "GRU"),
        ("mul", False, "LSTM"),
        ("mul", True, "GRU"),
        (None, True, "LSTM"),
        (None, False, "GRU"),
    ],
)
def test_bidirectional(mode, sequences, kind, k):
    def function(layers, x):
        layer = getattr(layers, kind)(3, return_sequences=sequences, name="r", **NO_BIAS)
        return layers.Bidirectional(layer, merge_mode=mode, name="r_both")(x)

    flow, sums = flow_and_sums(between(k, function), traced=k is tf_keras and mode == "concat")
    assert_carries_all(flow, sums, "_cell/kernel")
    if mode == "mul":
        assert_carries_all(flow / 2, sums, f"forward_r/{kind.lower()}_cell/kernel")
    assert 0 < sums[f"r_both/backward_r/{kind.lower()}_cell/kernel"] < flow


@each_keras
def test_bidirectional_gives_and_takes_states(k):
    inputs = k.Input(SERIES)
    layers = k.layers
    _, *states = layers.Bidirectional(layers.LSTM(3, return_state=True, name="encoder", **NO_BIAS))(
        inputs
    )
    assert len(states) == 4
    x = layers.Bidirectional(layers.LSTM(3, name="decoder", **NO_BIAS))(
        inputs, initial_state=states
    )
    flow, sums = flow_and_sums(without_additive_terms(k.Model(inputs, x)))
    # What enters the decoder comes by its own kernel, or by the encoder's.
    assert_carries_all(flow, sums, "coder/lstm_cell/kernel")
    assert all(total > 0 for total in sums.values())


# --- the state path -------------------------------------------------------------------------------


def from_state(k, kind, **arguments):
    """One step on a sequence of length one, from a state that a dense layer makes."""
    layers = k.layers
    sequence, vector = k.Input((1, 3)), k.Input((5,))
    count = 2 if kind == "LSTM" else 1
    states = [layers.Dense(4, name=f"state{i}", **NO_BIAS)(vector) for i in range(count)]
    layer = getattr(layers, kind)(4, name="r", **{**NO_BIAS, **arguments})
    return without_additive_terms(
        k.Model([sequence, vector], layer(sequence, initial_state=states))
    )


@each_keras
@pytest.mark.parametrize("kind", ["SimpleRNN", "LSTM"])
def test_the_recurrent_kernel_carries_what_comes_by_the_state(kind, k):
    """In one step the state h reaches the output through the recurrent kernel alone."""
    flow, sums = flow_and_sums(from_state(k, kind))
    cell = next(name for name in sums if name.endswith("recurrent_kernel"))
    assert sums[cell] > 0
    np.testing.assert_allclose(sums[cell], sums["state0/kernel"], rtol=1e-12)
    kernel = cell.replace("recurrent_kernel", "kernel")
    by_state = sum(sums[f"state{i}/kernel"] for i in range(2 if kind == "LSTM" else 1))
    np.testing.assert_allclose(sums[kernel] + by_state, flow, rtol=1e-12)


@each_keras
@pytest.mark.parametrize("reset_after", [True, False])
def test_a_gru_keeps_a_part_of_its_state_without_the_kernel(reset_after, k):
    model = from_state(k, "GRU", reset_after=reset_after)
    flow, sums = flow_and_sums(model)
    named = {w.shape: np.abs(np.float64(w.numpy())) for w in model.weights}
    h = np.ones(5) @ named[5, 4]
    z = (np.ones(3) @ named[3, 12])[:4] + h @ named[4, 12][:, :4]
    kept = (h * z / z.mean()).sum()  # half of it by h itself, half by the gate z
    by_state, recurrent = sums["state0/kernel"], sums["r/gru_cell/recurrent_kernel"]
    assert flow > kept > 0
    if reset_after:
        np.testing.assert_allclose(recurrent + kept / 2, by_state, rtol=1e-12)
    else:  # the reset state passes the kernel after the gate, with the gate's input part too
        assert recurrent + kept / 2 > by_state
    np.testing.assert_allclose(by_state + sums["r/gru_cell/kernel"], flow, rtol=1e-12)


@each_keras
def test_a_linear_recurrent_layer_is_literal(k):
    """Scores by Keras itself, of the float64 layer of |θ|: also the recurrent kernel's."""
    steps = 5

    def build():
        inputs = k.Input((steps, 3))
        x = k.layers.SimpleRNN(4, activation="relu", name="r")(inputs)
        return randomise(k.Model(inputs, x))

    model = build()
    with policy(k, "float64"):
        literal = build()
    for weight, source in zip(literal.weights, model.weights, strict=True):
        weight.assign(np.abs(source.numpy().astype(np.float64)))
    variables = [getattr(w, "value", w) if k is keras else w for w in literal.trainable_weights]
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(literal(tf.ones((1, steps, 3), tf.float64)))
    gradients = tape.gradient(total, variables)
    flow, _ = flow_and_sums(model)
    np.testing.assert_allclose(flow, total, rtol=1e-12)
    found = tf_synflow.score(model, prunable="*")
    for array, variable, gradient in zip(found.values(), variables, gradients, strict=True):
        np.testing.assert_allclose(array, variable * gradient, rtol=1e-12)


@each_keras
def test_an_own_activation_in_a_cell_is_an_error(k):
    def cube(x):
        return x**3

    model = k.Sequential([k.Input(SERIES), k.layers.LSTM(4, activation=cube)])
    with pytest.raises(errors.UnsupportedLayerError, match="'cube'"):
        tf_synflow.score(model)


# --- convolutions in time, and layers distributed over it -----------------------------------------

SPATIAL = {1: (7,), 2: (6, 5), 3: (4, 5, 4)}


@each_keras
@pytest.mark.parametrize(
    ("n", "arguments"),
    [
        (1, {"strides": 2, "return_sequences": True}),
        (2, {"strides": (2, 1), "padding": "same", "go_backwards": True}),
        (2, {"dilation_rate": 2}),
        (1, {"return_state": True}),
        (3, {"strides": 2, "padding": "same"}),
        (1, {"data_format": "channels_first", "return_sequences": True}),
        (2, {"data_format": "channels_first", "padding": "same"}),
        (3, {"data_format": "channels_first"}),
    ],
)
def test_convolutional_lstms(n, arguments, k):
    shape = (3, *SPATIAL[n], 3)

    def function(layers, x):
        if arguments.get("data_format") == "channels_first":
            x = layers.Permute((1, n + 2, *range(2, n + 2)))(x)
        return getattr(layers, f"ConvLSTM{n}D")(4, 2, **{**NO_BIAS, **arguments})(x)

    # Op by op, TensorFlow has no gradient of a 3D convolution that is not told its data format.
    traced = n == 3 or (k is tf_keras and "return_state" in arguments)
    flow, sums = flow_and_sums(between(k, function, shape), traced=traced)
    assert_carries_all(flow, sums, "before/")
    assert_carries_all(flow, sums, "_cell/kernel")


TIME_DISTRIBUTED = {
    "Dense": (SERIES, lambda k: k.layers.Dense(4, name="inner", **NO_BIAS)),
    "Conv2D": ((3, 6, 5, 3), lambda k: k.layers.Conv2D(4, 3, name="inner", **NO_BIAS)),
    "pooling": ((3, 4, 4, 4, 3), lambda k: k.layers.MaxPooling3D(2)),
    "a model": (
        (3, 6, 5, 3),
        lambda k: k.Sequential(
            [k.Input((6, 5, 3)), k.layers.Conv2D(4, 3, name="inner", **NO_BIAS),
             k.layers.BatchNormalization(center=False), k.layers.ReLU(), k.layers.Flatten()]
        ),
    ),
    "attention": (
        (3, 5, 3),
        lambda k: attention_model(k),
    ),
}  # fmt: skip


def attention_model(k):
    inputs = k.Input((5, 3))
    layer = k.layers.MultiHeadAttention(2, 4, **NO_BIAS)
    return k.Model(inputs, layer(inputs, inputs, use_causal_mask=True))


@each_keras
@pytest.mark.parametrize("name", TIME_DISTRIBUTED)
def test_time_distributed(name, k):
    shape, build = TIME_DISTRIBUTED[name]
    model = between(k, lambda layers, x: layers.TimeDistributed(build(k))(x), shape)
    flow, sums = flow_and_sums(model)
    assert_carries_all(flow, sums, "before/")
    assert_carries_all(flow, sums, "after0/")
    inner = [n for n in sums if n.endswith("inner/kernel")]
    if inner:
        assert_carries_all(flow, sums, *inner)


@each_keras
def test_arguments_of_a_layer_inside_a_distributed_model_count(k):
    """The model inside is the model alone, causal mask and all."""
    alone = without_additive_terms(attention_model(k))
    inputs = k.Input((1, 5, 3))
    model = k.Model(inputs, k.layers.TimeDistributed(alone)(inputs))
    flow, sums = flow_and_sums(alone)
    distributed_flow, distributed = flow_and_sums(model)
    np.testing.assert_allclose(distributed_flow, flow, rtol=1e-12)
    np.testing.assert_allclose(list(distributed.values()), list(sums.values()), rtol=1e-12)
