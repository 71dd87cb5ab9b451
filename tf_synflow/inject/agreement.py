"""How near two models are that shall compute the same, and how near is near enough."""

from typing import Any

import numpy as np

from tf_synflow.flow import weights

# Of the largest value; half precision is rounded after every op, in orders that differ.
_HALF = {"float16": 2e-2, "bfloat16": 1e-1}


def tolerance(model: Any, least: float = 1e-4) -> float:
    """Largest difference to accept of a model, relative to the largest value of an output.

    Args:
      model: of either Keras.
      least: what is accepted in float32; more is where a layer computes in half precision.
    """
    precisions = {getattr(layer, "compute_dtype", None) for _, layer in weights.layers_of(model)}
    return max([least, *(_HALF.get(precision, 0.0) for precision in precisions)])


def apart(one: np.ndarray, other: np.ndarray) -> tuple[float, float]:
    """The largest difference of two arrays of one shape, and the largest finite value of the first.

    NaN is as NaN, and infinity as infinity of the same sign; else they are infinitely apart.
    """
    one, other = (np.atleast_1d(array).astype(np.float64, copy=False) for array in (one, other))
    with np.errstate(invalid="ignore"):
        difference = np.abs(one - other)
    difference[(one == other) | (np.isnan(one) & np.isnan(other))] = 0
    difference[np.isnan(difference)] = np.inf
    finite = np.abs(one[np.isfinite(one)])
    return float(np.max(difference, initial=0.0)), float(np.max(finite, initial=0.0))
