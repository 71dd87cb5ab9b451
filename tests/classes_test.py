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
from flow_sums import registered
from small_models import KERASES, policy, randomise

import tf_synflow
from tf_synflow.flow.network import Network
from tf_synflow.flow.rules import convolution
from tf_synflow.flow.rules.registry import by_class
from tf_synflow.flow.tensor import FlowTensor

SERIES, IMAGE, VOLUME = (23, 3), (17, 13, 3), (7, 5, 6, 2)

# Chains of layers over all-ones inputs: sizes are prime, so that strides leave something over.
CHAINS = {
    "convolutions of a series": (SERIES, [
        ("Conv1D", {"filters": 4, "kernel_size": 3, "padding": "same", "activation": "relu"}),
        ("Conv1D", {"filters": 4, "kernel_size": 3, "padding": "causal", "dilation_rate": 2}),
        ("Conv1D", {"filters": 6, "kernel_size": 4, "strides": 2}),
        ("Conv1D", {"filters": 4, "kernel_size": 3, "strides": 2, "padding": "same"}),
        ("Conv1D", {"filters": 6, "kernel_size": 2, "groups": 2, "padding": "same"}),
    ]),
    "causal strides": (SERIES, [
        ("Conv1D", {"filters": 4, "kernel_size": 5, "strides": 3, "padding": "causal"}),
        ("Conv1D", {"filters": 4, "kernel_size": 2, "groups": 4, "padding": "causal"}),
    ]),
    "parts of convolutions of a series": (SERIES, [
        ("SeparableConv1D", {"filters": 4, "kernel_size": 3, "padding": "same"}),
        ("DepthwiseConv1D", {"kernel_size": 3, "strides": 2, "depth_multiplier": 2}),
        ("SeparableConv1D", {"filters": 3, "kernel_size": 2, "strides": 2, "padding": "same"}),
    ]),
    "a series there and back": (SERIES, [
        ("Conv1D", {"filters": 4, "kernel_size": 3, "padding": "same"}),
        ("Conv1DTranspose", {"filters": 3, "kernel_size": 3, "strides": 2}),
        ("Conv1DTranspose", {"filters": 3, "kernel_size": 2, "strides": 3, "padding": "same"}),
        ("Conv1D", {"filters": 4, "kernel_size": 5, "strides": 3, "padding": "same"}),
        ("Conv1DTranspose",
         {"filters": 2, "kernel_size": 4, "strides": 3, "padding": "same", "output_padding": 1}),
    ]),
    "poolings of a series": (SERIES, [
        ("ZeroPadding1D", {"padding": (2, 1)}),
        ("MaxPooling1D", {"pool_size": 3, "strides": 2, "padding": "same"}),
        ("Conv1D", {"filters": 4, "kernel_size": 3, "padding": "same"}),
        ("AveragePooling1D", {"pool_size": 3, "strides": 1, "padding": "same"}),
        ("UpSampling1D", {"size": 3}),
        ("Cropping1D", {"cropping": (0, 4)}),
        ("AveragePooling1D", {"pool_size": 4}),
    ]),
    "convolutions": (IMAGE, [
        ("Conv2D", {"filters": 4, "kernel_size": 3, "padding": "same", "activation": "relu"}),
        ("BatchNormalization", {}),
        ("ReLU", {}),
        ("Conv2D", {"filters": 6, "kernel_size": (2, 3)}),
        ("Conv2D", {"filters": 4, "kernel_size": 3, "strides": 2, "padding": "same"}),
        ("Conv2D", {"filters": 4, "kernel_size": 1, "strides": 2}),
        ("Conv2D", {"filters": 4, "kernel_size": (5, 1), "padding": "same"}),
    ]),
    "dilation and groups": (IMAGE, [
        ("Conv2D", {"filters": 6, "kernel_size": 3, "padding": "same", "dilation_rate": (2, 3)}),
        ("Conv2D", {"filters": 4, "kernel_size": 3, "groups": 2, "activation": "relu"}),
        ("Conv2D", {"filters": 8, "kernel_size": 2, "groups": 4, "strides": 2, "padding": "same"}),
        ("Conv2D", {"filters": 3, "kernel_size": 2, "dilation_rate": 2}),
    ]),
    "there and back": (IMAGE, [
        ("Conv2D", {"filters": 4, "kernel_size": 3, "strides": 2, "padding": "same"}),
        ("Conv2DTranspose", {"filters": 4, "kernel_size": 3, "strides": (2, 3)}),
        ("Conv2D", {"filters": 4, "kernel_size": 3, "strides": 3, "padding": "same"}),
        ("Conv2DTranspose", {"filters": 3, "kernel_size": 3, "strides": 2, "padding": "same",
                             "output_padding": 1}),
        ("Conv2DTranspose", {"filters": 2, "kernel_size": (2, 5), "padding": "same"}),
    ]),
    "a gap between transposes": (IMAGE, [
        ("Conv2DTranspose", {"filters": 2, "kernel_size": 2, "strides": 3, "padding": "same"}),
        ("MaxPooling2D", {"pool_size": 2}),
    ]),
    "parts of convolutions": (IMAGE, [
        ("DepthwiseConv2D", {"kernel_size": 3, "padding": "same", "depth_multiplier": 2}),
        ("SeparableConv2D", {"filters": 4, "kernel_size": 3, "strides": 2, "padding": "same"}),
        ("DepthwiseConv2D", {"kernel_size": 2, "strides": 2}),
        ("SeparableConv2D", {"filters": 3, "kernel_size": 2, "depth_multiplier": 2}),
        ("DepthwiseConv2D", {"kernel_size": 3, "padding": "same", "dilation_rate": 2}),
    ]),
    "poolings that overlap": (IMAGE, [
        ("Conv2D", {"filters": 4, "kernel_size": 3, "padding": "same"}),
        ("MaxPooling2D", {"pool_size": 3, "strides": 2, "padding": "same"}),
        ("AveragePooling2D", {"pool_size": 3, "strides": 1, "padding": "same"}),
        ("MaxPooling2D", {"pool_size": (2, 3), "strides": 1}),
        ("AveragePooling2D", {"pool_size": 2}),
    ]),
    "borders added, cut off and repeated": (IMAGE, [
        ("ZeroPadding2D", {"padding": ((1, 2), (0, 3))}),
        ("Conv2D", {"filters": 4, "kernel_size": 3}),
        ("Cropping2D", {"cropping": ((0, 1), (2, 0))}),
        ("UpSampling2D", {"size": (2, 3)}),
        ("Conv2D", {"filters": 3, "kernel_size": 4, "strides": 3, "padding": "same"}),
        ("ZeroPadding2D", {"padding": 0}),
    ]),
    "interpolation": (IMAGE, [
        ("Conv2D", {"filters": 3, "kernel_size": 3, "padding": "same"}),
        ("UpSampling2D", {"size": 2, "interpolation": "bilinear"}),
        ("Conv2D", {"filters": 2, "kernel_size": 3, "strides": 2}),
    ]),
    "an alpha a position": (IMAGE, [
        ("Conv2D", {"filters": 3, "kernel_size": 3, "strides": 2}),
        ("BatchNormalization", {}),
        ("PReLU", {}),
        ("Conv2D", {"filters": 2, "kernel_size": 3, "padding": "same"}),
        ("PReLU", {"shared_axes": [1, 2]}),
    ]),
    "axes in another order": (IMAGE, [
        ("Conv2D", {"filters": 3, "kernel_size": 3, "padding": "same"}),
        ("Permute", {"dims": (2, 3, 1)}),
        ("Conv2D", {"filters": 2, "kernel_size": 3, "strides": 2}),
        ("Reshape", {"target_shape": (-1, 2)}),
        ("Conv1D", {"filters": 2, "kernel_size": 3}),
    ]),
    "a normalization over rows": (IMAGE, [
        ("Conv2D", {"filters": 3, "kernel_size": 3, "padding": "same"}),
        ("BatchNormalization", {"axis": 1}),
        ("Dense", {"units": 4, "activation": "relu"}),
        ("BatchNormalization", {"axis": 2}),
        ("Conv2D", {"filters": 3, "kernel_size": 3}),
    ]),
    "one pixel high": ((1, 23, 3), [
        ("Conv2D", {"filters": 4, "kernel_size": 3, "padding": "same"}),
        ("MaxPooling2D", {"pool_size": 2, "padding": "same"}),
        ("UpSampling2D", {"size": (3, 1)}),
        ("Conv2D", {"filters": 3, "kernel_size": (3, 2), "strides": 2, "padding": "same"}),
    ]),
    "one pixel wide": ((23, 1, 3), [
        ("Conv2DTranspose", {"filters": 4, "kernel_size": 3, "strides": 2, "padding": "same"}),
        ("DepthwiseConv2D", {"kernel_size": 3, "padding": "same"}),
        ("ZeroPadding2D", {"padding": 2}),
    ]),
    "one pixel": ((1, 1, 3), [
        ("Conv2D", {"filters": 4, "kernel_size": 3, "padding": "same"}),
        ("UpSampling2D", {"size": 7}),
        ("Conv2D", {"filters": 3, "kernel_size": 3, "padding": "same"}),
    ]),
    "volumes there and back": (VOLUME, [
        ("Conv3D", {"filters": 2, "kernel_size": 3, "padding": "same", "groups": 2}),
        ("ZeroPadding3D", {"padding": ((0, 1), (1, 0), (0, 0))}),
        ("Cropping3D", {"cropping": ((1, 1), (0, 0), (0, 2))}),
        ("Conv3DTranspose", {"filters": 2, "kernel_size": 2, "strides": (1, 2, 1)}),
        ("UpSampling3D", {"size": (1, 1, 2)}),
        ("Conv3D", {"filters": 2, "kernel_size": 2, "strides": 2}),
    ]),
    "steps of images": ((3, 9, 7, 2), [
        ("TimeDistributed Conv2D", {"filters": 3, "kernel_size": 3, "padding": "same"}),
        ("TimeDistributed MaxPooling2D", {"pool_size": 2}),
        ("Conv3D", {"filters": 2, "kernel_size": 2}),
    ]),
}  # fmt: skip

