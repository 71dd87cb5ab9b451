"""Subclassed models and layers made of layers: scored like the graph they are, unchanged."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from flow_sums import NO_BIAS, flow_and_sums, registered, without_additive_terms
from small_models import KERASES, BoundOnce, randomise, state

import tf_synflow
from tf_synflow import errors
from tf_synflow.flow import tensor, weights
from tf_synflow.flow.network import Network

each_keras = pytest.mark.parametrize("k", KERASES)


def built(model, *examples, **keywords):
    """The model, called once, with random weights."""
    model(*examples, **keywords)
    return randomise(model)


def ones(*shape, dtype="float32"):
    return np.ones((1, *shape), dtype)


def convolutional(k):
    """A subclassed model and the Functional one of the same layers' names."""
    layers = k.layers

    class Mine(k.Model):
        def __init__(self):
            super().__init__()
            self.conv = layers.Conv2D(4, 3, name="conv")
            self.norm = layers.BatchNormalization(name="norm")
            self.drop = layers.Dropout(0.5, name="drop")
            self.flat = layers.Flatten(name="flat")
            self.dense = layers.Dense(3, activation="softmax", name="dense")

        def call(self, x, training=None):
            x = self.norm(self.conv(x), training=training)
            if training:
                x = self.drop(x, training=True)
            return self.dense(self.flat(x))

    inputs = k.Input((6, 6, 3))
    x = layers.BatchNormalization(name="norm")(layers.Conv2D(4, 3, name="conv")(inputs))
    x = layers.Dense(3, name="dense")(layers.Flatten()(x))
    return built(Mine(), ones(6, 6, 3)), k.Model(inputs, x)


def assert_equal_scores(model, functional, **keywords):
    """The same scores, of a subclassed model and of a Functional one with the same weights."""
    own = weights.all_weights(model)
    for name, weight in weights.all_weights(functional).items():
        weight.variable.assign(own[name].variable.numpy())
    mine, theirs = BoundOnce(), BoundOnce()
    found, expected = (
        tf_synflow.score(model, mine, **keywords),
        tf_synflow.score(functional, theirs),
    )
    assert set(found) == set(expected)
    for name, array in found.items():
        np.testing.assert_array_equal(array, expected[name], err_msg=name)
    schedule = tf_synflow.SynFlowPruningSchedule(3, rounds=5)
    masks = tf_synflow.compute_masks(model, schedule=schedule, scorer=mine, **keywords)
    other = tf_synflow.compute_masks(functional, schedule=schedule, scorer=theirs)
    for name, mask in other.items():
        np.testing.assert_array_equal(mask, masks[name], err_msg=name)


@each_keras
def test_a_subclassed_model_scores_like_the_functional_one(k):
    assert_equal_scores(*convolutional(k))


def traces(model):
    """Lengths of the lists of nodes of each layer."""
    return [
        len(getattr(layer, name))
        for _, layer in [("", model), *weights.layers_of(model)]
        for name in ("_inbound_nodes", "_outbound_nodes")
    ]


@each_keras
def test_tracing_leaves_nothing_behind(k):
    model, functional = convolutional(k)
    outer = k.Sequential([k.Input((6, 6, 3)), model])
    for traced in (model, outer, functional):
        before = state(traced), traces(traced)
        tf_synflow.score(traced)
        assert (state(traced), traces(traced)) == before
    assert functional.get_layer("conv").output is not None
    assert functional.get_layer("dense").input is not None


@each_keras
def test_tracing_leaves_nothing_behind_when_it_fails(k):
    class Fails(k.Model):
        def __init__(self):
            super().__init__()
            self.dense = k.layers.Dense(2, name="dense")

        def call(self, x):
            x = self.dense(x)
            if bool(tf.executing_eagerly()) and not isinstance(x, tf.Tensor):
                raise RuntimeError("not here")
            return x

    model = built(Fails(), ones(3))
    before = state(model), traces(model)
    with pytest.raises(errors.ModelError, match="Fails.*RuntimeError: not here"):
        tf_synflow.score(model)
    assert (state(model), traces(model)) == before


@each_keras
def test_a_layer_of_a_functional_model_keeps_its_other_uses(k):
    """A subclassed model may share layers with a Functional one, whose graph must stay."""
    inputs = k.Input((3,))
    shared = k.layers.Dense(4, name="shared")
    functional = k.Model(inputs, shared(inputs))

    class Mine(k.Model):
        def __init__(self):
            super().__init__()
            self.shared = shared

        def call(self, x):
            return self.shared(x)

    model = built(Mine(), ones(3))
    output = shared.output
    tf_synflow.score(model)
    assert shared.output is output
    assert list(tf_synflow.score(functional)) == ["shared/kernel"]


# --- layers made of layers ------------------------------------------------------------------------


