"""Small tf_keras models with weights inside layers of layers, and masks for them."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from small_models import randomise

from tf_synflow import Masks
from tf_synflow.flow.weights import all_weights, select_prunable

layers = tf_keras.layers
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
