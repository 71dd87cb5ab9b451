"""Scoring by classes of positions is exact: equal to a scoring of every position.

What it is held against is computed twice without classes: by the network of |θ| with a class for
each position, on plain tensors, and, where no rule leaves anything out, by Keras itself.
"""

import contextlib

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from classes_models import BUILDERS, CHAINS, GATED, IMAGE, NOT_LITERAL, chain, headed, of_any_size
from flow_sums import registered
from small_models import KERASES, policy, randomise

import tf_synflow
from tf_synflow.flow.network import Network
from tf_synflow.flow.rules import convolution
from tf_synflow.flow.rules.registry import by_class
from tf_synflow.flow.tensor import FlowTensor
from tf_synflow.scores import synflow


@pytest.fixture(autouse=True)
def with_a_plan(monkeypatch):
    """Positions that are read alike are summed in networks of any size."""
    monkeypatch.setattr(synflow, "_WORTH_A_PLAN", 0)


def seeded(build, k, dtype="float64"):
    """A model with random weights."""
    with policy(k, dtype):
        return randomise(build(k))


def some_masks(shapes):
    """Half of the weights, and no more than that of whole rows and columns."""
    random, masks = np.random.RandomState(0), {}
    for name, shape in shapes.items():
        mask = random.random_sample(shape) < 0.7
        if len(shape) > 1:
            mask &= random.random_sample((*shape[:-1], 1)) < 0.8
            mask &= random.random_sample(shape[-1]) < 0.8
        masks[name] = mask
    return masks


@contextlib.contextmanager
def every_position():
    """Without classes: every axis has all its positions from the input on."""

    def of_all(cls, value, shape):
        return cls.of(tf.fill(shape, value))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FlowTensor, "uniform", classmethod(of_all))
        yield


def on_tensors(network, masks):
    """θ ⊙ ∂R/∂θ by a tape over plain tensors."""
    theta = {
        name: tf.constant(np.abs(value) * masks.get(name, 1))
        for name, value in network.values().items()
    }
    with tf.GradientTape() as tape:
        tape.watch(theta)
        flow = network(theta)
    gradients = tape.gradient(flow.value, theta, unconnected_gradients="zero")
    scale = 2.0 ** float(flow.log2_scale)
    return {name: (theta[name] * gradients[name]).numpy() * scale for name in masks}


def by_keras(model, network, masks, k):
    """The same by Keras itself, on the model with |θ| for θ."""
    variables = {}
    for name, value in network.values().items():
        own = network.weights[name].variable
        own.assign(np.abs(value) * masks.get(name, 1))
        variables[name] = own.value if k is keras else own
    with tf.GradientTape() as tape:
        tape.watch(list(variables.values()))
        flow = tf.reduce_sum(model([tf.ones([1, *x.shape[1:]], tf.float64) for x in model.inputs]))
    gradients = tape.gradient(flow, variables, unconnected_gradients="zero")
    return {name: (variables[name] * gradients[name]).numpy() for name in masks}


def check(model, k, literal=True, rtol=1e-12, traced=False):
    """Scores of a network in which weights, whole rows and columns are missing.

    They are SynFlow's own where it is traced, else a tape's over the same classes, which takes a
    quarter of the time. Traced are, of tf_keras, the graphs and those chains that Keras computes
    otherwise; they hold every kind of layer, and the other chains more of their arguments.
    """
    network = Network(model, "*")
    masks = some_masks(network.prunable_shapes)
    if traced:
        found = tf_synflow.scores.SynFlow().bind(network)(masks)
        assert found.log2_scale == 0
    else:
        found = on_tensors(network, masks)
    with every_position():
        judges = [on_tensors(network, masks)]
    if literal:
        judges.append(by_keras(model, network, masks, k))
    for expected in judges:
        assert list(found) == list(expected)
        largest = max(abs(array).max() for array in expected.values())
        assert largest > 0
        for name, array in found.items():
            right = np.abs(expected[name]) if traced else expected[name]
            np.testing.assert_allclose(array, right, rtol, largest * 1e-15, err_msg=name)