def block_class(k):
    add = (lambda x, y: tf.nn.relu(x + y)) if k is tf_keras else (lambda x, y: k.ops.relu(x + y))

    class Block(k.layers.Layer):
        """Attention and a list of dense layers, residual."""

        def __init__(self, units=3, **keywords):
            super().__init__(**keywords)
            self.attention = k.layers.MultiHeadAttention(2, 2, name="attention", **NO_BIAS)
            self.parts = [k.layers.Dense(n, name=f"p{n}", **NO_BIAS) for n in (5, units)]

        def build(self, shape):
            if k is not tf_keras:
                self.attention.build(shape, shape)
                self.parts[0].build(shape)
                self.parts[1].build((*shape[:-1], 5))
            super().build(shape)

        def call(self, x, training=None):
            x = add(x, self.attention(x, x, training=training))
            y = x
            for part in self.parts:
                y = part(y)
            return add(x, y)

    class Outer(k.layers.Layer):
        """A block inside a block, used twice."""

        def __init__(self, **keywords):
            super().__init__(**keywords)
            self.block = Block(name="block")

        def build(self, shape):
            if k is not tf_keras:
                self.block.build(shape)
            super().build(shape)

        def call(self, x):
            return self.block(self.block(x))

    return Block, Outer


@each_keras
@pytest.mark.parametrize("nested", [False, True])
def test_layers_made_of_layers(nested, k):
    block = block_class(k)[nested](name="made")
    inputs = k.Input((4, 3))
    x = k.layers.Dense(3, name="before", **NO_BIAS)(inputs)
    x = k.layers.Dense(2, name="after", **NO_BIAS)(block(x))
    model = without_additive_terms(k.Model(inputs, x))
    before = traces(model)
    flow, sums = flow_and_sums(model)
    assert traces(model) == before
    np.testing.assert_allclose([sums["before/kernel"], sums["after/kernel"]], flow, rtol=1e-12)
    path = "made/block" if nested else "made"
    assert {f"{path}/p5/kernel", f"{path}/p3/kernel", f"{path}/attention/query/kernel"} < set(sums)
    np.testing.assert_allclose(sums[f"{path}/p5/kernel"], sums[f"{path}/p3/kernel"], rtol=1e-12)
    assert 0 < sums[f"{path}/p5/kernel"] < (2 if nested else 1) * flow
    masks = tf_synflow.compute_masks(model, schedule=tf_synflow.SynFlowPruningSchedule(4, rounds=5))
    assert masks.kept == -(-masks.size // 4)


@each_keras
def test_a_layer_with_weights_of_its_own_needs_a_rule_inside_a_traced_model(k):
    class Scale(k.layers.Layer):
        def build(self, shape):
            self.scale = self.add_weight(name="scale", shape=(shape[-1],), initializer="ones")

        def call(self, x):
            return x * self.scale

    class Mine(k.Model):
        def __init__(self):
            super().__init__()
            self.dense, self.mine = k.layers.Dense(4, name="d", **NO_BIAS), Scale(name="mine")

        def call(self, x):
            return self.mine(self.dense(x))

    model = built(Mine(), ones(3))
    with pytest.raises(errors.UnsupportedLayerError, match="'mine'.*Scale"):
        tf_synflow.score(model)
    with registered():

        @tf_synflow.flow_rule(Scale)
        def rule(layer, theta, x):
            return x.linear(lambda value: value * theta.scale)

        found = tf_synflow.score(model, prunable="*")
        np.testing.assert_allclose(found["mine/scale"].sum(), found["d/kernel"].sum(), rtol=1e-12)


@each_keras
def test_weights_of_the_model_itself_count(k):
    class Mine(k.Model):
        def __init__(self):
            super().__init__()
            self.dense = k.layers.Dense(4, name="d", **NO_BIAS)

        def build(self, shape):
            self.scale = self.add_weight(name="scale", shape=(4,), initializer="ones")
            self.dense.build(shape)
            self.built = True

        def call(self, x):
            return self.dense(x) * self.scale

    found = tf_synflow.score(built(Mine(), ones(3)), prunable="*")
    np.testing.assert_allclose(found["scale"].sum(), found["d/kernel"].sum(), rtol=1e-12)


# --- structures -----------------------------------------------------------------------------------


@each_keras
@pytest.mark.parametrize("kind", ["dict", "list", "tuple"])
def test_several_inputs_and_outputs(kind, k):
    class Mine(k.Model):
        def __init__(self):
            super().__init__()
            self.p = k.layers.Dense(4, name="p", **NO_BIAS)
            self.q = k.layers.Dense(4, name="q", **NO_BIAS)
            self.out = k.layers.Dense(2, name="out", **NO_BIAS)

        def call(self, inputs):
            a, b = (inputs["a"], inputs["b"]) if kind == "dict" else inputs
            x = self.p(a) + self.q(b)
            return {"logits": self.out(x), "features": x}

    example = {"a": ones(3), "b": ones(5)}
    if kind != "dict":
        example = {"list": list, "tuple": tuple}[kind](example.values())
    model = built(Mine(), example)
    flow, sums = flow_and_sums(model)
    np.testing.assert_allclose(sums["p/kernel"] + sums["q/kernel"], flow, rtol=1e-12)
    assert 0 < sums["out/kernel"] < flow
    # The wider input brings more flow: inputs are not mixed up.
    network = Network(model)
    assert network.prunable_shapes == {"p/kernel": (3, 4), "q/kernel": (5, 4), "out/kernel": (4, 2)}


@each_keras
def test_token_inputs(k):
    class Mine(k.Model):
        def __init__(self):
            super().__init__()
            self.embedding = k.layers.Embedding(7, 4, name="embedding")
            self.gru = k.layers.GRU(3, name="gru")
            self.out = k.layers.Dense(2, name="out")

        def call(self, tokens):
            return self.out(self.gru(self.embedding(tokens)))

    model = built(Mine(), ones(5, dtype="int32"))
    inputs = k.Input((5,), dtype="int32")
    x = k.layers.GRU(3, name="gru")(k.layers.Embedding(7, 4, name="embedding")(inputs))
    assert_equal_scores(model, k.Model(inputs, k.layers.Dense(2, name="out")(x)))


@each_keras
def test_an_own_layer_called_with_several_arguments(k):
    class Join(k.layers.Layer):
        def __init__(self, **keywords):
            super().__init__(**keywords)
            self.p = k.layers.Dense(4, name="p", **NO_BIAS)
            self.q = k.layers.Dense(4, name="q", **NO_BIAS)

        def call(self, x, other=None):
            return self.p(x) + self.q(other)

    one, two = k.Input((3,)), k.Input((5,))
    joined = Join(name="join")
    joined(ones(3), other=ones(5))
    model = without_additive_terms(k.Model([one, two], joined(one, other=two)))
    flow, sums = flow_and_sums(model)
    np.testing.assert_allclose(sum(sums.values()), flow, rtol=1e-12)
    assert set(sums) == {"join/p/kernel", "join/q/kernel"}


@each_keras
def test_one_layer_called_in_two_modes_is_followed_twice(k):
    class Either(k.layers.Layer):
        def __init__(self, **keywords):
            super().__init__(**keywords)
            self.p = k.layers.Dense(4, name="p", **NO_BIAS)
            self.q = k.layers.Dense(4, name="q", **NO_BIAS)

        def call(self, x, second=False):
            return self.q(x) if second else self.p(x)

    inputs = k.Input((3,))
    either = Either(name="either")
    either.p.build((None, 3))
    either.q.build((None, 3))
    outputs = k.layers.Add()([either(inputs), either(inputs, second=True)])
    model = without_additive_terms(k.Model(inputs, outputs))
    flow, sums = flow_and_sums(model)
    assert set(sums) == {"either/p/kernel", "either/q/kernel"}
    for name, total in sums.items():
        kernel = weights.all_weights(model)[name].variable.numpy()
        np.testing.assert_allclose(total, np.abs(kernel).sum(), rtol=1e-6)
    np.testing.assert_allclose(sum(sums.values()), flow, rtol=1e-12)


# --- what cannot be traced ------------------------------------------------------------------------


@each_keras
def test_a_branch_on_values_is_an_error_that_says_so(k):
    class Mine(k.Model):
        def __init__(self):
            super().__init__()
            self.dense = k.layers.Dense(2, name="dense")

        def call(self, x):
            x = self.dense(x)
            return x if bool(x[0, 0] > 0) else -x

    model = built(Mine(), ones(3))
    before = state(model)
    with pytest.raises(errors.ModelError, match="Mine.*without a Python `if`.*flow_rule"):
        tf_synflow.score(model, input_shape=(3,))
    assert state(model) == before


def test_bare_tensorflow_in_a_keras_3_model_is_an_error_that_names_the_way_out():
    import keras

    class Bare(keras.layers.Layer):
        def __init__(self, **keywords):
            super().__init__(**keywords)
            self.dense = keras.layers.Dense(2, name="dense")

        def build(self, shape):
            self.dense.build(shape)
            self.built = True

        def call(self, x):
            return tf.nn.relu(self.dense(x))

    inputs = keras.Input((3,))
    model = keras.Model(inputs, Bare(name="bare")(inputs))
    with pytest.raises(errors.ModelError, match="'bare'.*bare TensorFlow functions.*keras.ops"):
        tf_synflow.score(model)
    with registered():

        @tf_synflow.flow_rule(Bare)
        def rule(layer, theta, x):
            return tensor.add([x.linear(lambda v: tf.matmul(v, theta.of(layer.dense).kernel))])

        assert list(tf_synflow.score(model)) == ["bare/dense/kernel"]
