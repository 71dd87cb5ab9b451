"""The network of |θ|: conservation of flow, range, and the models it cannot walk."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import KERASES, BoundOnce, mlp, policy, randomise, residual, state

import tf_synflow
from tf_synflow import errors, quantities
from tf_synflow.flow import weights
from tf_synflow.flow.network import Network

each_keras = pytest.mark.parametrize("k", KERASES)


def total_flow(model):
    """R, from the sum of all outputs."""
    network = Network(model)
    flow = network({name: tf.constant(np.abs(v)) for name, v in network.values().items()})
    return float(flow.value) * 2 ** float(flow.log2_scale)


def sums(model):
    found = tf_synflow.score(model)
    assert found.log2_scale == 0
    return {name: array.sum() for name, array in found.items()}


def plain_scores(build, k):
    """θ ⊙ ∂R/∂θ by Keras itself, on a float64 model of |θ|."""
    with policy(k, "float64"):
        model = build(k)
    for weight, source in zip(model.weights, build(k).weights, strict=True):
        weight.assign(np.abs(source.numpy().astype(np.float64)))
    kernels = {
        f"{layer.name}/kernel": layer.kernel for layer in model.layers if hasattr(layer, "kernel")
    }
    variables = {n: getattr(v, "value", v) if k is keras else v for n, v in kernels.items()}
    with tf.GradientTape() as tape:
        flow = tf.reduce_sum(model(tf.ones([1, *model.inputs[0].shape[1:]], tf.float64)))
    gradients = tape.gradient(flow, variables)
    return {n: (variables[n] * gradients[n]).numpy() for n in variables}


@each_keras
@pytest.mark.parametrize("build", [mlp, residual])
def test_powers_of_two_change_nothing(build, k):
    expected = plain_scores(build, k)
    found = tf_synflow.score(build(k))
    assert set(found) == set(expected)
    for name in found:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-12, atol=0)


# --- conservation (Euler): what flows through a layer is R ----------------------------------------


@settings(deadline=None, max_examples=8, derandomize=True)
@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=5),
    st.sampled_from(["relu", "tanh", "sigmoid", "gelu", "swish", "leaky_relu", "elu", "linear"]),
    st.integers(0, 1000),
)
def test_every_layer_of_a_chain_without_biases_carries_all_the_flow(units, activation, seed):
    model = mlp(tf_keras, units=units, use_bias=False, activation=activation, seed=seed)
    flow = total_flow(model)
    assert flow > 0
    for name, layer_sum in sums(model).items():
        np.testing.assert_allclose(layer_sum, flow, rtol=1e-12, err_msg=name)


@settings(deadline=None, max_examples=8, derandomize=True)
@given(st.integers(1, 5), st.integers(1, 3), st.integers(1, 3), st.integers(0, 1000))
def test_branches_share_the_flow_of_a_residual_join(channels, size, stride, seed):
    layers = tf_keras.layers
    inputs = tf_keras.Input((7, 6, 2))

    def conv(x, n, name):
        return layers.Conv2D(
            n, size, stride, padding="same", use_bias=False, activation="relu", name=name
        )(x)

    x = conv(inputs, channels, "stem")
    one = conv(x, 3, "left")
    two = layers.MaxPooling2D(stride, padding="same")(
        layers.Conv2D(3, 1, use_bias=False, name="right")(x)
    )
    x = layers.Flatten()(layers.Add()([one, two]))
    x = layers.Dense(2, use_bias=False, name="head")(x)
    model = randomise(tf_keras.Model(inputs, x), seed)
    flow, found = total_flow(model), sums(model)
    np.testing.assert_allclose(found["stem/kernel"], flow, rtol=1e-12)
    np.testing.assert_allclose(found["head/kernel"], flow, rtol=1e-12)
    np.testing.assert_allclose(found["left/kernel"] + found["right/kernel"], flow, rtol=1e-12)


@each_keras
def test_biases_take_their_share(k):
    model = mlp(k)
    prunable = "d*"  # kernels and biases
    found = tf_synflow.score(model, prunable=prunable)
    flow = total_flow(model)
    kernels = [found[f"d{i}/kernel"].sum() for i in range(3)]
    biases = [found[f"d{i}/bias"].sum() for i in range(3)]
    for i in range(3):  # what enters by a layer and by the biases from there on is R
        np.testing.assert_allclose(kernels[i] + sum(biases[i:]), flow, rtol=1e-12)


# --- what must not matter -------------------------------------------------------------------------


@each_keras
@pytest.mark.parametrize("head", ["softmax", "sigmoid"])
def test_a_bent_head_prunes_like_its_logits(head, k):
    logits, bent = residual(k), residual(k, head=head)
    expected = tf_synflow.score(logits)
    for name, array in tf_synflow.score(bent).items():
        np.testing.assert_array_equal(array, expected[name])
    layer = k.Sequential([logits, k.layers.Activation(head)])
    for name, array in tf_synflow.score(layer).items():
        np.testing.assert_array_equal(array, expected[name.removeprefix(f"{logits.name}/")])


@each_keras
def test_signs_of_the_weights_do_not_matter(k):
    model, mirrored = residual(k), residual(k)
    for weight in mirrored.weights:
        weight.assign(-weight.numpy())
    expected = tf_synflow.score(model)
    for name, array in tf_synflow.score(mirrored).items():
        np.testing.assert_array_equal(array, expected[name])


@each_keras
def test_a_model_in_mixed_precision_scores_the_same(k):
    expected = tf_synflow.score(residual(k))
    for name in ("mixed_float16", "mixed_bfloat16"):
        with policy(k, name):
            model = residual(k)
        for weight, array in tf_synflow.score(model).items():
            np.testing.assert_array_equal(array, expected[weight])


@each_keras
def test_channels_first_scores_like_channels_last(k):
    def build(data_format):
        shape = (6, 5, 3) if data_format == "channels_last" else (3, 6, 5)
        inputs = x = k.Input(shape)
        for i, kind in enumerate(("Conv2D", "SeparableConv2D")):
            layer = getattr(k.layers, kind)
            x = layer(4, 3, data_format=data_format, activation="relu", name=f"c{i}")(x)
        axis = 1 if data_format == "channels_first" else -1
        x = k.layers.BatchNormalization(axis=axis, name="bn")(x)
        if data_format == "channels_first":
            x = k.layers.Permute((2, 3, 1))(x)
        return randomise(k.Model(inputs, k.layers.Dense(2, name="d")(k.layers.Flatten()(x))))

    try:
        first = build("channels_first")
    except Exception as error:
        pytest.skip(f"this Keras does not build channels-first layers on this machine: {error}")
    expected = tf_synflow.score(build("channels_last"))
    for name, array in tf_synflow.score(first).items():
        np.testing.assert_allclose(array, expected[name], rtol=1e-12)


# --- graphs ---------------------------------------------------------------------------------------


@each_keras
def test_nested_models_put_their_name_in_front(k):
    inner = k.Sequential([k.Input((5,)), k.layers.Dense(4, "relu", name="a")], name="inner")
    deeper = k.Sequential([k.Input((6,)), k.layers.Dense(5, name="a"), inner], name="deeper")
    inputs = k.Input((3,))
    outputs = k.layers.Dense(2, name="a")(deeper(k.layers.Dense(6, name="first")(inputs)))
    model = randomise(k.Model(inputs, outputs))
    flat = k.Sequential(
        [k.Input((3,))]
        + [k.layers.Dense(n, act, name=f"f{i}")
           for i, (n, act) in enumerate([(6, None), (5, None), (4, "relu"), (2, None)])]
    )  # fmt: skip
    names = ["first", "deeper/a", "deeper/inner/a", "a"]
    found = tf_synflow.score(model)
    assert sorted(found) == sorted(f"{name}/kernel" for name in names)
    sources = [model.get_layer("first"), deeper.layers[-2], inner.layers[-1], model.layers[-1]]
    for layer, source in zip(flat.layers, sources, strict=True):
        layer.set_weights(source.get_weights())
    expected = tf_synflow.score(flat)
    for i, name in enumerate(names):
        np.testing.assert_allclose(found[f"{name}/kernel"], expected[f"f{i}/kernel"], rtol=1e-12)


def test_layers_of_one_name_within_a_layer():
    """Each weight keeps its own name, which says whether it is a kernel or a bias."""

    class Two(keras.layers.Layer):
        def __init__(self):
            super().__init__(name="two")
            self.a = keras.layers.Dense(3, name="fc", bias_initializer="ones")
            self.b = keras.layers.Dense(3, name="fc", bias_initializer="ones")

        def build(self, shape):
            self.a.build(shape)
            self.b.build((None, 3))

        def call(self, x):
            return self.b(self.a(x))

    model = keras.Sequential([keras.Input((4,)), Two()])
    names = ["two/fc/kernel", "two/fc/bias", "two/fc_1/kernel", "two/fc_1/bias"]
    assert sorted(weights.all_weights(model)) == sorted(names)
    assert weights.select_prunable(names) == ["two/fc/kernel", "two/fc_1/kernel"]


def test_patterns_that_name_nothing():
    names = ["a/kernel", "a/bias", "b/kernel"]
    assert weights.select_prunable(names, ["*/kernel", "*/gamma"]) == ["a/kernel", "b/kernel"]
    with pytest.raises(errors.UnknownNameError, match="'c/kernel'; expected one of a/bias"):
        weights.select_prunable(names, ["a/kernel", "c/kernel"])
    for prunable in (5, ["a/kernel", 5], "c*"):
        with pytest.raises(errors.NoPrunableWeightsError, match="prunable"):
            weights.select_prunable(names, prunable)


@each_keras
def test_a_shared_layer_is_scored_for_all_its_uses(k):
    shared = k.layers.Dense(4, use_bias=False, name="shared")
    inputs = k.Input((4,))
    model = randomise(k.Model(inputs, shared(k.layers.ReLU()(shared(inputs)))))
    found = tf_synflow.score(model)
    kernel = np.abs(shared.kernel.numpy().astype(np.float64))
    ones = np.ones(4)
    # R = 1ᵀ·K·K·1; both uses carry R each.
    gradient = np.outer(ones, kernel @ ones) + np.outer(ones @ kernel, ones)
    assert list(found) == ["shared/kernel"]
    np.testing.assert_allclose(found["shared/kernel"], kernel * gradient, rtol=1e-12)
    np.testing.assert_allclose(found["shared/kernel"].sum(), 2 * total_flow(model), rtol=1e-12)


@each_keras
def test_several_inputs_and_outputs(k):
    one, two = k.Input((3,)), k.Input((5,))
    x = k.layers.Concatenate()([k.layers.Dense(4, use_bias=False, name="p")(one),
                                k.layers.Dense(2, use_bias=False, name="q")(two)])  # fmt: skip
    heads = [k.layers.Dense(n, use_bias=False, name=f"h{n}")(x) for n in (2, 3)]
    found = sums(randomise(k.Model([one, two], heads)))
    np.testing.assert_allclose(
        found["p/kernel"] + found["q/kernel"], found["h2/kernel"] + found["h3/kernel"], rtol=1e-12
    )


@each_keras
def test_a_part_of_a_larger_graph_is_a_model_of_its_own(k):
    whole = mlp(k)
    part = k.Model(whole.inputs, whole.get_layer("d1").output)
    assert list(tf_synflow.score(part)) == ["d0/kernel", "d1/kernel"]


# --- range ----------------------------------------------------------------------------------------


def deep(k, depth, scale, units=24):
    inputs = x = k.Input((units,))
    for i in range(depth):
        x = k.layers.Dense(units, "relu", use_bias=False, name=f"d{i}")(x)
    model = k.Model(inputs, x)
    random = np.random.RandomState(0)
    for weight in model.weights:
        weight.assign(random.standard_normal(weight.shape) * scale)
    return model


def test_true_scores_are_arrays_times_two_to_the_scale():
    """Where float64 holds the flow of a shorter network, the longer one's parts multiply to it."""
    units, depth = 24, 60
    found = tf_synflow.score(deep(tf_keras, depth, 1e-4, units))
    kernels = [np.abs(w.numpy().astype(np.float64)) for w in deep(tf_keras, depth, 1e-4).weights]
    assert found.log2_scale == 0  # 1e-200 or so: float64 still holds it
    # log2 of the flow by hand, renormalised after each layer.
    value, log2_flow = np.ones(units), 0.0
    for kernel in kernels:
        value = value @ kernel
        log2_flow += np.log2(value.max())
        value /= value.max()
    log2_flow += np.log2(value.sum())
    np.testing.assert_allclose(np.log2(found["d0/kernel"].sum()), log2_flow, rtol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize(("depth", "scale", "sign"), [(200, 0.002, -1), (120, 2000.0, 1)])
def test_hundreds_of_layers(depth, scale, sign):
    units, scorer = 8, BoundOnce()
    model = deep(tf_keras, depth, scale, units)
    found = tf_synflow.score(model, scorer)
    value, log2_flow = np.ones(units), 0.0
    for weight in model.weights:
        value = value @ np.abs(weight.numpy().astype(np.float64))
        log2_flow += np.log2(value.max())
        value /= value.max()
    log2_flow += np.log2(value.sum())
    assert log2_flow * sign > 1100 and found.log2_scale * sign > 0
    for array in found.values():
        assert np.isfinite(array).all() and array.all()
        np.testing.assert_allclose(np.log2(array.sum()) + found.log2_scale, log2_flow, rtol=1e-12)
    schedule = tf_synflow.SynFlowPruningSchedule(10, rounds=3)
    masks = tf_synflow.compute_masks(model, scorer=scorer, schedule=schedule)
    assert masks.kept == quantities.kept_count(depth * units * units, 1 / 10)
    assert all(mask.any() for mask in masks.values())


def test_biases_keep_their_proportion_in_a_network_that_vanishes():
    """A bias beside a flow of 1e-300 is all that counts; a later one beside 1e+300 is nothing."""
    inputs = tf_keras.Input((2,))
    x = tf_keras.layers.Dense(2, name="a")(inputs)
    model = tf_keras.Model(inputs, tf_keras.layers.Dense(2, name="b")(x))
    model.get_layer("a").set_weights([np.full((2, 2), 1e-30), np.full(2, 0.25)])
    model.get_layer("b").set_weights([np.full((2, 2), 2.0), np.full(2, 1e30)])
    found = tf_synflow.score(model)
    # Each weight of b carries (0.25 + 2e-30)·2, each of a 1e-30·4.
    np.testing.assert_allclose(found["b/kernel"], np.full((2, 2), 0.5), rtol=1e-12)
    a = np.float64(np.float32(1e-30))
    np.testing.assert_allclose(found["a/kernel"], np.full((2, 2), 4 * a), rtol=1e-12)


# --- models that cannot be scored -----------------------------------------------------------------


def subclassed(k):
    class Mine(k.Model):
        def __init__(self):
            super().__init__()
            self.dense = k.layers.Dense(2)

        def call(self, x):
            return self.dense(x)

    return Mine()


@each_keras
@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda k: k.Sequential([k.layers.Dense(2)]), "is not built"),
        (lambda k: k.Sequential(), "is not built"),
        (subclassed, "is not built"),
        (lambda k: k.Sequential([k.Input((None, 3)), k.layers.Dense(2)]), r"input_shape=\(64, 3\)"),
        (lambda k: k.layers.Dense(2), "received Dense"),
        (lambda k: "model.keras", "received str"),
        (lambda k: None, "received NoneType"),
    ],
)
def test_models_that_cannot_be_walked(build, message, k):
    with pytest.raises(errors.ModelError, match=message):
        tf_synflow.score(build(k))
    with pytest.raises(errors.ModelError):
        tf_synflow.prune_at_init(build(k), 2)


