"""One process of tests/sharding_test.py: devices have to be there before TensorFlow starts.

python sharding_worker.py SCENARIO OUTPUT [ARGUMENT ...]
"""

import os
from unittest import mock

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import processes
import sharded_scores
import tensorflow as tf
from hypothesis import given, settings
from sharded_scores import distributed, gathered, local

import tf_synflow
from tf_synflow import errors
from tf_synflow.densities import densities
from tf_synflow.flow.network import Network
from tf_synflow.masks import sharding
from tf_synflow.masks.select import select
from tf_synflow.masks.sharding import Selection, Sharding
from tf_synflow.scores.synflow import SynFlow


def devices(count):
    """What is found on so many virtual devices."""
    count = int(count)
    cpu = tf.config.list_physical_devices("CPU")[0]
    logical = [tf.config.LogicalDeviceConfiguration()] * count
    tf.config.set_logical_device_configuration(cpu, logical)
    strategy = tf.distribute.MirroredStrategy([f"CPU:{index}" for index in range(count)])
    with mock.patch.object(sharding, "CHUNK", 5 if count == 2 else sharding.CHUNK):
        found = {"equal": equal(strategy)}
    return {**found, "networks": networks(strategy) if count in (2, 4) else {}}


def equal(strategy):
    """Masks of drawn scores on the devices are those of `select`."""
    shardings = sharded_scores.shardings(strategy.num_replicas_in_sync)
    selection = Selection(strategy, shardings)
    examples = 0

    @settings(deadline=None, max_examples=60, derandomize=True, database=None)
    @given(sharded_scores.drawn(shardings))
    def check(example):
        nonlocal examples
        examples += 1
        scores, masks, density = example
        found = selection(
            distributed(strategy, shardings, scores),
            distributed(strategy, shardings, masks),
            density,
        )
        found = gathered(strategy, shardings, found)
        expected = select(scores, masks, density)
        for name in shardings:
            np.testing.assert_array_equal(found[name], expected[name], err_msg=name)

    check()
    return {
        "replicas": strategy.num_replicas_in_sync,
        "examples": examples,
        "traces": selection._run.experimental_get_tracing_count(),
        "infinite": refused(selection, shardings, np.inf),
        "negative": refused(selection, shardings, -5e-324),
    }


def refused(selection, shardings, value):
    scores = {name: np.ones(cut.shape) for name, cut in shardings.items()}
    masks = {name: np.ones(cut.shape, bool) for name, cut in shardings.items()}
    scores["last"][-1] = value
    scores["rows"][0], masks["rows"][0] = value, False  # removed, so that it does not count
    try:
        selection(
            distributed(selection.strategy, shardings, scores),
            distributed(selection.strategy, shardings, masks),
            0.5,
        )
    except errors.ScoreError as error:
        return str(error)
    return "no error"


# --- a network that no device holds ---------------------------------------------------------------

UNITS = (8, 12, 10, 4)


def mlp(draw):
    model = keras.Sequential(
        [
            keras.Input(UNITS[:1]),
            keras.layers.Dense(UNITS[1], "relu", use_bias=False, name="in"),
            keras.layers.Dense(UNITS[2], "relu", use_bias=False, name="middle"),
            keras.layers.Dense(UNITS[3], use_bias=False, name="out"),
        ]
    )
    for weight in model.weights:
        weight.assign(draw(weight.shape))
    return model


def synflow_of_replica(thetas, masks):
    """SynFlow where units of one layer are the columns of its kernel and the rows of the next."""
    all_reduce = tf.distribute.get_replica_context().all_reduce
    first, middle, last = (
        tf.abs(tf.cast(thetas[name], tf.float64)) * tf.cast(masks[name], tf.float64)
        for name in ("in/kernel", "middle/kernel", "out/kernel")
    )
    # What flows in by a unit, and out by it; a sum over all devices wherever rows are cut.
    hidden = tf.reduce_sum(first, 0)
    inner = all_reduce("SUM", tf.linalg.matvec(middle, hidden, transpose_a=True))
    inner_out = all_reduce("SUM", tf.reduce_sum(last, 1))
    hidden_out = tf.linalg.matvec(middle, inner_out)
    return {
        "in/kernel": first * hidden_out,
        "middle/kernel": hidden[:, None] * middle * inner_out,
        "out/kernel": inner[:, None] * last,
    }


def prune(model, strategy, compression, rounds):
    """Rounds of which no device sees more than its piece, beside those of the library."""
    shardings = {
        name: Sharding.even(shape, axis, strategy.num_replicas_in_sync)
        for name, shape, axis in zip(
            ("in/kernel", "middle/kernel", "out/kernel"),
            zip(UNITS[:-1], UNITS[1:], strict=True),
            (1, 0, 1),
            strict=True,
        )
    }
    values = {n: w.numpy() for n, w in zip(shardings, model.weights, strict=True)}
    thetas = distributed(strategy, shardings, values)
    expected = {name: np.ones(cut.shape, bool) for name, cut in shardings.items()}
    masks = distributed(strategy, shardings, expected)
    score = tf.function(lambda *args: strategy.run(synflow_of_replica, args=args))
    selection = Selection(strategy, shardings)
    whole_score = SynFlow().bind(Network(model))
    different, ties = [], []
    for round_, density in enumerate(densities(compression, rounds)):
        scores = whole_score(expected)
        expected = select(scores, expected, density)
        masks = selection(score(thetas, masks), masks, density)
        found = gathered(strategy, shardings, masks)
        if any((found[name] != expected[name]).any() for name in shardings):
            different.append(round_)
        kept, gone = (
            np.concatenate([scores[n][mask if stays else ~mask] for n, mask in expected.items()])
            for stays in (True, False)
        )
        ties.append(int(np.count_nonzero(gone == kept.min())))
    schedule = tf_synflow.SynFlowPruningSchedule(compression, rounds)
    whole = tf_synflow.compute_masks(model, schedule=schedule, verbose=False)
    return {
        "different": different,
        "ties": sum(ties),
        "like_compute_masks": all((found[name] == whole[name]).all() for name in shardings),
        "kept": int(sum(mask.sum() for mask in found.values())),
    }


def networks(strategy):
    random = np.random.default_rng(0)
    return {
        "normal": prune(mlp(random.standard_normal), strategy, 10, 12),
        # Quarters: every sum and product is exact in whatever order, and many scores tie.
        "quarters": prune(mlp(lambda s: random.integers(-3, 4, s) / 4), strategy, 10, 12),
    }


def workers():
    """Two processes, of which each sees its own pieces only."""
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    shardings = sharded_scores.shardings(strategy.num_replicas_in_sync)
    selection = Selection(strategy, shardings)
    random = np.random.default_rng(0)
    wrong = 0
    for density in (0.05, 0.3, 0.7):
        scores = {n: random.integers(0, 4, cut.shape) / 4 for n, cut in shardings.items()}
        masks = {n: random.random(cut.shape) < 0.8 for n, cut in shardings.items()}
        found = selection(
            distributed(strategy, shardings, scores),
            distributed(strategy, shardings, masks),
            density,
        )
        expected = select(scores, masks, density)
        index = strategy.cluster_resolver.task_id
        for name, cut in shardings.items():
            (piece,) = local(strategy, found[name])
            wrong += int(np.count_nonzero(piece != cut.cut(expected[name])[index]))
    return {
        "replicas": strategy.num_replicas_in_sync,
        "wrong": wrong,
        "infinite": refused(selection, shardings, np.inf),
    }


if __name__ == "__main__":
    processes.report(globals())
