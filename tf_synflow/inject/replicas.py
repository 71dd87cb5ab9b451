"""Models whose variables live on several devices or workers (`tf.distribute`).

Every worker computes the masks on its own, from its own copy of the weights; that all of them hold
the same is checked by hash, and not assumed.
"""

import contextlib
import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tf_synflow import errors
from tf_synflow.flow import weights


def strategy_of(model: Any) -> tf.distribute.Strategy | None:
    """The strategy in whose scope the variables of a model were made; None for an ordinary model.

    Raises:
      ModelError: some variables were made in a scope and some out of it.
    """
    strategies = {name: _strategy(w.variable) for name, w in weights.all_weights(model).items()}
    first = next(iter(strategies.values()), None)
    for name, strategy in strategies.items():
        if strategy is not first:
            raise errors.ModelError(
                f"model {model.name!r}: received the weights {next(iter(strategies))!r} made "
                f"{_where(first)} and {name!r} made {_where(strategy)}; expected all of them in "
                "one scope. Build the whole model inside strategy.scope()."
            )
    return first


def scope_of(model: Any) -> contextlib.AbstractContextManager:
    """The scope in which a model was built: a copy that is made there trains as it would."""
    strategy = strategy_of(model)
    return contextlib.nullcontext() if strategy is None else strategy.scope()


def check_scope(model: Any) -> None:
    """Checks that the scope around the call, if there is one, is that of the model.

    Raises:
      ModelError: it is another.
    """
    if not tf.distribute.has_strategy():
        return
    own, around = strategy_of(model), tf.distribute.get_strategy()
    if own is not around:
        raise errors.ModelError(
            f"model {model.name!r}: received, inside the scope of a {type(around).__name__}, a "
            f"model that was built {_where(own)}; expected one that was built in this scope. "
            "Build the model inside strategy.scope()."
        )


def check_same_weights(model: Any) -> None:
    """Checks that all workers hold the same weights, by one small collective.

    Every worker has to call it. It does nothing unless the model is of several workers.

    Raises:
      MaskError: they do not; on every worker.
    """
    strategy = strategy_of(model)
    if not _has_workers(strategy):
        return
    values = {name: w.variable.numpy() for name, w in weights.all_weights(model).items()}
    different = _different(strategy, values)
    if different:
        raise errors.MaskError(
            f"model {model.name!r}: workers hold different initial weights: received other ones "
            f"on {_workers(different)} than on worker 0; expected the same on every worker, for "
            "each computes the masks from its own. Load the same weights on every worker, or let "
            "the strategy's own initial values stand."
        )


def check_same_masks(model: Any, masks: Mapping[str, np.ndarray]) -> None:
    """Checks that all workers hold the same masks for a model, as `check_same_weights` does.

    Raises:
      MaskError: they do not; on every worker.
    """
    strategy = strategy_of(model)
    if not _has_workers(strategy):
        return
    different = _different(strategy, masks)
    if different:
        raise errors.MaskError(
            f"model {model.name!r}: workers hold different masks: received other ones on "
            f"{_workers(different)} than on worker 0; expected the same on every worker. Give "
            "seed= to a scorer that draws random numbers; where machines or versions of "
            "TensorFlow differ, compute the masks once, save them, and let every worker "
            "apply_masks(model, Masks.load(path))."
        )


def _strategy(variable: Any) -> tf.distribute.Strategy | None:
    value = variable._value if hasattr(variable, "_value") else variable  # Keras 3 holds a variable
    return getattr(value, "_distribute_strategy", None)


def _has_workers(strategy: tf.distribute.Strategy | None) -> bool:
    # Under every other strategy one process computes the masks for all devices.
    return isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)


def _different(strategy: tf.distribute.Strategy, arrays: Mapping[str, np.ndarray]) -> list[int]:
    """Indices of the workers whose arrays differ from those of the first."""
    digests = _all_gather(strategy, tf.constant(_digest(arrays)[None])).numpy()
    different = np.flatnonzero((digests != digests[0]).any(axis=1))
    # Replicas of a worker follow one another, and every worker has as many.
    replicas = len(strategy.extended.worker_devices)
    return sorted(set((different // replicas).tolist()))


@tf.function
def _all_gather(strategy: tf.distribute.Strategy, row: tf.Tensor) -> tf.Tensor:
    """The rows of all replicas, one below the other."""

    def gather() -> tf.Tensor:
        # The collective takes its devices from the tensor, which an argument is without.
        return tf.distribute.get_replica_context().all_gather(tf.identity(row), axis=0)

    return strategy.experimental_local_results(strategy.run(gather))[0]


def _digest(arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    """SHA-256 of named arrays, as four int64."""
    digest = hashlib.sha256()
    for name, array in arrays.items():
        digest.update(f"{name} {array.shape} {array.dtype}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return np.frombuffer(digest.digest(), np.int64)


def _workers(indices: Iterable[int]) -> str:
    return f"worker {', '.join(map(str, indices))}"


def _where(strategy: tf.distribute.Strategy | None) -> str:
    return "outside any scope" if strategy is None else f"in that of a {type(strategy).__name__}"
