"""Attention: query, key and value each carry a third of the flow, the output's kernel all of it."""

import inspect

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from flow_sums import NO_BIAS, flow_and_sums, without_additive_terms
from small_models import KERASES

each_keras = pytest.mark.parametrize("k", KERASES)
SERIES, IMAGE = (4, 3), (3, 4, 3)


def cross(k, shape, function):
    """function(layers, q, v, key) of three dense branches named query, value and key."""
    inputs = k.Input(shape)
    q, v, key = (
        k.layers.Dense(4, name=f"in_{name}", **NO_BIAS)(inputs) for name in ("q", "v", "k")
    )
    outputs = function(k.layers, q, v, key)
    outputs = outputs[0] if isinstance(outputs, list | tuple) else outputs
    outputs = k.layers.Dense(2, name="after", **NO_BIAS)(outputs)
    return without_additive_terms(k.Model(inputs, outputs))


def heads(**arguments):
    call = {
        name: arguments.pop(name)
        for name in ("use_causal_mask", "return_attention_scores")
        if name in arguments
    }

    def function(layers, q, v, key):
        layer = layers.MultiHeadAttention(2, 3, name="heads", **NO_BIAS, **arguments)
        return layer(q, v, key=key, **call)

    return function


MULTI_HEAD = {
    "plain": (SERIES, heads()),
    "value_dim": (SERIES, heads(value_dim=5, output_shape=6)),
    "causal": (SERIES, heads(use_causal_mask=True)),
    "scores": (SERIES, heads(return_attention_scores=True)),
    "images": (IMAGE, heads(attention_axes=(1, 2))),
    "rows": (IMAGE, heads(attention_axes=2)),
    "dropout": (SERIES, heads(dropout=0.5)),
}


@each_keras
@pytest.mark.parametrize("name", MULTI_HEAD)
def test_multi_head_attention(name, k):
    flow, sums = flow_and_sums(cross(k, *MULTI_HEAD[name]), traced=k is tf_keras)
    assert flow > 0
    for branch in ("query", "key", "value"):
        np.testing.assert_allclose(sums[f"heads/{branch}/kernel"], flow / 3, rtol=1e-12)
        np.testing.assert_allclose(sums[f"in_{branch[0]}/kernel"], flow / 3, rtol=1e-12)
    for whole in ("heads/attention_output/kernel", "after/kernel"):
        np.testing.assert_allclose(sums[whole], flow, rtol=1e-12)


@pytest.mark.parametrize("gate", [False, True])
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_group_query_attention(groups, gate):
    arguments = {**NO_BIAS}
    if gate:
        if "use_gate" not in inspect.signature(keras.layers.GroupQueryAttention).parameters:
            pytest.skip(f"Keras {keras.__version__} has no gate in its attention")
        arguments["use_gate"] = True

    def function(layers, q, v, key):
        layer = layers.GroupQueryAttention(3, 4, groups, name="heads", **arguments)
        return layer(q, v, key=key, use_causal_mask=True)

    flow, sums = flow_and_sums(cross(keras, SERIES, function), traced=groups == 2)
    share = 6 if gate else 3
    for branch in ("query", "key", "value"):
        np.testing.assert_allclose(sums[f"heads/{branch}/kernel"], flow / share, rtol=1e-12)
    if gate:
        np.testing.assert_allclose(sums["heads/gate/kernel"], flow / 2, rtol=1e-12)
    np.testing.assert_allclose(sums["heads/attention_output/kernel"], flow, rtol=1e-12)


@each_keras
@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        ("Attention", {}),
        ("Attention", {"use_scale": True}),
        ("Attention", {"score_mode": "concat"}),
        ("AdditiveAttention", {}),
        ("AdditiveAttention", {"use_scale": False}),
    ],
)
def test_attention_without_kernels(kind, arguments, k):
    def function(layers, q, v, key):
        return getattr(layers, kind)(**arguments)([q, v, key], use_causal_mask=True)

    flow, sums = flow_and_sums(cross(k, SERIES, function), traced=k is tf_keras)
    # In the additive kind query + key is one factor of two.
    additive = kind == "AdditiveAttention" or "score_mode" in arguments
    by_value = flow / 2 if additive else flow / 3
    np.testing.assert_allclose(sums["in_v/kernel"], by_value, rtol=1e-12)
    np.testing.assert_allclose(
        sums["in_q/kernel"] + sums["in_k/kernel"], flow - by_value, rtol=1e-12
    )
    assert min(sums["in_q/kernel"], sums["in_k/kernel"]) > 0


@each_keras
def test_a_causal_mask_keeps_the_future_out(k):
    """The first position's output does not depend on the weights of later ones."""
    inputs = k.Input((2, 3))
    first = inputs[:, :1]
    second = k.layers.Dense(3, name="second", **NO_BIAS)(inputs[:, 1:])
    x = k.layers.Concatenate(axis=1)([first, second])
    layer = k.layers.MultiHeadAttention(2, 2, **NO_BIAS)
    open_, causal = (
        without_additive_terms(k.Model(inputs, layer(x, x, use_causal_mask=mask)[:, :1]))
        for mask in (False, True)
    )
    assert flow_and_sums(open_)[1]["second/kernel"] > 0
    assert flow_and_sums(causal)[1]["second/kernel"] == 0


@each_keras
def test_positions_of_an_input_of_ones_attend_alike(k):
    """Literally too: softmax of equal products is the mean, so the values pass as Keras says."""
    inputs = k.Input(SERIES)
    model = k.Model(inputs, k.layers.Attention()([inputs, inputs]))
    from tf_synflow.flow import rules
    from tf_synflow.flow.tensor import FlowTensor
    from tf_synflow.flow.theta import Theta

    layer = model.layers[-1]
    x = FlowTensor.of(tf.ones((1, *SERIES), tf.float64))
    flow = rules.apply(layer, Theta(layer, {}, tf.float64), [x, x])
    np.testing.assert_allclose(
        flow.value * 2.0**flow.log2_scale, model(np.ones((1, *SERIES))), 1e-6
    )


@each_keras
def test_products_of_branches_share_the_flow(k):
    layers = k.layers
    inputs = k.Input((4, 3))
    parts = [layers.Dense(4, name=name, **NO_BIAS)(inputs) for name in "xyz"]
    joins = [
        layers.Multiply()(parts),
        layers.Multiply()([*parts[:2], layers.GlobalAveragePooling1D()(parts[2])]),
        parts[0] * parts[1] * parts[2],
    ]
    shares = [(1 / 3, 1 / 3, 1 / 3), (1 / 3, 1 / 3, 1 / 3), (1 / 4, 1 / 4, 1 / 2)]
    for join, expected in zip(joins, shares, strict=True):
        flow, sums = flow_and_sums(without_additive_terms(k.Model(inputs, join)))
        found = [sums[f"{name}/kernel"] / flow for name in "xyz"]
        np.testing.assert_allclose(found, expected, rtol=1e-12)


@each_keras
@pytest.mark.parametrize("axes", [-1, (1, 2), (2, 1)])
def test_dot(axes, k):
    layers = k.layers
    inputs = k.Input((4, 4))
    parts = [layers.Dense(4, name=name, **NO_BIAS)(inputs) for name in "xy"]
    layer = layers.Dot(axes, normalize=axes == -1)
    model = without_additive_terms(k.Model(inputs, layer(parts)))
    flow, sums = flow_and_sums(model, traced=k is tf_keras)
    np.testing.assert_allclose([sums["x/kernel"], sums["y/kernel"]], flow / 2, rtol=1e-12)
