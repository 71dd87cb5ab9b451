"""What a model is fed: shapes that it leaves undefined, several inputs, wrong ones."""

import numpy as np
import pytest
from small_models import KERASES, randomise

import tf_synflow
from tf_synflow import errors
from tf_synflow.flow.network import Network

each_keras = pytest.mark.parametrize("k", KERASES)


def convolutional(k, shape):
    layers = k.layers
    x = first = k.Input(shape, name="image")
    x = layers.Conv2D(4, 3, strides=2, activation="relu", name="conv")(x)
    x = layers.GlobalMaxPooling2D()(x)
    return randomise(k.Model(first, layers.Dense(2, name="head")(x)))


def pair(k):
    one, two = k.Input((None, 3), name="one"), k.Input((None, 2), name="two")
    x, y = (k.layers.Dense(4, name=f"d{i}")(x) for i, x in enumerate((one, two)))
    pool = k.layers.GlobalAveragePooling1D
    return randomise(k.Model([one, two], k.layers.Add()([pool()(x), pool()(y)])))


@each_keras
def test_an_undefined_size_asks_for_the_shape_and_takes_it(k):
    model = convolutional(k, (None, None, 3))
    with pytest.raises(errors.ModelError, match=r"'image'.*input_shape=\(64, 64, 3\)") as caught:
        tf_synflow.score(model)
    assert "(None, None, None, 3)" in str(caught.value)
    found = tf_synflow.score(model, input_shape=(9, 8, 3))
    expected = tf_synflow.score(convolutional(k, (9, 8, 3)))
    for name, array in found.items():
        np.testing.assert_array_equal(array, expected[name])
    masks = tf_synflow.compute_masks(model, 4, input_shape=(9, 8, 3))
    assert masks.kept == -(-masks.size // 4)


@each_keras
def test_shapes_of_several_inputs(k):
    model = pair(k)
    in_order = tf_synflow.score(model, input_shape=[(5, 3), (4, 2)])
    by_name = tf_synflow.score(model, input_shape={"two": (4, 2), "one": (5, 3)})
    for name, array in in_order.items():
        np.testing.assert_array_equal(array, by_name[name])
    with pytest.raises(errors.ModelError, match="'two'"):
        tf_synflow.score(model, input_shape={"one": (5, 3)})
    with pytest.raises(errors.UnknownNameError, match="'three'"):
        tf_synflow.score(model, input_shape={"three": (5, 3)})
    with pytest.raises(errors.ModelError, match="1 shapes for the 2 inputs"):
        tf_synflow.score(model, input_shape=(5, 3))


@each_keras
@pytest.mark.parametrize(
    "shape", [(9, 8, 4), (9, 8), (9, 8, 3, 1), (0, 8, 3), (-1, 8, 3), (None, 8, 3), (9.0, 8, 3)]
)
def test_a_shape_that_does_not_fit(shape, k):
    with pytest.raises(errors.ModelError, match="input_shape"):
        tf_synflow.score(convolutional(k, (None, None, 3)), input_shape=shape)


@each_keras
@pytest.mark.parametrize("shape", ["9x8", 9, [["9", "8", "3"]]])
def test_a_shape_that_is_none(shape, k):
    with pytest.raises(errors.ModelError, match="input_shape"):
        tf_synflow.score(convolutional(k, (None, None, 3)), input_shape=shape)


@each_keras
def test_a_given_shape_may_repeat_what_the_model_says_and_not_contradict_it(k):
    model = convolutional(k, (9, 8, 3))
    Network(model, input_shape=(9, 8, 3))
    with pytest.raises(errors.ModelError, match=r"\(9, 8, 3\)"):
        Network(model, input_shape=(10, 8, 3))


@each_keras
def test_ragged_lengths(k):
    """A model of sequences of any length is scored at the length it is told."""
    inputs_ = k.Input((None,), dtype="int32")
    x = k.layers.Embedding(9, 4, mask_zero=True, name="e")(inputs_)
    x = k.layers.GRU(3, name="g")(x)
    model = randomise(k.Model(inputs_, k.layers.Dense(2, name="d")(x)))
    with pytest.raises(errors.ModelError, match=r"input_shape=\(64,\)"):
        tf_synflow.score(model)
    short, long = (tf_synflow.score(model, input_shape=(n,)) for n in (2, 6))
    # A longer sequence brings more to the recurrent kernel.
    share = [
        s["g/gru_cell/recurrent_kernel"].sum() / s["e/embeddings"].sum() for s in (short, long)
    ]
    assert 0 < share[0] < share[1]


@each_keras
def test_a_subclassed_model_takes_the_shape_it_was_built_with_or_a_given_one(k):
    class Mine(k.Model):
        def __init__(self):
            super().__init__()
            self.conv = k.layers.Conv2D(4, 3, name="conv")
            self.pool = k.layers.GlobalAveragePooling2D()

        def call(self, x):
            return self.pool(self.conv(x))

    model = Mine()
    model(np.ones((2, 7, 6, 3), "float32"))
    assert set(tf_synflow.score(model)) == {"conv/kernel"}
    assert set(tf_synflow.score(model, input_shape=(5, 5, 3))) == {"conv/kernel"}
    with pytest.raises(errors.ModelError):
        tf_synflow.score(model, input_shape=(5, 5, 4))
