"""The plan of a run: which sums a network holds, and that they are those of all positions."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from flow_sums import registered
from small_models import KERASES, randomise

import tf_synflow
from tf_synflow.flow.network import Network
from tf_synflow.flow.rules import by_class
from tf_synflow.flow.rules.convolution import slide
from tf_synflow.flow.tensor import FlowTensor
from tf_synflow.scores import synflow

each_keras = pytest.mark.parametrize("k", KERASES)


def rows(model, monkeypatch, planned=True):
    """Of each kernel how many gradients come back, and its scores."""
    monkeypatch.setattr(synflow, "_WORTH_A_PLAN", 0 if planned else np.inf)
    factors, _ = synflow.SynapticFlow(Network(model)).factors()
    kernels = [one for one in factors if one._signals is not None]
    sizes = {one.name.removesuffix("/kernel"): len(one._signals) for one in kernels}
    return sizes, {one.name: one.all() for one in factors}


def check(model, monkeypatch, **expected):
    """That the kernels have so many gradients, and the scores that they have without sums."""
    found, scores = rows(model, monkeypatch)
    every, of_positions = rows(model, monkeypatch, planned=False)
    assert {name: found[name] for name in expected} == expected, (found, every)
    assert all(found[name] <= size for name, size in every.items())
    for name, own in scores.items():
        np.testing.assert_allclose(own, of_positions[name], 1e-13)


def net(k, layers, size=16):
    """Three layers, whose last is a mean over all positions, and a head."""
    model = k.Sequential([k.Input((size, size, 3)), *layers, k.layers.Dense(5, name="head")])
    return randomise(model)


def conv(k, name, strides=1, **more):
    return k.layers.Conv2D(4, 3, strides, "same", name=name, use_bias=False, **more)


@each_keras
def test_in_front_of_a_mean_all_positions_are_one_and_nine_a_convolution_before(k, monkeypatch):
    model = net(k, [*(conv(k, f"c{i}") for i in range(4)), k.layers.GlobalAveragePooling2D()])
    # Classes on the way in: 3², 5², 7², 9²; groups on the way out: 7², 5², 3², 1.
    check(model, monkeypatch, c0=9, c1=25, c2=9, c3=1, head=1)


@each_keras
def test_sums_go_through_normalizations_joins_and_rectifiers(k, monkeypatch):
    layers = k.layers
    inputs = k.Input((16, 16, 3))
    x = conv(k, "stem", 2)(inputs)
    for i in range(3):
        y = layers.BatchNormalization(center=False)(conv(k, f"a{i}")(layers.ReLU()(x)))
        y = layers.ReLU()(layers.BatchNormalization(center=False)(y))
        x = layers.Add()([x, conv(k, f"b{i}")(y)])
    x = layers.Concatenate()([x, layers.DepthwiseConv2D(3, padding="same")(x)])
    x = layers.AveragePooling2D(2)(layers.ZeroPadding2D(1)(x))
    model = k.Model(inputs, layers.Dense(5, name="head")(layers.GlobalAveragePooling2D()(x)))
    for weight in randomise(model).weights:
        if "moving_mean" in getattr(weight, "path", weight.name):
            weight.assign(np.zeros(weight.shape))
    # Along each axis an edge on either side, and every second position between; then 3 × 3 more.
    check(model, monkeypatch, b2=16, a2=36)


@each_keras
def test_a_gate_of_all_positions_multiplies_their_sum(k, monkeypatch):
    layers = k.layers
    inputs = k.Input((16, 16, 3))
    x = conv(k, "gated")(conv(k, "first")(inputs))
    gate = layers.Dense(4, "sigmoid", use_bias=False)(layers.GlobalAveragePooling2D()(x))
    x = layers.Multiply()([x, layers.Reshape((1, 1, 4))(gate)])
    outputs = layers.Dense(5, name="head")(layers.GlobalAveragePooling2D()(x))
    check(randomise(k.Model(inputs, outputs)), monkeypatch, gated=1, first=9)


@each_keras
def test_a_layer_made_of_layers_is_planned_too(k, monkeypatch):
    """Its call is followed on symbolic tensors while the record is made."""

    class Block(k.layers.Layer):
        def __init__(self):
            super().__init__(name="block")
            self.first, self.last = conv(k, "first"), conv(k, "last")

        def build(self, shape):
            self.first.build(shape)
            self.last.build((*shape[:-1], 4))
            super().build(shape)

        def call(self, x):
            return self.last(self.first(x))

    model = net(k, [Block(), k.layers.GlobalAveragePooling2D()])
    check(model, monkeypatch, **{"block/first": 9, "block/last": 1})


@each_keras
def test_a_stride_leaves_positions_out(k, monkeypatch):
    """On a map of which each position is a class of its own, as are those behind the stride."""
    layers = [conv(k, f"c{i}") for i in range(4)]
    short = k.layers.Conv2D(4, 1, 2, name="short", use_bias=False)
    model = net(k, [*layers, short, conv(k, "last"), k.layers.GlobalAveragePooling2D()], size=8)
    check(model, monkeypatch, c0=9, short=9, last=1)


@each_keras
def test_what_a_stride_leaves_out_is_one_group(k, monkeypatch):
    """In front of a maximum, to which each position behind the stride counts for itself."""
    layers = [conv(k, f"c{i}") for i in range(4)]
    short = k.layers.Conv2D(4, 1, 2, name="short", use_bias=False)
    parts = [short, k.layers.MaxPooling2D(2), k.layers.GlobalAveragePooling2D()]
    check(net(k, [*layers, *parts], size=8), monkeypatch, c3=25, short=16)


def test_sums_without_a_plan_are_refused():
    x = FlowTensor(tf.ones([1, 2, 2, 1]), tf.zeros([]), groups=(None, np.zeros(3, int), None, None))
    with pytest.raises(RuntimeError, match="received sums over positions"):
        slide(
            x, lambda rows, windows: windows.gather(rows)[:, 0], [np.arange(3)[:, np.newaxis]] * 2
        )
    with pytest.raises(RuntimeError, match="received sums over positions"):
        x.linear(tf.identity)


@each_keras
def test_a_mean_that_is_taken_off_leaves_every_position_to_the_rectifier(k, monkeypatch):
    """A ReLU of a sum is not the sum of the ReLUs where some are below zero."""
    parts = [k.layers.BatchNormalization(), k.layers.ReLU(), k.layers.GlobalAveragePooling2D()]
    model = net(k, [conv(k, "first"), conv(k, "last"), *parts])
    for weight in model.weights:
        if "moving_mean" in getattr(weight, "path", weight.name):
            weight.assign(weight + 2)
    check(model, monkeypatch, last=25)


@pytest.mark.parametrize(
    "reader",
    [
        lambda k: k.layers.MaxPooling2D(2),
        lambda k: k.layers.AveragePooling2D(3, padding="same"),
        lambda k: k.layers.Reshape((16, 16, 4)),
    ],
)
@each_keras
def test_what_does_not_add_reads_every_position(reader, k, monkeypatch):
    parts = [conv(k, "last"), reader(k), k.layers.GlobalAveragePooling2D()]
    check(net(k, [conv(k, "first"), *parts]), monkeypatch, first=9, last=25)


@pytest.mark.parametrize(("alike", "expected"), [(False, 25), (True, 1)])
def test_a_rule_says_along_which_axes_it_adds(alike, expected, monkeypatch):
    class Twice(keras.layers.Layer):
        def call(self, x):
            return 2 * x

    def rule(layer, theta, x):
        return x.linear(lambda value: 2 * value, x.axes if alike else ())

    with registered():
        tf_synflow.flow_rule(Twice)(by_class(rule))
        parts = [conv(keras, "last"), Twice(), keras.layers.GlobalAveragePooling2D()]
        check(net(keras, [conv(keras, "first"), *parts]), monkeypatch, last=expected)


@each_keras
def test_a_bias_counts_once_a_position(k, monkeypatch):
    layers = [k.layers.Conv2D(4, 3, padding="same", name=f"c{i}") for i in range(3)]
    model = net(k, [*layers, k.layers.GlobalAveragePooling2D()])
    check(model, monkeypatch, c2=1, c1=9)
