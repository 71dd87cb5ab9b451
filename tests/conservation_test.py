"""Conservation of flow on random networks: what goes into a cut comes out of it (Euler).

Networks of both Kerases, drawn by hypothesis: blocks one after the other, each with a layer `cut`
at its end through which everything passes. Every tensor that a layer gives is watched, so that the
flow through it, Σ x·∂R/∂x, is measured and not read from the weights.
"""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from flow_sums import NO_BIAS, without_additive_terms
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from small_models import randomise

from tf_synflow import quantities, rounds, scores
from tf_synflow.flow import tensor, weights
from tf_synflow.flow.network import Network

few = settings(
    deadline=None,
    max_examples=12,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],  # shrinking would take minutes
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)

# --- random networks ------------------------------------------------------------------------------


class Blocks:
    """Builders of blocks, one for each kind of feature; b is the name of the block."""

    def __init__(self, k, additive):
        self.k, self.layers = k, k.layers
        self.bias = {} if additive else NO_BIAS
        self.center = {} if additive else {"center": False}

    def mark(self, x, name):
        """A tensor of its own for one use of x: the flow through an identity is that of all."""
        return self.layers.Reshape(x.shape[1:], name=name)(x)

    def linear(self, x, n, b, activation="relu"):
        """The kind of layer with a kernel that fits the rank of x, keeping its positions."""
        if len(x.shape) == 4:
            return self.layers.Conv2D(
                n, 3, padding="same", activation=activation, name=b, **self.bias
            )(x)
        return self.layers.Dense(n, activation=activation, name=b, **self.bias)(x)

    def norm(self, x, n, b):
        kind = "BatchNormalization" if n % 2 else "LayerNormalization"
        x = getattr(self.layers, kind)(name=f"{b}_norm", **self.center)(x)
        return self.linear(x, n, f"{b}_linear", "gelu")

    def residual(self, x, n, b):
        left = self.layers.BatchNormalization(name=f"{b}_n", **self.center)(
            self.linear(x, n, f"{b}_p")
        )
        left = self.linear(self.layers.ReLU()(left), n, f"{b}_q", None)
        right = x if x.shape[-1] == n else self.linear(x, n, f"{b}_r", None)
        branches = [self.mark(left, f"{b}_left"), self.mark(right, f"{b}_right")]
        return self.layers.ReLU()(self.layers.Add()(branches))

    def concat(self, x, n, b):
        branches = [self.linear(x, m, f"{b}_p{i}") for i, m in enumerate((n, 2))]
        branches = [
            self.mark(y, f"{b}_{s}") for y, s in zip(branches, ("left", "right"), strict=True)
        ]
        return self.layers.Concatenate()(branches)

    def swish(self, x, n, b):
        x = self.linear(x, n, f"{b}_p", None)
        gate = self.layers.Activation("sigmoid", name=f"{b}_gate")(x)
        x = self.mark(x, f"{b}_value")
        return x * gate

    def squeeze(self, x, n, b):
        """Squeeze and excitation: a gate for each channel, of the mean over the positions."""
        channels = x.shape[-1]
        axes = list(range(1, len(x.shape) - 1))
        mean = tf.reduce_mean if self.k is tf_keras else self.k.ops.mean
        gate = mean(x, axes, keepdims=True) if axes else x
        gate = self.layers.Dense(n, activation="relu", name=f"{b}_p", **self.bias)(gate)
        gate = self.layers.Dense(channels, activation="sigmoid", name=f"{b}_gate", **self.bias)(
            gate
        )
        return self.layers.Multiply()([self.mark(x, f"{b}_value"), gate])

    def attention(self, x, n, b):
        layer = self.layers.MultiHeadAttention(2, n, name=f"{b}_attention", **self.bias)
        right = self.layers.LayerNormalization(name=f"{b}_n", **self.center)(x)
        left = layer(right, right, use_causal_mask=bool(n % 2))
        branches = [self.mark(left, f"{b}_left"), self.mark(x, f"{b}_right")]
        return self.layers.Add()(branches)

    def recurrent(self, x, n, b):
        kind = ("SimpleRNN", "GRU", "LSTM")[n % 3]
        return getattr(self.layers, kind)(n, return_sequences=True, name=b, **self.bias)(x)

    def depthwise(self, x, n, b):
        x = self.layers.DepthwiseConv2D(3, padding="same", name=f"{b}_p", **self.bias)(x)
        x = self.layers.MaxPooling2D(2, 1, padding="same")(x)
        return self.layers.SeparableConv2D(n, 2, padding="same", name=f"{b}_q", **self.bias)(x)


ANY = ("linear", "norm", "residual", "concat", "swish", "squeeze")
KINDS = {
    (6,): ANY,
    (4, 3): (*ANY, "attention", "recurrent"),
    (5, 4, 2): (*ANY, "depthwise"),
}

networks = st.sampled_from(list(KINDS)).flatmap(
    lambda shape: st.fixed_dictionaries(
        {
            "shape": st.just(shape),
            "blocks": st.lists(
                st.tuples(st.sampled_from(KINDS[shape]), st.integers(1, 5)), min_size=1, max_size=4
            ),
            "seed": st.integers(0, 1000),
            "k": st.sampled_from([tf_keras, keras]),
        }
    )
)