@each_keras
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite(value, k):
    model = residual(k)
    layer = model.get_layer("bn1")
    broken = [w.copy() for w in layer.get_weights()]
    broken[2][3] = value  # the moving mean is scored through as well
    layer.set_weights(broken)
    before = state(model)
    with pytest.raises(errors.WeightsError, match="'bn1/moving_mean'.*1 values"):
        tf_synflow.compute_masks(model, 2)
    assert state(model) == before


@each_keras
def test_a_tensor_of_zeros(k):
    model = mlp(k)
    model.get_layer("d1").set_weights([np.zeros((12, 8)), np.zeros(8)])
    with pytest.raises(errors.WeightsError, match="'d1/kernel'.*zeros throughout"):
        tf_synflow.compute_masks(model, 2)


@each_keras
def test_a_layer_behind_which_nothing_flows(k):
    inputs = k.Input((4,))
    x = k.layers.Dense(3, use_bias=False, name="before")(inputs)
    x = k.layers.BatchNormalization(name="stop")(x)
    model = k.Model(inputs, k.layers.Dense(2, name="after")(x))
    gamma, *others = model.get_layer("stop").get_weights()
    model.get_layer("stop").set_weights([np.zeros_like(gamma), *others])
    with pytest.raises(errors.ScoreError, match="'before/kernel'.*zeros throughout"):
        tf_synflow.compute_masks(model, 2)
