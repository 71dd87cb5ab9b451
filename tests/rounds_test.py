"""Rounds: equal to scoring and selecting one by one, traced once, whatever the number of threads.

Also too few of them: a network that collapses on the way is told from one that cannot be scored.
"""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import reference_synflow
import tensorflow as tf
import tf_keras
from small_models import KERASES, BoundOnce, mlp, randomise, residual, zoo

import tf_synflow
from tf_synflow import densities, errors
from tf_synflow.flow.network import Network
from tf_synflow.masks import structure as structures
from tf_synflow.masks.select import select

ROOT = Path(__file__).resolve().parents[1]


def tied():
    """Tokens in, tokens out by the same embedding, with positions of their own."""
    layers = keras.layers
    inputs = keras.Input((7,), dtype="int32")
    tokens = layers.ReversibleEmbedding(11, 6, name="tokens")
    x = layers.LayerNormalization(name="norm")(tokens(inputs))
    x = layers.Conv1D(6, 3, padding="same", activation="relu", name="conv")(x)
    x = layers.Dense(6, name="dense")(x)
    return randomise(keras.Model(inputs, tokens(x, reverse=True)))


MODELS = {"residual": residual, "zoo": zoo, "tied": lambda k: tied()}
EVERYTHING = ["*/kernel", "*/bias", "*/gamma", "*/depthwise_kernel", "*/embeddings"]


def one_by_one(model, schedule, scorer, scope, ties, prunable, structure=None):
    """Masks from all scores of each round, selected among."""
    network = Network(model, prunable)
    score = scorer.bind(network)
    of_weights = {}
    if structure:
        chosen = {name: network.weights[name] for name in network.prunable}
        of_weights = structures.of_weights(structure, chosen, network.last)
    masks = {name: np.ones(shape, bool) for name, shape in network.prunable_shapes.items()}
    for density in densities.densities(schedule.compression, schedule.rounds, schedule.kind):
        scores = score(masks)
        masks = select(dict(scores), masks, density, scope, ties, of_weights)
    return masks


def check(found, expected):
    assert list(found) == list(expected)
    for name, mask in expected.items():
        np.testing.assert_array_equal(found[name], mask, name)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(
    ("prunable", "dtype"),
    [(None, "float64"), (EVERYTHING, "float64"), (EVERYTHING, "float32")],
    ids=["kernels", "everything", "everything-float32"],
)
def test_masks_are_those_of_all_scores_selected_round_by_round(prunable, dtype, name):
    model, scorer = MODELS[name](tf_keras), BoundOnce(dtype)
    for scope in ("global", "layer"):
        for compression, rounds in ((1, 1), (2, 1), (3, 4), (20, 10)):
            schedule = tf_synflow.SynFlowPruningSchedule(compression, rounds)
            found = tf_synflow.compute_masks(
                model, schedule=schedule, scorer=scorer, scope=scope, prunable=prunable
            )
            expected = one_by_one(model, schedule, scorer, scope, "position", prunable)
            check(found, expected)
            total = sum(mask.size for mask in found.values())
            assert found.kept == total - int((1 - 1 / compression) * total)


@pytest.mark.parametrize("k", KERASES)
@pytest.mark.parametrize(
    "arguments",
    [{"ties": "reference"}, {"structure": "1x4"}, {"structure": "2:4"}],
    ids=lambda arguments: "-".join(arguments.values()),
)
def test_what_is_not_cut_tile_by_tile(arguments, k):
    """Channels are more than what is selected: tests/channels_test.py."""
    model, scorer = zoo(k), BoundOnce()
    schedule = tf_synflow.SynFlowPruningSchedule(4, 5)
    found = tf_synflow.compute_masks(model, schedule=schedule, scorer=scorer, **arguments)
    arguments = {"ties": "position", **arguments}
    check(found, one_by_one(model, schedule, scorer, "global", prunable=None, **arguments))


