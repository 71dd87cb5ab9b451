"""Is a shrunk model the same? Both compute from random input."""

from typing import Any

import tensorflow as tf

from tf_synflow import compat, errors
from tf_synflow.flow import graph, weights
from tf_synflow.inject import agreement
from tf_synflow.shrinking.units import as_float


def check_same(before: Any, after: Any, values: list) -> float:
    """Compares a model with what has been made of it.

    Args:
      before, after: the models.
      values: for their inputs, flat.

    Returns:
      The largest difference of an output, relative to the largest value in it.

    Raises:
      ShrinkError: it is more than rounding explains.
    """
    tolerance = agreement.tolerance(before)  # sums are rounded in another order
    pairs = zip(outputs(before, values), outputs(after, values), strict=True)
    worst = max(_difference(one, other) for one, other in pairs)
    if not worst <= tolerance:
        raise errors.ShrinkError(
            f"model {before.name!r}: the shrunk model differs by {worst:.3g} of the largest output "
            f"on random input; expected at most {tolerance:g}. Layers of your own, and layers that "
            "draw random numbers when they are called with training=True, may be the reason: take "
            "them out, or go on with the model as it is."
        )
    return worst


def outputs(model: Any, values: list) -> list:
    """The outputs of a model in inference mode, flat; no state of it changes."""
    given = graph.nested(model, "inputs", values)
    if not compat.is_tf_keras(model):
        with compat.keras().StatelessScope():
            return tf.nest.flatten(model(given, training=False))
    found = tf.nest.flatten(model(given, training=False))
    if any(getattr(layer, "stateful", False) for _, layer in weights.layers_of(model)):
        model.reset_states()
    return found


def _difference(one: Any, other: Any) -> float:
    if tuple(one.shape) != tuple(other.shape):
        return float("inf")
    worst, largest = agreement.apart(as_float(one), as_float(other))
    return worst / (largest or 1.0)
