"""Tensors brought to the same classes and groups of positions, so that an op can take them all."""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf

from tf_synflow.flow import plan, positions, sums
from tf_synflow.flow.outside import take, weigh
from tf_synflow.flow.plan import Reading
from tf_synflow.flow.positions import Classes, any_of

if TYPE_CHECKING:
    from tf_synflow.flow.tensor import FlowTensor


def in_common_classes(tensors: Sequence["FlowTensor"]) -> list["FlowTensor"]:
    """The tensors with positions in the same classes, along axes that they share.

    An axis of size one, which broadcasts, stays as it is; axes are counted from the last.
    """
    if not any(t.classes for t in tensors):
        return list(tensors)
    rank = max(len(t.shape) for t in tensors)
    taken: list[dict[int, np.ndarray]] = [{} for _ in tensors]
    classes = [list(t.classes or [None] * len(t.shape)) for t in tensors]
    for back in range(1, rank + 1):
        at = [i for i, t in enumerate(tensors) if len(t.shape) >= back and t.shape[-back] != 1]
        if not any_of(classes[i][-back] for i in at):
            continue
        size = tensors[at[0]].shape[-back]
        joint, representatives = positions.common([classes[i][-back] for i in at], size)
        for i, index in zip(at, representatives, strict=True):
            classes[i][-back] = joint
            if index is not None:
                taken[i][len(tensors[i].shape) - back] = index
    return [
        _regrouped(t, take(t.held, index) if index else t.held, own, t.groups)
        for t, index, own in zip(tensors, taken, classes, strict=True)
    ]


def in_common_groups(tensors: Sequence["FlowTensor"]) -> list["FlowTensor"]:
    """The tensors with sums of the same groups wherever one of them holds sums.

    What broadcasts along an axis is there at each position of a group.
    """
    rank = max(len(t.shape) for t in tensors)
    for axis in range(rank):
        divisions = [one for t in tensors if (one := _along(t.groups, axis - rank)) is not None]
        if divisions:
            tensors = _summed_alike(tensors, axis, divisions)
    return list(tensors)


def _summed_alike(
    tensors: Sequence["FlowTensor"], axis: int, divisions: Sequence[np.ndarray]
) -> list["FlowTensor"]:
    """The tensors with the same groups along an axis of what they broadcast to."""
    rank, groups = max(len(t.shape) for t in tensors), sums.coarser(divisions)
    size, alike = len(groups), []
    for t in tensors:
        t = t.of_rank(rank)
        own = _along(t.groups, axis - rank)
        if own is None or not np.array_equal(own, groups):
            held = own if own is not None else _along(t.classes, axis - rank)
            if held is None:
                held = np.arange(size) if t.shape[axis] == size else np.zeros(size, int)
            matrix = sums.summing(np.arange(size)[:, np.newaxis], groups, held, own is not None)
            classes, after = ([*(one or [None] * rank)] for one in (t.classes, t.groups))
            classes[axis], after[axis] = None, groups
            t = _regrouped(t, weigh(t.held, {axis: matrix}), classes, after)
        alike.append(t)
    return alike


def _regrouped(
    t: "FlowTensor", held: tf.Tensor, classes: Sequence[Classes], groups: Sequence[Classes]
) -> "FlowTensor":
    """The same tensor, with positions in other classes and groups."""
    if held is t.held:
        return t
    classes, groups = (tuple(own) if any_of(own) else () for own in (classes, groups))
    result = dataclasses.replace(t, held=held, classes=classes, groups=groups)
    plan.read(t, result, [Reading(axis) for axis in t.axes])
    return result


def _along(of_axes: Sequence[Classes], axis: int) -> Classes:
    """Classes or groups along an axis, counted from the last."""
    return of_axes[axis] if len(of_axes) >= -axis else None


def joint(tensors: Sequence["FlowTensor"], attribute: str) -> tuple[Classes, ...]:
    """The classes, or groups, behind an op that broadcasts tensors in common ones."""
    rank = max(len(t.shape) for t in tensors)
    found: list[Classes] = [None] * rank
    for t in tensors:
        own = getattr(t, attribute)
        for back in range(1, len(own) + 1):
            if own[-back] is not None:
                found[-back] = own[-back]
    return tuple(found) if any_of(found) else ()
