"""A kernel outside the graph: in loops, used in two ways, and let go of when all is done."""

import gc
import weakref

import numpy as np
import pytest
import tensorflow as tf
from flow_sums import registered
from small_models import KERASES, randomise, residual

import tf_synflow
from tf_synflow.flow import rules, tensor
from tf_synflow.flow.network import Network

each_keras = pytest.mark.parametrize("k", KERASES)


def full(network):
    return {name: np.ones(shape, bool) for name, shape in network.prunable_shapes.items()}


@each_keras
def test_a_product_inside_a_loop(k):
    """A cell made of dense layers, step after step, is the SimpleRNN that it is."""

    class Cell(k.layers.Layer):
        def __init__(self, units):
            super().__init__(name="cell")
            self.units = self.state_size = self.output_size = units
            self.of_input = k.layers.Dense(units, name="input")
            self.of_state = k.layers.Dense(units, use_bias=False, name="state")

        def build(self, shape):
            self.of_input.build(shape)
            self.of_state.build((shape[0], self.units))
            self.built = True

        def call(self, x, states, training=None):
            output = self.of_input(x) + self.of_state(states[0])
            return output, [output]

    def rule(cell, theta, x, states):
        parts = rules.apply(cell.of_input, theta, x), rules.apply(cell.of_state, theta, states[0])
        output = tensor.add(parts)
        return output, [output]

    def model(layer):
        inputs = k.Input((4, 3))
        return randomise(k.Model(inputs, k.layers.Dense(2, name="head")(layer(inputs))))

    cell = Cell(5)
    own = model(k.layers.RNN(cell, name="rnn"))
    plain = model(k.layers.SimpleRNN(5, activation="linear", name="rnn"))
    plain.get_layer("rnn").set_weights(
        [cell.of_input.kernel.numpy(), cell.of_state.kernel.numpy(), cell.of_input.bias.numpy()]
    )
    plain.get_layer("head").set_weights(own.get_layer("head").get_weights())
    with registered():
        tf_synflow.flow_rule(Cell)(rule)
        found = tf_synflow.score(own)
    expected = tf_synflow.score(plain)
    assert len(found) == len(expected) == 3
    kernels = {name.split("/")[-2]: array for name, array in found.items()}
    for name, array in expected.items():
        part = "state" if "recurrent" in name else "input" if "rnn" in name else "head"
        np.testing.assert_allclose(kernels[part], array, rtol=1e-12)


@each_keras
@pytest.mark.parametrize("masked", [False, True])
def test_a_kernel_that_is_multiplied_and_taken_whole(masked, k):
    """An autoencoder whose decoder is the encoder, transposed."""
    encoder = k.layers.Dense(4, use_bias=False, name="encoder")

    class Decoder(k.layers.Layer):
        def call(self, x):
            return x @ tf.transpose(encoder.kernel)

        def compute_output_shape(self, shape):
            return (*shape[:-1], 6)

    def rule(layer, theta, x):
        kernel = theta.of(encoder).kernel
        return x.linear(lambda value: tf.matmul(value, kernel, transpose_b=True))

    inputs = k.Input((5, 6))
    x = encoder(inputs)
    with registered():
        tf_synflow.flow_rule(Decoder)(rule)
        decoder = Decoder(name="decoder")
        x = k.layers.Dense(3, use_bias=False, name="head")(decoder(x))
        model = randomise(k.Model(inputs, k.layers.Flatten()(x)))
        network = Network(model)
        masks = full(network)
        if masked:
            masks["encoder/kernel"][:, 1:3] = False
            masks["encoder/kernel"][2] = False
            masks["head/kernel"][0, 0] = False
        found = tf_synflow.score(model, masks=masks)
    with tf.GradientTape() as tape:
        theta = [tf.constant(np.abs(v) * masks[n]) for n, v in network.prunable_values().items()]
        tape.watch(theta)
        kernel, head = theta
        flow = tf.reduce_sum(tf.ones([5, 6], tf.float64) @ kernel @ tf.transpose(kernel) @ head)
    for (name, array), one, gradient in zip(
        found.items(), theta, tape.gradient(flow, theta), strict=True
    ):
        np.testing.assert_allclose(array, one * gradient, rtol=1e-12, err_msg=name)


@each_keras
def test_the_weights_are_let_go_of_with_the_scoring(k):
    """TensorFlow keeps functions outside a graph, and custom gradients, as long as the process."""
    network = Network(residual(k), "*conv*")
    flow = tf_synflow.scores.SynFlow().bind(network)
    flow(full(network))
    of_pruned = weakref.ref(flow._survivors["conv1/kernel"])
    of_others = weakref.ref(flow._fixed["head/kernel"])
    del flow
    gc.collect()
    assert of_pruned() is None and of_others() is None


@each_keras
def test_a_scoring_does_not_change_what_the_next_one_finds(k):
    """No result of a graph is written to what it was made from."""
    network = Network(residual(k), "*")
    flow, masks = tf_synflow.scores.SynFlow().bind(network), full(network)
    first = flow(masks)
    for _ in range(2):
        before = {name: one.dense().copy() for name, one in flow._survivors.items()}
        flow.factors()
        for name, one in flow._survivors.items():
            np.testing.assert_array_equal(one.dense(), before[name])
    again = flow(masks)
    for name, array in first.items():
        np.testing.assert_array_equal(again[name], array)