# Gates, and normalizations by the data: the rules leave something out, and Keras is no judge.
NOT_LITERAL = {
    "a normalization over positions": (IMAGE, [
        ("Conv2D", {"filters": 4, "kernel_size": 3, "padding": "same"}),
        ("LayerNormalization", {"axis": [1, 2]}),
        ("Conv2D", {"filters": 4, "kernel_size": 3, "strides": 2}),
        ("LayerNormalization", {"axis": [1, 2, 3]}),
        ("GroupNormalization", {"groups": 2}),
        ("Conv2D", {"filters": 3, "kernel_size": 2, "activation": "gelu"}),
    ]),
    # Keras has no such pooling in float64.
    "volumes": (VOLUME, [
        ("Conv3D", {"filters": 3, "kernel_size": (3, 2, 3), "padding": "same"}),
        ("MaxPooling3D", {"pool_size": 2, "strides": 1}),
        ("Conv3D", {"filters": 2, "kernel_size": 2, "strides": (1, 2, 1), "padding": "same"}),
        ("AveragePooling3D", {"pool_size": (3, 1, 2), "strides": 1, "padding": "same"}),
    ]),
    # TensorFlow has no such convolution, and tf_keras no such pooling, on a CPU.
    "channels first": ((3, 17, 13), [
        (name, {**arguments, "data_format": "channels_first"}) for name, arguments in [
            ("Conv2D", {"filters": 4, "kernel_size": 3, "padding": "same"}),
            ("MaxPooling2D", {"pool_size": 3, "strides": 2, "padding": "same"}),
            ("ZeroPadding2D", {"padding": ((1, 0), (0, 2))}),
            ("DepthwiseConv2D", {"kernel_size": 2}),
            ("UpSampling2D", {"size": 2}),
            ("SeparableConv2D", {"filters": 3, "kernel_size": 3}),
            ("AveragePooling2D", {"pool_size": 2}),
            ("Cropping2D", {"cropping": ((0, 1), (1, 0))}),
            ("Conv2DTranspose", {"filters": 3, "kernel_size": 2, "strides": 2}),
        ]
    ] + [("BatchNormalization", {"axis": 1})]),
}  # fmt: skip


