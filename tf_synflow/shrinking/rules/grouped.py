"""Grouped convolutions."""

import numpy as np

from tf_synflow.shrinking.call import Call
from tf_synflow.shrinking.groups import Groups
from tf_synflow.shrinking.rules.dense import reached
from tf_synflow.shrinking.units import Signal, as_float


def grouped(call: Call, *, bordered: bool) -> Signal:
    """The output of a convolution of several groups.

    Args:
      call: of the layer.
      bordered: whether a constant differs at the border, as zeros around it count.
    """
    layer, x = call.layer, call.first()
    kernel, count = layer.kernel, layer.groups
    positions = tuple(range(len(kernel.shape) - 2))
    out = call.new(layer.filters)
    groups = Groups(x.ids.reshape(count, -1), out.reshape(count, -1))
    call.group(kernel, groups)
    call.slice(layer.bias if layer.use_bias else None, {0: out})
    call.change(
        lambda config, kept: config.update(filters=kept.count(out), groups=groups.count(kept))
    )

    def rows(chosen: np.ndarray) -> np.ndarray:
        return groups.whole(as_float(kernel).sum(axis=positions))[chosen]

    live = groups.whole(call.live(kernel).any(axis=positions))
    return reached(call, x, out, live, None if bordered else rows)