@pytest.mark.parametrize("k", KERASES)
def test_equal_scores_go_by_position(k):
    """Weights that are all the same: nothing but ties, in two layers of the same flow."""
    inputs = k.Input((16,))
    x = k.layers.Dense(16, use_bias=False, name="a")(inputs)
    model = k.Model(inputs, k.layers.Dense(16, use_bias=False, name="b")(x))
    for weight in model.weights:
        weight.assign(np.full(weight.shape, 0.5))
    schedule = tf_synflow.SynFlowPruningSchedule(512 / 300, 1)
    masks = tf_synflow.compute_masks(model, schedule=schedule)
    kept = np.concatenate([mask.ravel() for mask in masks.values()])
    assert kept.tolist() == [True] * 300 + [False] * 212


# --- one trace ------------------------------------------------------------------------------------


@pytest.fixture
def traces(monkeypatch):
    """A list that grows by one whenever a network is traced."""
    found, call = [], Network.__call__

    def counted(self, theta, one=None):
        if tf.inside_function():
            found.append(next(iter(theta)))
        return call(self, theta, one)

    monkeypatch.setattr(Network, "__call__", counted)
    return found


@pytest.mark.parametrize(
    ("compression", "rounds", "scope"),
    [(2, 1, "global"), (30, 1, "layer"), (10, 40, "global"), (10, 40, "layer")],
)
def test_one_trace_whatever_the_compression_and_the_rounds(compression, rounds, scope, traces):
    schedule = tf_synflow.SynFlowPruningSchedule(compression, rounds)
    tf_synflow.compute_masks(residual(tf_keras), schedule=schedule, scope=scope)
    assert len(traces) == 1


@pytest.mark.parametrize("k", KERASES)
def test_one_trace_a_network_and_dtype(k, traces):
    model = residual(k)
    scorers = [BoundOnce("float64"), BoundOnce("float32")]
    for scorer in scorers:
        for compression, rounds in ((2, 1), (20, 3), (5, 7)):
            schedule = tf_synflow.SynFlowPruningSchedule(compression, rounds)
            masks = tf_synflow.compute_masks(model, scorer=scorer, schedule=schedule)
            tf_synflow.score(model, scorer, masks)
    assert len(traces) == len(scorers)


# --- signs ----------------------------------------------------------------------------------------

_BN = [f"bn/{name}" for name in ("gamma", "beta", "moving_mean", "moving_variance")]
BOTTLENECK = {
    "input": [12],
    "nodes": [
        ["a", "dense", ["input"], ["d1/kernel", "d1/bias"]],
        ["b", "batch_norm", ["a"], _BN],
        ["c", "dense", ["b"], ["d2/kernel", "d2/bias"]],
        ["d", "relu", ["c"], []],
        ["output", "dense", ["d"], ["d3/kernel", "d3/bias"]],
    ],
    "shapes": {
        **{"d1/kernel": [12, 24], "d1/bias": [24]},
        **dict.fromkeys(_BN, [24]),
        **{"d2/kernel": [24, 16], "d2/bias": [16], "d3/kernel": [16, 4], "d3/bias": [4]},
    },
}


def bottleneck(k, means):
    """A normalization of means that are not zero, and no ReLU behind it; and its weights."""
    layers = k.layers
    inputs = k.Input((12,))
    x = layers.BatchNormalization(name="bn")(layers.Dense(24, name="d1")(inputs))
    x = layers.ReLU()(layers.Dense(16, name="d2")(x))
    model = k.Model(inputs, layers.Dense(4, name="d3")(x))
    weights = reference_synflow.draw(BOTTLENECK["shapes"], 0)
    weights["bn/moving_mean"] = means
    for name, value in weights.items():
        layer, attribute = name.split("/")
        getattr(model.get_layer(layer), attribute).assign(value)
    return model, weights


@pytest.mark.parametrize("k", KERASES)
def test_what_is_below_zero_counts_by_its_size(k):
    """As in the paper's code, which ranks |θ · ∂R/∂θ|."""
    model, weights = bottleneck(k, 7 / 32 * np.arange(24))
    masks = {n: np.ones(s, bool) for n, s in BOTTLENECK["shapes"].items() if "kernel" in n}
    expected, _ = reference_synflow.scores(BOTTLENECK, weights, masks)
    found = tf_synflow.score(model)
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, rtol=1e-12)
    sums = [found[name].sum() for name in masks]
    assert sums[1] > 1.1 * sums[2], "nothing is below zero, so this would show nothing"
    for compression, rounds in ((2, 1), (4, 10)):
        schedule = tf_synflow.SynFlowPruningSchedule(compression, rounds)
        found = tf_synflow.compute_masks(model, schedule=schedule)
        check(found, reference_synflow.prune(BOTTLENECK, weights, compression, rounds)[0])