def chain(k, shape, parts):
    x = inputs = k.Input(shape)
    for name, arguments in parts:
        *around, name = name.split()
        layer = getattr(k.layers, name)(**arguments)
        for wrapper in around:
            layer = getattr(k.layers, wrapper)(layer)
        x = layer(x)
    return headed(k, inputs, x)


def headed(k, inputs, x):
    """A head that tells positions apart, and one that does not."""
    layers = k.layers
    flat = layers.Dense(2, name="flat")(layers.Flatten()(x))
    mean = getattr(layers, f"GlobalAveragePooling{len(x.shape) - 2}D")()(x)
    return k.Model(inputs, layers.Add()([flat, layers.Dense(2, name="mean")(mean)]))


def branches(k):
    """Branches with borders of different widths, joined side by side and added."""
    layers = k.layers
    inputs = k.Input(IMAGE)
    parts = [
        layers.Conv2D(3, size, strides=2, padding="same", activation="relu")(inputs)
        for size in (1, 3, 7)
    ]
    parts.append(layers.MaxPooling2D(3, 2, padding="same")(inputs))
    x = layers.Concatenate()(parts)
    y = layers.Conv2D(12, 3, padding="same", dilation_rate=2)(x)
    x = layers.Maximum()([layers.Average()([x, y]), layers.AveragePooling2D(3, 1, "same")(x)])
    x = layers.Concatenate(axis=1)([x, layers.Cropping2D(((1, 2), (0, 0)))(x), y])
    return headed(k, inputs, layers.Conv2D(3, 3, strides=2)(x))


