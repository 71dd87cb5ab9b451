"""In the step of `fit` only gradients are masked, where that is enough; the zeros stay exact."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from small_models import masked_and_not_zero

import tf_synflow
from tf_synflow.flow.weights import all_weights
from tf_synflow.inject import fitting

KERASES = pytest.mark.parametrize("k", [keras, tf_keras], ids=["keras", "tf_keras"])


def mlp(k, **first):
    inputs = k.Input((8,))
    x = k.layers.Dense(16, "relu", name="first", **first)(inputs)
    return k.Model(inputs, k.layers.Dense(8, name="last")(x))


def prune(model):
    masks = tf_synflow.compute_masks(model, 4, scorer="magnitude", scope="layer")
    # Not asked whether a path is left: that follows only what is written with keras.ops.
    return tf_synflow.apply_masks(model, masks, allow_collapse=True), masks


def fit(k, model, optimizer="sgd", **options):
    """Two steps."""
    model.compile(optimizer, "mse", **{"jit_compile": False, **options})
    x = np.random.RandomState(0).standard_normal((16, 8)).astype("float32")
    model.fit(x, x, batch_size=8, verbose=0)


def asked(monkeypatch):
    """The answers that layers get, in order, to whether they are in such a step."""
    answers, ask = [], fitting.is_in_step
    monkeypatch.setattr(fitting, "is_in_step", lambda: answers.append(ask()) or answers[-1])
    return answers


@KERASES
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_layers_compute_from_the_weights_themselves(k, optimizer, monkeypatch):
    pruned, masks = prune(mlp(k))
    answers = asked(monkeypatch)
    fit(k, pruned, optimizer)
    assert answers and all(answers)
    answers.clear()
    pruned(np.ones((1, 8), "float32"))
    assert answers and not any(answers)
    assert masked_and_not_zero(pruned, masks) == 0


@KERASES
def test_an_optimizer_that_is_not_known_leaves_masking_to_the_layers(k, monkeypatch):
    class Own(k.optimizers.SGD):
        pass

    class ElementWise(k.optimizers.SGD):
        element_wise = True

    for optimizer, expected in ((Own, False), (ElementWise, True)):
        pruned, masks = prune(mlp(k))
        answers = asked(monkeypatch)
        fit(k, pruned, optimizer(0.1))
        assert answers and set(answers) == {expected}
        assert masked_and_not_zero(pruned, masks) == 0
        monkeypatch.undo()


@KERASES
def test_what_was_written_past_the_masks_is_zero_when_training_begins(k):
    pruned, masks = prune(mlp(k))
    for name in masks:
        variable = all_weights(pruned)[name].variable
        raw = variable.value if k is keras else variable
        raw.assign(tf.ones_like(raw))
    assert masked_and_not_zero(pruned, masks) > 0
    fit(k, pruned)
    assert masked_and_not_zero(pruned, masks) == 0


@KERASES
def test_a_weight_that_is_read_outside_the_layer_that_holds_it(k):
    class Tied(k.layers.Layer):
        """Decodes by the transpose of the weight that it encodes by."""

        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.encode = k.layers.Dense(8, use_bias=False, name="encode")

        def build(self, shape):
            self.encode.build(shape)
            self.built = True

        def call(self, x):
            return tf.matmul(self.encode(x), tf.convert_to_tensor(self.encode.kernel), False, True)

    inputs = k.Input((8,))
    pruned, masks = prune(k.Model(inputs, Tied(name="tied")(inputs)))
    fit(k, pruned, k.optimizers.SGD(0.01, momentum=0.9))
    assert masked_and_not_zero(pruned, masks) == 0


@tf_keras.utils.register_keras_serializable("fitting_test")
def off_zero(weight):
    return tf.reduce_sum(tf.square(weight - 1.0))


@tf_keras.utils.register_keras_serializable("fitting_test")
class Raised(tf_keras.constraints.Constraint):
    def __call__(self, weight):
        return weight + 0.1


def test_a_penalty_on_the_whole_weight_moves_no_zero():
    """Its gradient at zero reaches the optimizer of tf_keras past the layer's call."""
    pruned, masks = prune(mlp(tf_keras, kernel_regularizer=off_zero))
    fit(tf_keras, pruned, tf_keras.optimizers.SGD(0.01, momentum=0.9))
    assert masked_and_not_zero(pruned, masks) == 0


def test_a_constraint_that_moves_zeros_leaves_masking_to_the_layers(monkeypatch):
    pruned, _ = prune(mlp(tf_keras, kernel_constraint=Raised()))
    answers = asked(monkeypatch)
    fit(tf_keras, pruned)
    assert answers and not any(answers)


@KERASES
def test_a_train_step_of_ones_own_leaves_masking_to_the_layers(k, monkeypatch):
    class Own(k.Model):
        def train_step(self, data):
            return super().train_step(data)

    model = mlp(k)
    pruned, masks = prune(Own(model.inputs, model.outputs))
    answers = asked(monkeypatch)
    fit(k, pruned)
    assert answers and not any(answers)
    assert masked_and_not_zero(pruned, masks) == 0


@KERASES
def test_the_gradient_of_an_embedding_stays_sparse(k):
    inputs = k.Input((3,), dtype="int32")
    x = k.layers.Flatten()(k.layers.Embedding(20, 8, name="table")(inputs))
    pruned, masks = prune(k.Model(inputs, k.layers.Dense(1, name="last")(x)))
    pruned.compile(k.optimizers.Adam(0.01), "mse", jit_compile=False)
    seen, apply = [], pruned.optimizer.apply_gradients

    def look(pairs, *args, **kwargs):
        pairs = list(pairs)
        seen.extend(type(gradient) for gradient, _ in pairs)
        return apply(pairs, *args, **kwargs)

    pruned.optimizer.apply_gradients = look
    tokens = np.random.RandomState(0).randint(0, 20, (16, 3))
    before = all_weights(pruned)["table/embeddings"].value()
    pruned.fit(tokens, np.ones((16, 1), "float32"), batch_size=8, verbose=0)
    assert tf.IndexedSlices in seen
    assert pruned.optimizer.apply_gradients is look
    assert not np.array_equal(before, all_weights(pruned)["table/embeddings"].value())
    assert masked_and_not_zero(pruned, masks) == 0


@KERASES
def test_an_error_in_a_step_leaves_everything_as_it_was(k):
    pruned, _ = prune(mlp(k))
    pruned.compile("sgd", "mse", jit_compile=False, run_eagerly=True)
    with pytest.raises(Exception):  # noqa: B017 - whatever Keras says
        pruned.train_step((np.ones((2, 3), "float32"), np.ones((2, 8), "float32")))
    assert not fitting.is_in_step()
    assert "apply_gradients" not in vars(pruned.optimizer)