# --- threads --------------------------------------------------------------------------------------

IN_A_PROCESS = """
import sys
import keras, tensorflow as tf
tf.config.threading.set_intra_op_parallelism_threads(int(sys.argv[1]))
tf.config.threading.set_inter_op_parallelism_threads(int(sys.argv[1]))
import rounds_test
from tf_synflow import parallel
parallel._WORTH_SHARING = 1000  # this network has little that is worth it
print(rounds_test.fingerprint(rounds_test.small_resnet(keras)))
"""


def small_resnet(k):
    """Three residual blocks; kernels of 32 channels, over which BLAS shares out its work."""
    layers = k.layers
    inputs = k.Input((32, 32, 3))
    x = layers.Conv2D(16, 3, padding="same", use_bias=False)(inputs)
    for filters, stride in ((16, 1), (32, 2), (32, 1)):
        y = layers.ReLU()(layers.BatchNormalization()(x))
        y = layers.Conv2D(filters, 3, stride, padding="same", use_bias=False)(y)
        y = layers.ReLU()(layers.BatchNormalization()(y))
        y = layers.Conv2D(filters, 3, padding="same", use_bias=False)(y)
        if stride > 1:
            x = layers.Conv2D(filters, 1, stride, use_bias=False)(x)
        x = layers.Add()([x, y])
    x = layers.Flatten()(layers.ReLU()(x))
    x = layers.Dense(128, activation="relu")(x)
    return randomise(k.Model(inputs, layers.Dense(10)(x)))


def fingerprint(model):
    """Of the masks after each of several schedules."""
    digest, scorer = hashlib.sha256(), BoundOnce()
    for compression in (2, 10, 100):
        schedule = tf_synflow.SynFlowPruningSchedule(compression, 20)
        for name, mask in tf_synflow.compute_masks(model, scorer=scorer, schedule=schedule).items():
            digest.update(name.encode() + np.packbits(mask).tobytes())
    return digest.hexdigest()


@pytest.mark.slow
def test_masks_are_the_same_in_processes_of_one_and_of_two_threads():
    """What holds: the same masks, for scores in float64 without near-ties.

    The scores themselves may differ in their last bits, for BLAS adds in another order where it
    shares out its work; two weights change places only if their scores are that near to each other.
    """
    processes = []
    for threads in ("1", "2"):
        environment = {
            **os.environ,
            "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}",
            "OPENBLAS_NUM_THREADS": threads,
            "OMP_NUM_THREADS": threads,
        }
        command = [sys.executable, "-c", IN_A_PROCESS, threads]
        processes.append(
            subprocess.Popen(
                command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
        )
    found = []
    for process in processes:
        output, errors_ = process.communicate(timeout=400)
        assert process.returncode == 0, errors_[-3000:]
        found.append(output.split()[-1])
    assert found[0] == found[1]


# --- too few rounds -------------------------------------------------------------------------------


def test_zeros_are_not_ranked_after_a_collapse():
    """All that is left scores zero, though something is left of every weight."""
    model = mlp(keras, units=(16, 128, 128, 16), use_bias=False)
    schedule = tf_synflow.SynFlowPruningSchedule(200, rounds=2)
    for way in ({}, {"ties": "reference"}):
        with pytest.raises(errors.LayerCollapseError, match="rounds, 100 or above"):
            tf_synflow.compute_masks(model, schedule=schedule, **way)


def test_a_collapse_between_rounds_is_named_and_more_rounds_help():
    model = mlp(keras, units=(4, 256, 256, 4), use_bias=False)
    few = tf_synflow.SynFlowPruningSchedule(2000, rounds=2)
    with pytest.raises(errors.LayerCollapseError, match=r"empty: d2/kernel.*rounds, 100 or above"):
        tf_synflow.compute_masks(model, schedule=few)
    masks = tf_synflow.compute_masks(model, 2000)
    assert all(mask.any() for mask in masks.values())