def global_poolings(k):
    """What is said of all positions, given back to each of them."""
    layers = k.layers
    inputs = k.Input(IMAGE)
    x = layers.Conv2D(4, 3, padding="same", activation="relu")(inputs)
    mean = layers.GlobalAveragePooling2D(keepdims=True)(x)
    largest = layers.GlobalMaxPooling2D(keepdims=True)(layers.Conv2D(4, 3)(x))
    x = layers.Add()([layers.Conv2D(4, 1)(mean), x, largest])
    x = layers.Conv2D(3, 3, padding="same")(x)
    flat = layers.Concatenate()([layers.GlobalMaxPooling2D()(x), layers.Flatten()(mean)])
    return k.Model(inputs, layers.Dense(2)(flat))


def squeeze_and_excitation(k):
    layers = k.layers
    inputs = k.Input(IMAGE)
    x = layers.Conv2D(6, 3, padding="same")(inputs)
    gate = layers.Dense(6, activation="sigmoid")(
        layers.Dense(2, activation="relu")(layers.GlobalAveragePooling2D()(x))
    )
    x = layers.Multiply()([x, layers.Reshape((1, 1, 6))(gate)])
    x = layers.DepthwiseConv2D(3, strides=2, padding="same")(x)
    spatial = layers.Conv2D(1, 5, padding="same", activation="sigmoid")(x)
    return headed(k, inputs, layers.Multiply()([x, spatial, layers.Dropout(0.5)(x)]))


def several_inputs(k):
    layers = k.layers
    image, small, vector = k.Input((17, 13, 3)), k.Input((9, 7, 2)), k.Input((5,))
    x = layers.Conv2D(4, 3, strides=2, padding="same")(image)
    y = layers.Conv2D(4, 3, padding="same")(small)
    z = layers.Reshape((1, 1, 4))(layers.Dense(4)(vector))
    x = layers.Add()([x, y, z])
    return headed(k, [image, small, vector], layers.Conv2D(3, 3, activation="relu")(x))


