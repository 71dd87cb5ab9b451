"""Layers that move entries of a tensor to other places."""

from collections.abc import Callable

import numpy as np

from tf_synflow.shrinking.call import Call
from tf_synflow.shrinking.rules.registry import unit_rule
from tf_synflow.shrinking.units import Signal


@unit_rule("Flatten")
def flatten(call: Call) -> Signal | None:
    return _moved(call, lambda entries: entries.reshape(-1))


@unit_rule("Permute")
def permute(call: Call) -> Signal | None:
    axes = [axis - 1 for axis in call.layer.dims]
    return _moved(call, lambda entries: entries.transpose(axes))


@unit_rule("Reshape")
def reshape(call: Call) -> Signal | None:
    shape = tuple(call.values[0].shape)[1:]
    found = _moved(call, lambda entries: entries.reshape(shape))
    target = tuple(call.layer.target_shape)
    if found is not None and target[-1] != -1:
        call.change(
            lambda config, kept: config.update(target_shape=(*target[:-1], kept.count(found.ids)))
        )
    return found


def _moved(call: Call, move: Callable[[np.ndarray], np.ndarray]) -> Signal | None:
    """The units where they are moved; None unless they are the same all along the last axis."""
    x = call.first()
    shape = tuple(x.value.shape)[1:]
    ids, varies = (move(np.broadcast_to(a, shape)) for a in (x.ids, x.varies))
    ids, varies = (a.reshape(-1, a.shape[-1]) for a in (ids, varies))
    return Signal(ids[0], varies[0]) if (ids == ids[0]).all() else None