def build(drawn, additive):
    k = drawn["k"]
    blocks = Blocks(k, additive)
    inputs = k.Input(drawn["shape"])
    x = blocks.mark(inputs, "cut0")
    for i, (kind, n) in enumerate(drawn["blocks"], 1):
        x = blocks.mark(getattr(blocks, kind)(x, n, f"b{i}"), f"cut{i}")
    x = k.layers.Flatten()(x)
    model = k.Model(inputs, k.layers.Dense(2, name=f"b{i + 1}_head", **blocks.bias)(x))
    return (randomise if additive else without_additive_terms)(model, drawn["seed"])


def measure(model):
    """R; the flow through each layer, by its name and its weights'; θ ⊙ ∂R/∂θ of each, summed."""
    network = Network(model, "*")
    theta = {name: tf.constant(np.abs(value)) for name, value in network.values().items()}
    outputs, names = {}, {}
    with tf.GradientTape() as tape:
        tape.watch(theta)

        def observe(layer, output):
            if isinstance(output, tensor.FlowTensor):  # a cell gives its states beside
                tape.watch(output.value)
                outputs[id(layer)] = output.value
                names[layer.name] = id(layer)

        flow = network.outputs(theta, observe)[0].linear(tf.reduce_sum)
    by_output, by_weight = tape.gradient(
        flow.value, (outputs, theta), unconnected_gradients=tf.UnconnectedGradients.ZERO
    )
    by_layer = {key: float(tf.reduce_sum(x * by_output[key])) for key, x in outputs.items()}
    through = {name: by_layer[key] for name, key in names.items()}
    for name, weight in network.weights.items():
        around = (through[part] for part in name.split("/") if part in through)  # of a cell
        own = by_layer.get(id(weight.layer))
        through[name] = next(around, None) if own is None else own
    sums = {name: float(tf.reduce_sum(x * by_weight[name])) for name, x in theta.items()}
    return float(flow.value), through, sums


def near(actual, expected, message=""):
    np.testing.assert_allclose(actual, expected, rtol=1e-10, atol=1e-12, err_msg=message)


# --- without additive terms -----------------------------------------------------------------------


@few
@given(networks)
def test_flow_in_is_flow_out(drawn):
    model = build(drawn, additive=False)
    flow, through, sums = measure(model)
    assert flow > 0
    for i in range(len(drawn["blocks"]) + 1):
        near(through[f"cut{i}"], flow, f"cut{i}")
    for i, (kind, _) in enumerate(drawn["blocks"], 1):
        if kind in ("residual", "concat", "attention"):
            near(through[f"b{i}_left"] + through[f"b{i}_right"], flow, f"b{i} {kind}")
            assert min(through[f"b{i}_left"], through[f"b{i}_right"]) > 0
        if kind == "squeeze":
            near(through[f"b{i}_gate"], flow / 2, f"b{i} {kind}")
    # A layer's weights share what flows through it.
    for name, total in sums.items():
        if name.split("/")[-1] in ("kernel", "depthwise_kernel", "pointwise_kernel"):
            near(total, through[name], name)


# --- with additive terms --------------------------------------------------------------------------


@few
@given(networks)
def test_what_additive_terms_bring_is_what_is_missing(drawn):
    """R = Σ x·∂R/∂x + Σ b·∂R/∂b at each cut, b the additive terms of the layers behind it."""
    flow, through, sums = measure(build(drawn, additive=True))
    assert flow != 0
    additive = {name: total for name, total in sums.items() if weights.is_additive(name)}
    assert additive
    scale = abs(flow) + sum(abs(total) for total in additive.values())
    for i in range(len(drawn["blocks"]) + 1):
        behind = sum(
            total
            for name, total in additive.items()
            if int(name[1:].split("_")[0].split("/")[0]) > i
        )
        near((through[f"cut{i}"] + behind) / scale, flow / scale, f"cut{i}")


# --- masks ----------------------------------------------------------------------------------------


@settings(few, max_examples=6)
@given(networks, st.integers(2, 8))
def test_counts_are_exact_and_what_is_removed_stays_removed(drawn, compression):
    network = Network(build(drawn, additive=False))
    compression = min(compression, network.maximal_compression)
    densities = [compression ** (-i / 3) for i in (1, 2, 3)]
    kept = []

    class Recorded(scores.SynFlow):
        def bind(self, network):
            function = super().bind(network)

            def score(masks):
                kept.append(masks)
                return function(masks)

            return score

    kept.append(rounds.prune(network, Recorded(), densities))
    ordered = sorted(kept, key=lambda masks: -sum(int(mask.sum()) for mask in masks.values()))
    for (more, fewer), density in zip(itertools.pairwise(ordered), densities, strict=True):
        count = sum(int(mask.sum()) for mask in fewer.values())
        assert count == quantities.kept_count(network.size, density)
        assert all((more[name] | ~mask).all() for name, mask in fewer.items())
    assert network.has_flow(ordered[-1])


@pytest.mark.parametrize("k", [tf_keras, keras])
def test_every_kind_of_block_is_drawn(k):
    """One network of each kind of block, whatever hypothesis draws."""
    for shape, kinds in KINDS.items():
        drawn = {"shape": shape, "blocks": [(kind, 3) for kind in kinds], "seed": 1, "k": k}
        flow, through, _ = measure(build(drawn, additive=False))
        for i in range(len(kinds) + 1):
            near(through[f"cut{i}"], flow, f"{kinds[i - 1]} on {shape}")
