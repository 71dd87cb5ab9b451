"""Optimizers: learning rates by the epoch, weight decay by its definition."""

import dataclasses
import math

import numpy as np
import pytest
import tensorflow as tf

from tf_synflow.errors import QuantityError, UnknownNameError
from tf_synflow.train.config import TrainConfig
from tf_synflow.train.optimizers import make_optimizer

STEPS = 10


def config(**kwargs):
    return dataclasses.replace(TrainConfig(learning_rate=0.1, epochs=10), **kwargs)


def rates(**kwargs):
    """How far one step of plain descent goes at the start of every epoch."""
    found = []
    for epoch in range(10):
        optimizer = make_optimizer(config(**kwargs), STEPS)
        weight = tf.Variable(0.0)
        optimizer.build([weight])
        optimizer.iterations.assign(epoch * STEPS)
        optimizer.apply_gradients([(tf.constant(1.0), weight)])
        found.append(-float(weight) / 1.9)  # Nesterov's first step is 1 + 0.9 long
    return found


def test_step():
    assert rates(lr_drops=(3, 6)) == pytest.approx([0.1] * 3 + [0.01] * 3 + [0.001] * 4)


def test_step_without_drops_and_constant_are_flat():
    assert rates() == pytest.approx([0.1] * 10)
    assert rates(lr_schedule="constant") == pytest.approx([0.1] * 10)


def test_cosine_with_warm_up():
    found = rates(lr_schedule="cosine", warmup_epochs=2)
    assert found[0] == pytest.approx(0.1 / (2 * STEPS))
    assert found[1] == pytest.approx(0.1 * 11 / 20)
    assert found[2:] == pytest.approx(
        [0.05 * (1 + math.cos(math.pi * (epoch - 2) / 8)) for epoch in range(2, 10)], rel=1e-5
    )


def step(optimizer, gradient, steps=3):
    weights = tf.Variable([1.0, -2.0, 0.0])
    for _ in range(steps):
        optimizer.apply_gradients([(tf.constant(gradient), weights)])
    return weights.numpy()


def test_sgd_is_pytorchs_sgd_with_nesterov_momentum_and_l2():
    rate, decay, gradient = 0.1, 0.01, np.array([0.5, 0.25, 0.0])
    weights, velocity = np.array([1.0, -2.0, 0.0]), 0.0
    for _ in range(3):
        g = gradient + decay * weights
        velocity = 0.9 * velocity + g
        weights = weights - rate * (g + 0.9 * velocity)
    found = step(make_optimizer(config(weight_decay=decay), STEPS), [0.5, 0.25, 0.0])
    np.testing.assert_allclose(found, weights, rtol=1e-6)
    assert found[2] == 0


def test_adamw_decouples_weight_decay():
    without, with_decay = (
        step(make_optimizer(config(optimizer="adamw", weight_decay=d), STEPS), [0.0] * 3, steps=1)
        for d in (0.0, 0.5)
    )
    np.testing.assert_allclose(without, [1, -2, 0])
    np.testing.assert_allclose(with_decay, [1 - 0.1 * 0.5, -2 + 0.1 * 0.5 * 2, 0], rtol=1e-6)


def test_adam_takes_weight_decay_through_the_gradient():
    found = step(make_optimizer(config(optimizer="adam", weight_decay=0.5), STEPS), [0.0] * 3, 1)
    # Adam's first step is the sign of the gradient, which is the decay alone.
    np.testing.assert_allclose(found, [0.9, -1.9, 0], atol=1e-5)


def test_float16_scales_the_loss():
    optimizer = make_optimizer(config(mixed_precision="mixed_float16"), STEPS)
    assert float(optimizer.get_scaled_loss(tf.constant(1.0))) > 1


@pytest.mark.parametrize(
    "bad",
    [
        {"learning_rate": 0.0},
        {"learning_rate": math.nan},
        {"weight_decay": -1.0},
        {"lr_drops": (6, 3)},
        {"lr_drops": (0,)},
        {"lr_drop_factor": 0.0},
        {"epochs": 0},
        {"warmup_epochs": 10.0},
        {"steps_per_execution": 0},
        {"lr_drops": (3,), "lr_schedule": "cosine"},
    ],
    ids=str,
)
def test_values_out_of_range_name_their_flag(bad):
    with pytest.raises(QuantityError, match=next(iter(bad))):
        make_optimizer(config(**bad), STEPS)


@pytest.mark.parametrize("bad", [{"optimizer": "lion"}, {"lr_schedule": "linear"}], ids=str)
def test_unknown_names(bad):
    with pytest.raises(UnknownNameError, match=next(iter(bad))):
        make_optimizer(config(**bad), STEPS)
