"""Layers and ops that put several tensors together."""

from typing import Any

import numpy as np

from tf_synflow.shrinking.call import Call
from tf_synflow.shrinking.rules.elementwise import has_arrays, same_units
from tf_synflow.shrinking.rules.registry import CONCATENATIONS, SUMS, unit_rule
from tf_synflow.shrinking.units import Signal


@unit_rule(*SUMS)
def add(call: Call) -> Signal | None:
    """The one merge of which an input can go: one that is the same at every position."""
    if len(call.inputs) < 2 or len({len(x.ids) for x in call.inputs}) > 1:
        return merge(call)
    shape = tuple(call.values[0].shape)
    constants = [None if x.varies.any() else x.constants for x in call.inputs]
    rest = [x for x in call.inputs if x.varies.any()]
    if np.broadcast_shapes(*(tuple(x.value.shape) for x in rest)) != shape:
        constants = [None] * len(constants)
    out = call.survey.add(call.layer, [x.ids for x in call.inputs], constants)
    return Signal(out, np.any([x.varies for x in call.inputs], axis=0))


@unit_rule(
    *("Subtract", "Average", "Maximum", "Minimum"),
    *(f"ops.{name}" for name in "Subtract Divide TrueDivide Maximum Minimum".split()),
    *(f"tf.math.{name}" for name in "subtract divide truediv maximum minimum".split()),
    *("tf.__operators__.subtract", "tf.__operators__.truediv"),
)
def merge(call: Call) -> Signal | None:
    if has_arrays(call):
        return None
    if len(call.inputs) == 1:
        return same_units(call)
    return Signal(_joined(call), np.any(_broadcast([x.varies for x in call.inputs]), axis=0))


@unit_rule("Multiply", "ops.Multiply", "tf.math.multiply", "tf.__operators__.mul")
def multiply(call: Call) -> Signal | None:
    """Zero where one factor is."""
    found = merge(call)
    if found is None or len(call.inputs) == 1:
        return found
    active = np.all(_broadcast([x.active for x in call.inputs]), axis=0)
    return Signal(found.ids, found.varies & active)


@unit_rule(*CONCATENATIONS)
def concatenate(call: Call) -> Signal | None:
    axis = _axis(call)
    rank = len(call.values[0].shape)
    if axis is None:
        return None
    if axis % rank == rank - 1:
        return Signal(
            np.concatenate([x.ids for x in call.inputs]),
            np.concatenate([x.varies for x in call.inputs]),
        )
    return Signal(_joined(call), np.any([x.active for x in call.inputs], axis=0))


def _joined(call: Call) -> np.ndarray:
    """The units of tensors that are put together one by one; a single unit goes with all."""
    ids = max((x.ids for x in call.inputs), key=len)
    for x in call.inputs:
        if len(x.ids) == len(ids):
            call.survey.units.join(ids, x.ids)
        else:
            call.fix(x.ids)
    return ids


def _broadcast(arrays: list[np.ndarray]) -> list[np.ndarray]:
    return list(np.broadcast_arrays(*arrays))


def _axis(call: Call) -> Any:
    if hasattr(call.layer, "axis"):
        return call.layer.axis
    return call.kwargs.get("axis", call.args[1] if len(call.args) > 1 else None)