@pytest.mark.parametrize("k", KERASES)
@pytest.mark.parametrize("name", CHAINS)
def test_a_chain(name, k):
    rtol = 1e-5 if name == "interpolation" else 1e-12  # TensorFlow interpolates in float32
    check(seeded(lambda k: chain(k, *CHAINS[name]), k), k, rtol=rtol)


@pytest.mark.parametrize("k", KERASES)
@pytest.mark.parametrize("name", NOT_LITERAL)
def test_a_chain_that_keras_computes_otherwise(name, k):
    model = seeded(lambda k: chain(k, *NOT_LITERAL[name]), k, "float32")
    check(model, k, literal=False, traced=k is tf_keras)


@pytest.mark.parametrize("k", KERASES)
@pytest.mark.parametrize("name", [*BUILDERS, *GATED])
def test_a_graph(name, k):
    model = seeded({**BUILDERS, **GATED}[name], k)
    check(model, k, literal=name in BUILDERS, traced=k is tf_keras)


@pytest.mark.parametrize("k", KERASES)
@pytest.mark.parametrize("by_classes", [False, True])
def test_a_table_of_positions_that_is_added(by_classes, k):
    """What a weight says of every position tells them all apart from there on."""

    class Positions(k.layers.Layer):
        def build(self, shape):
            self.table = self.add_weight(name="table", shape=shape[1:], initializer="ones")

        def call(self, x):
            return x + self.table

    def rule(layer, theta, x):
        return x.plus(theta.table)

    def build(k):
        inputs = k.Input(IMAGE)
        x = k.layers.Conv2D(3, 3, strides=2, padding="same")(inputs)
        x = k.layers.Conv2D(3, 3, padding="same")(Positions(name="positions")(x))
        return headed(k, inputs, x)

    with registered():
        tf_synflow.flow_rule(Positions)(by_class(rule) if by_classes else rule)
        check(seeded(build, k), k, traced=k is tf_keras)


@pytest.mark.parametrize("name", ["convolutions of a series", "convolutions", "volumes"])
def test_a_convolution_of_too_many_patches_is_left_to_tensorflow(name):
    parts = {**CHAINS, **NOT_LITERAL}[name]
    network = Network(seeded(lambda k: chain(k, *parts), tf_keras, "float32"), "*")
    masks = some_masks(network.prunable_shapes)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(convolution, "_MOST_VALUES", 0)
        found = tf_synflow.scores.SynFlow().bind(network)(masks)
    for name, expected in on_tensors(network, masks).items():
        np.testing.assert_allclose(found[name], expected, 1e-12, abs(expected).max() * 1e-14)


# --- the cost does not depend on the size of an image ---------------------------------------------


def representatives(model, size):
    """The shape of what is computed behind each layer."""
    network = Network(model, "*", input_shape=(size, size, 3))
    theta = {name: tf.constant(np.abs(value)) for name, value in network.values().items()}
    shapes = {}
    network.outputs(theta, lambda layer, x: shapes.setdefault(layer.name, tuple(x.value.shape)))
    return shapes


def graph_of(model, size):
    """Kinds and shapes of all that a scoring computes."""
    flow = tf_synflow.scores.SynFlow().bind(Network(model, input_shape=(size, size, 3)))
    operations = flow._flow.graph.get_operations()
    return [(one.type, *(str(output.shape) for output in one.outputs)) for one in operations]


@pytest.mark.parametrize("k", KERASES)
def test_representatives_do_not_grow_with_the_image(k):
    model = of_any_size(k)
    small, large = representatives(model, 64), representatives(model, 1024)
    assert len(small) > 15
    assert large == small
    assert representatives(model, 4096) == small
    rows = [shape[1] for shape in small.values() if len(shape) == 4]
    assert max(rows) < 32 and min(rows) == 1
    # Beside a size that strides do not divide there are a few more, at whatever size.
    odd, larger = representatives(model, 127), representatives(model, 1151)
    assert odd == larger


def test_a_scoring_of_64_and_of_1024_pixels_traces_the_same_graph():
    model = of_any_size(tf_keras)
    assert graph_of(model, 64) == graph_of(model, 1024)