def shared(k):
    """One layer over maps of several sizes, and a model in the model."""
    layers = k.layers
    inputs = k.Input(IMAGE)
    twice = layers.Conv2D(3, 3, padding="same", activation="relu", name="twice")
    inner = k.Sequential(
        [k.Input((None, None, 3), dtype="float64"), twice, layers.MaxPooling2D(2)], name="inner"
    )
    x, y = inner(inputs), inner(inner(inputs))
    both = [layers.GlobalAveragePooling2D()(twice(x)), layers.Flatten()(twice(y))]
    return k.Model(inputs, layers.Dense(2)(layers.Concatenate()(both)))


BUILDERS = {
    one.__name__.replace("_", " "): one
    for one in (branches, global_poolings, several_inputs, shared)
}
GATED = {"squeeze and excitation": squeeze_and_excitation}


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


def check(model, k, literal=True, rtol=1e-12):
    """Scores of a network in which weights, whole rows and columns are missing.

    Those of tf_keras are SynFlow's own. Keras 3 goes through the same rules, but for the names of
    attributes; its scores are a tape's over the classes, which takes a quarter of the time.
    """
    network = Network(model, "*")
    masks = some_masks(network.prunable_shapes)
    if k is tf_keras:
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
            np.testing.assert_allclose(array, expected[name], rtol, largest * 1e-15, err_msg=name)


@pytest.mark.parametrize("k", KERASES)
@pytest.mark.parametrize("name", CHAINS)
def test_a_chain(name, k):
    rtol = 1e-5 if name == "interpolation" else 1e-12  # TensorFlow interpolates in float32
    check(seeded(lambda k: chain(k, *CHAINS[name]), k), k, rtol=rtol)


@pytest.mark.parametrize("k", KERASES)
@pytest.mark.parametrize("name", NOT_LITERAL)
def test_a_chain_that_keras_computes_otherwise(name, k):
    check(seeded(lambda k: chain(k, *NOT_LITERAL[name]), k, "float32"), k, literal=False)


@pytest.mark.parametrize("k", KERASES)
@pytest.mark.parametrize("name", [*BUILDERS, *GATED])
def test_a_graph(name, k):
    check(seeded({**BUILDERS, **GATED}[name], k), k, literal=name in BUILDERS)


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
        check(seeded(build, k), k)


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


def of_any_size(k):
    """Of every layer that takes classes; no size is known but by the input."""
    layers = k.layers
    inputs = k.Input((None, None, 3))
    x = layers.ZeroPadding2D(1)(layers.Rescaling(1 / 255)(inputs))
    x = layers.Conv2D(6, 3, strides=2, use_bias=False)(x)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    x = layers.MaxPooling2D(3, 2, padding="same")(x)
    y = layers.DepthwiseConv2D(3, padding="same")(x)
    y = layers.SeparableConv2D(6, 3, padding="same", dilation_rate=2)(y)
    gate = layers.Conv2D(6, 1, activation="sigmoid")(
        layers.GlobalAveragePooling2D(keepdims=True)(y)
    )
    x = layers.Add()([layers.Multiply()([y, gate]), layers.Dropout(0.1)(x)])
    y = layers.Conv2D(6, 3, groups=2, padding="same")(layers.AveragePooling2D(2)(x))
    x = layers.Concatenate()([layers.UpSampling2D(2)(y), x])
    x = layers.Conv2DTranspose(4, 3, strides=2, padding="same")(layers.LayerNormalization()(x))
    x = layers.Conv2D(4, 3)(layers.Cropping2D(2)(x))
    pooled = [layers.GlobalAveragePooling2D()(x), layers.GlobalMaxPooling2D()(x)]
    return randomise(k.Model(inputs, layers.Dense(3)(layers.Concatenate()(pooled))))


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
