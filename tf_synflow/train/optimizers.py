"""Optimizers and learning-rate schedules of a run."""

import functools
import math
from typing import Any

from tf_synflow import compat
from tf_synflow.errors import QuantityError, UnknownNameError
from tf_synflow.train.config import LEARNING_RATE_SCHEDULES, OPTIMIZERS, TrainConfig


def make_optimizer(config: TrainConfig, steps_per_epoch: int) -> Any:
    """The tf_keras optimizer of a run.

    `sgd` (Nesterov momentum 0.9) and `adam` take weight decay as the paper does: λθ is added to
    the gradient of every trainable weight, which is an L2 penalty of λ/2·θ². `adamw` takes it
    decoupled from the gradient (Loshchilov & Hutter 2019). A removed weight is 0 and stays 0
    under either.

    Args:
      config: The run.
      steps_per_epoch: Optimizer steps in an epoch.

    Returns:
      An optimizer whose learning rate follows `learning_rate_at`, wrapped for loss scaling under
      `mixed_float16`.

    Raises:
      QuantityError, UnknownNameError: A value out of range, a name that is not known.
    """
    check(config)
    keras = compat.tf_keras()
    rate = _schedule_class()(
        base=config.learning_rate,
        kind=config.lr_schedule,
        steps_per_epoch=steps_per_epoch,
        epochs=config.epochs,
        drops=list(config.lr_drops),
        drop_factor=config.lr_drop_factor,
        warmup_epochs=config.warmup_epochs,
    )
    if config.optimizer == "adamw":
        optimizer = keras.optimizers.AdamW(rate, weight_decay=config.weight_decay)
    elif config.optimizer == "adam":
        optimizer = _with_l2("Adam")(rate, l2=config.weight_decay)
    else:
        optimizer = _with_l2("SGD")(rate, momentum=0.9, nesterov=True, l2=config.weight_decay)
    if config.mixed_precision == "mixed_float16":
        optimizer = keras.mixed_precision.LossScaleOptimizer(optimizer)
    return optimizer


def check(config: TrainConfig) -> None:
    """Raises QuantityError or UnknownNameError for what `make_optimizer` cannot take."""
    if config.optimizer not in OPTIMIZERS:
        raise UnknownNameError("optimizer", config.optimizer, OPTIMIZERS)
    if config.lr_schedule not in LEARNING_RATE_SCHEDULES:
        raise UnknownNameError("lr_schedule", config.lr_schedule, LEARNING_RATE_SCHEDULES)
    expectations = (
        ("learning_rate", "a number above 0", 0 < config.learning_rate < math.inf),
        ("weight_decay", "a number of at least 0", 0 <= config.weight_decay < math.inf),
        ("lr_drop_factor", "a number above 0 and up to 1", 0 < config.lr_drop_factor <= 1),
        ("epochs", "a whole number of at least 1", config.epochs >= 1),
        ("steps_per_execution", "a whole number of at least 1", config.steps_per_execution >= 1),
        ("lr_drops", "rising epochs of at least 1", _is_rising((0, *config.lr_drops))),
        (
            "warmup_epochs",
            f"at least 0 and below the {config.epochs} epochs",
            0 <= config.warmup_epochs < config.epochs,
        ),
    )
    for name, expected, holds in expectations:
        if not holds:
            raise QuantityError(
                f"{name} received: {getattr(config, name)!r}; expected {expected}. Correct "
                f"--{name}."
            )
    if config.lr_drops and config.lr_schedule != "step":
        raise QuantityError(
            f"lr_drops received: {config.lr_drops!r}, with lr_schedule={config.lr_schedule!r}, "
            "which has none; expected lr_schedule='step'. Leave one of the two out."
        )


def _is_rising(numbers: tuple[int, ...]) -> bool:
    return all(a < b for a, b in zip(numbers, numbers[1:], strict=False))


@functools.cache
def _with_l2(name: str) -> type:
    base = getattr(compat.tf_keras().optimizers, name)

    class WithL2(base):
        """Adds `l2`·θ to the gradient of θ, before momentum."""

        element_wise = True  # to `inject.fitting`

        def __init__(self, *args, l2=0.0, **kwargs):
            super().__init__(*args, **kwargs)
            self.l2 = l2

        def get_config(self):
            return {**super().get_config(), "l2": self.l2}

        def update_step(self, gradient, variable):
            super().update_step(gradient + self.l2 * variable, variable)

    WithL2.__name__ = f"{name}WithL2"
    return WithL2


@functools.cache
def _schedule_class() -> type:
    import tensorflow as tf

    keras = compat.tf_keras()

    class LearningRate(keras.optimizers.schedules.LearningRateSchedule):
        """Linear warm-up, then constant, dropping at given epochs, or half a cosine to zero."""

        def __init__(self, base, kind, steps_per_epoch, epochs, drops, drop_factor, warmup_epochs):
            self._config = {
                "base": base,
                "kind": kind,
                "steps_per_epoch": steps_per_epoch,
                "epochs": epochs,
                "drops": drops,
                "drop_factor": drop_factor,
                "warmup_epochs": warmup_epochs,
            }

        def __call__(self, step):
            c = self._config
            epoch = tf.cast(step, tf.float32) / c["steps_per_epoch"]
            rate = tf.constant(c["base"], tf.float32)
            if c["kind"] == "step":
                passed = sum(tf.cast(epoch >= drop, tf.float32) for drop in c["drops"])
                rate *= c["drop_factor"] ** passed
            elif c["kind"] == "cosine":
                span = c["epochs"] - c["warmup_epochs"]
                share = tf.clip_by_value((epoch - c["warmup_epochs"]) / span, 0.0, 1.0)
                rate *= 0.5 * (1.0 + tf.cos(math.pi * share))
            if c["warmup_epochs"]:
                # Steps count from 0; the first one must not be lost to a rate of 0.
                first = 1.0 / c["steps_per_epoch"]
                rate *= tf.minimum(1.0, (epoch + first) / c["warmup_epochs"])
            return rate

        def get_config(self):
            return dict(self._config)

    return LearningRate
