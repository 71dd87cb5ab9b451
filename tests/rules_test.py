"""Every flow rule conserves flow (Euler), and unknown layers say how to register one."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from flow_sums import NO_BIAS, flow_and_sums, without_additive_terms
from small_models import KERASES, randomise

import tf_synflow
from tf_synflow import errors
from tf_synflow.flow import rules
from tf_synflow.flow.network import Network
from tf_synflow.flow.rules import registry
from tf_synflow.flow.tensor import FlowTensor

# (input shape, arguments of the layer): the layer stands between two dense ones without biases.
# What TensorFlow resizes in float32, whatever it is given.
IN_FLOAT32 = ("CenterCrop", "Resizing", "UpSampling2D")
IMAGE, SERIES, VOLUME = (6, 5, 3), (6, 3), (4, 5, 4, 3)
LAYERS = [
    ("Dense", IMAGE, {"units": 4, "activation": "relu", **NO_BIAS}),
    ("EinsumDense", SERIES, {"equation": "abc,cd->abd", "output_shape": (None, 4)}),
    ("Conv1D", SERIES, {"filters": 4, "kernel_size": 3, "dilation_rate": 2, **NO_BIAS}),
    ("Conv1D", SERIES, {"filters": 4, "kernel_size": 3, "padding": "causal", **NO_BIAS}),
    ("Conv2D", IMAGE, {"filters": 4, "kernel_size": 3, "strides": 2, **NO_BIAS}),
    ("Conv2D", IMAGE, {"filters": 6, "kernel_size": 3, "padding": "same", "groups": 3, **NO_BIAS}),
    ("Conv3D", VOLUME, {"filters": 2, "kernel_size": 2, "activation": "gelu", **NO_BIAS}),
    ("Conv1DTranspose", SERIES, {"filters": 4, "kernel_size": 3, "strides": 2, **NO_BIAS}),
    ("Conv2DTranspose", IMAGE, {"filters": 4, "kernel_size": 2, "strides": 2, **NO_BIAS}),
    ("Conv2DTranspose", IMAGE, {"filters": 4, "kernel_size": 3, "padding": "same", **NO_BIAS}),
    ("Conv3DTranspose", VOLUME, {"filters": 2, "kernel_size": 2, **NO_BIAS}),
    ("DepthwiseConv1D", SERIES, {"kernel_size": 3, "strides": 2, **NO_BIAS}),
    ("DepthwiseConv2D", IMAGE, {"kernel_size": 3, "depth_multiplier": 2, **NO_BIAS}),
    ("SeparableConv1D", SERIES, {"filters": 4, "kernel_size": 3, "strides": 2, **NO_BIAS}),
    ("SeparableConv2D", IMAGE, {"filters": 4, "kernel_size": 3, "padding": "same", **NO_BIAS}),
    ("BatchNormalization", IMAGE, {"center": False}),
    ("BatchNormalization", IMAGE, {"center": False, "scale": False, "axis": 1}),
    ("LayerNormalization", SERIES, {"center": False}),
    ("LayerNormalization", IMAGE, {"center": False, "axis": [1, 2]}),
    ("GroupNormalization", IMAGE, {"groups": 3, "center": False}),
    ("RMSNormalization", SERIES, {}),
    ("PReLU", IMAGE, {"shared_axes": [1, 2]}),
    *((f"{kind}Pooling{n}D", shape, {"pool_size": 2}) for kind in ("Max", "Average")
      for n, shape in ((1, SERIES), (2, IMAGE), (3, VOLUME))),
    *((f"Global{kind}Pooling{n}D", shape, {}) for kind in ("Max", "Average")
      for n, shape in ((1, SERIES), (2, IMAGE), (3, VOLUME))),
    ("MaxPooling2D", IMAGE, {"pool_size": 3, "strides": 2, "padding": "same"}),
    *((f"{kind}{n}D", shape, {}) for kind in ("ZeroPadding", "Cropping", "UpSampling")
      for n, shape in ((1, SERIES), (2, IMAGE), (3, VOLUME))),
    ("UpSampling2D", IMAGE, {"size": 2, "interpolation": "bilinear"}),
    ("Flatten", IMAGE, {}),
    ("Reshape", IMAGE, {"target_shape": (10, 9)}),
    ("Permute", IMAGE, {"dims": (3, 1, 2)}),
    ("RepeatVector", (3,), {"n": 2}),
    ("CenterCrop", IMAGE, {"height": 4, "width": 3}),
    ("Resizing", IMAGE, {"height": 4, "width": 7}),
    ("Dropout", IMAGE, {"rate": 0.5}),
    ("SpatialDropout2D", IMAGE, {"rate": 0.5}),
    ("GaussianNoise", IMAGE, {"stddev": 1.0}),
    ("Rescaling", IMAGE, {"scale": 1 / 255, "offset": -1}),
    ("RandomFlip", IMAGE, {}),
    ("ReLU", IMAGE, {}),
    ("ReLU", IMAGE, {"max_value": 6.0}),
    ("LeakyReLU", IMAGE, {}),
    ("ELU", IMAGE, {}),
    ("Softmax", IMAGE, {}),
    *(("Activation", SERIES, {"activation": name}) for name in
      "relu sigmoid tanh softmax gelu swish elu selu softplus hard_sigmoid leaky_relu".split()),
]  # fmt: skip


@pytest.mark.parametrize("k", KERASES)
@pytest.mark.parametrize(("name", "shape", "arguments"), LAYERS)
def test_flow_in_is_flow_out(name, shape, arguments, k):
    if not hasattr(k.layers, name):
        pytest.skip(f"{k.__name__} has no {name}")
    layers = k.layers
    inputs = k.Input(shape)
    x = layers.Dense(3, name="before", **NO_BIAS)(inputs)
    x = getattr(layers, name)(**arguments)(x)
    model = without_additive_terms(k.Model(inputs, layers.Dense(2, name="after", **NO_BIAS)(x)))
    flow, sums = flow_and_sums(model, traced=k is tf_keras)
    assert flow > 0 and len(sums) >= 2
    for weight, total in sums.items():
        rtol = 1e-6 if name in IN_FLOAT32 else 1e-12
        np.testing.assert_allclose(total, flow, rtol=rtol, err_msg=weight)


@pytest.mark.parametrize("k", KERASES)
@pytest.mark.parametrize("name", ["Add", "Average", "Concatenate", "Maximum"])
def test_joins(name, k):
    layers = k.layers
    inputs = k.Input((5,))
    x, y = (layers.Dense(4, name=n, **NO_BIAS)(inputs) for n in "xy")
    joined = getattr(layers, name)()([x, y])
    model = without_additive_terms(k.Model(inputs, layers.Dense(2, **NO_BIAS)(joined)))
    flow, sums = flow_and_sums(model, traced=k is tf_keras)
    np.testing.assert_allclose(sums["x/kernel"] + sums["y/kernel"], flow, rtol=1e-12)


@pytest.mark.parametrize("k", KERASES)
def test_embedding_feeds_the_mean_over_its_rows(k):
    layers = k.layers
    inputs = k.Input((5,), dtype="int32")
    x = layers.GlobalAveragePooling1D()(layers.Embedding(7, 4, name="e")(inputs))
    model = randomise(k.Model(inputs, layers.Dense(2, name="d", **NO_BIAS)(x)))
    flow, sums = flow_and_sums(model)
    np.testing.assert_allclose([sums["e/embeddings"], sums["d/kernel"]], flow, rtol=1e-12)
    assert tf_synflow.score(model)["e/embeddings"].all()


@pytest.mark.parametrize("k", KERASES)
def test_operators_in_a_functional_graph(k):
    layers = k.layers
    inputs = k.Input((4,))
    x, y = (layers.Dense(4, name=n, **NO_BIAS)(inputs) for n in "xy")
    functions = tf.nn if k is tf_keras else k.ops
    z = functions.softmax(functions.relu(x + y))
    flow, sums = flow_and_sums(without_additive_terms(k.Model(inputs, z)))
    np.testing.assert_allclose(sums["x/kernel"] + sums["y/kernel"], flow, rtol=1e-12)


@pytest.mark.parametrize("k", KERASES)
def test_a_constant_that_is_added_is_no_flow_and_one_that_multiplies_counts(k):
    inputs = k.Input((4,))
    plain = randomise(k.Sequential([inputs, k.layers.Dense(3, name="d")]))
    model = k.Model(inputs, (plain.layers[-1](inputs) + 3.0) * -0.25 - 1.0)
    np.testing.assert_allclose(
        tf_synflow.score(model)["d/kernel"], tf_synflow.score(plain)["d/kernel"] / 4, rtol=1e-15
    )


@pytest.mark.parametrize("k", KERASES)
def test_an_unknown_layer_says_how_to_register_it_and_then_works(k):
    class Scale(k.layers.Layer):
        def build(self, shape):
            self.scale = self.add_weight(
                name="scale", shape=(shape[-1],), initializer="ones", trainable=True
            )

        def call(self, x):
            return x * self.scale

    model = randomise(
        k.Sequential([k.Input((5,)), k.layers.Dense(4, name="d"), Scale(name="mine")])
    )
    with pytest.raises(errors.UnsupportedLayerError) as caught:
        tf_synflow.score(model)
    assert "'mine'" in str(caught.value)
    assert "@tf_synflow.flow_rule(Scale)" in str(caught.value)

    @tf_synflow.flow_rule(Scale)
    def rule(layer, theta, x):
        return x.linear(lambda value: value * theta.scale)

    try:
        found = tf_synflow.score(model, prunable="*")
        np.testing.assert_allclose(
            found["mine/scale"].sum(), (found["d/kernel"].sum() + found["d/bias"].sum()), rtol=1e-12
        )
    finally:
        del registry._RULES[Scale]


@pytest.mark.parametrize("k", KERASES)
def test_a_subclass_with_a_call_of_its_own_is_unknown(k):
    class Renamed(k.layers.Dense):
        pass

    class Other(k.layers.Dense):
        def call(self, x):
            return super().call(x) * 2.0

    inputs = k.Input((5,))
    assert list(tf_synflow.score(k.Model(inputs, Renamed(3, name="d")(inputs)))) == ["d/kernel"]
    with pytest.raises(errors.UnsupportedLayerError, match="Other"):
        tf_synflow.score(k.Model(inputs, Other(3)(inputs)))


def test_an_unknown_activation_says_what_to_do():
    def cube(x):
        return x**3

    inputs = tf_keras.Input((5,))
    model = tf_keras.Model(inputs, tf_keras.layers.Dense(3, activation=cube)(inputs))
    with pytest.raises(errors.UnsupportedLayerError, match="'cube'.*flow_rule"):
        tf_synflow.score(model)


@pytest.mark.parametrize("kind", ["Max", "Average"])
@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("strides", [(1, 2, 3), (2, 2, 2)])
def test_pooling_of_volumes_is_that_of_the_layer(kind, padding, strides):
    layer = getattr(tf_keras.layers, f"{kind}Pooling3D")((2, 3, 2), strides, padding)
    volume = np.random.default_rng(0).random((1, 5, 6, 7, 3), np.float32)
    flow = rules.rule_of(layer)(layer, None, FlowTensor.of(tf.constant(volume, tf.float64)))
    value = flow.value * 2.0**flow.log2_scale
    np.testing.assert_allclose(value, layer(volume), rtol=1e-6)


@pytest.mark.parametrize("k", KERASES)
@pytest.mark.parametrize(
    ("name", "shape", "arguments"),
    [
        ("Conv2D", (7, 9, 6), {"groups": 6, "strides": 2, "padding": "same"}),
        ("Conv2D", (7, 9, 6), {"groups": 6, "dilation_rate": 2}),
        ("Conv2D", (7, 9, 6), {"groups": 3, "strides": 2, "padding": "same"}),
        ("Conv1D", (9, 6), {"groups": 6, "padding": "causal", "dilation_rate": 2}),
        ("Conv1D", (9, 6), {"groups": 6, "strides": 2, "padding": "same"}),
    ],
)
def test_a_grouped_convolution_is_that_of_the_layer(name, shape, arguments, k):
    layer = getattr(k.layers, name)(
        6, 3, kernel_initializer="random_uniform", use_bias=False, **arguments
    )
    model = k.Sequential([k.Input(shape), layer])
    layer.set_weights([np.abs(weight) for weight in layer.get_weights()])
    network = Network(model)
    (flow,) = network.outputs({n: tf.constant(v) for n, v in network.values().items()})
    flow = flow.full()
    expected = model(np.ones((1, *shape), np.float32))
    np.testing.assert_allclose(flow.value * 2.0**flow.log2_scale, expected, rtol=1e-5)
