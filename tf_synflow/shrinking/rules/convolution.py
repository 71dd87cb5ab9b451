"""Convolutions: plain, transposed, depthwise, separable."""

from typing import Any

import numpy as np

from tf_synflow.shrinking.call import Call
from tf_synflow.shrinking.rules.dense import affine
from tf_synflow.shrinking.rules.grouped import grouped
from tf_synflow.shrinking.rules.registry import is_elementwise, unit_rule
from tf_synflow.shrinking.units import Signal, as_float


@unit_rule("Conv1D", "Conv2D", "Conv3D")
def convolution(call: Call) -> Signal | None:
    layer = call.layer
    if getattr(layer, "lora_enabled", False):
        return None
    if layer.groups != 1:
        return grouped(call, bordered=_sees_border(layer))
    return affine(call, "filters", bordered=_sees_border(layer))


@unit_rule("Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose")
def transposed(call: Call) -> Signal:
    # How many inputs an output sees differs from position to position.
    return affine(call, "filters", (-1, -2), bordered=True)


@unit_rule("DepthwiseConv1D", "DepthwiseConv2D")
def depthwise(call: Call) -> Signal:
    """Each unit by itself: what goes in and what comes out are one."""
    layer, x = call.layer, call.first()
    kernel = layer.kernel if hasattr(layer, "kernel") else layer.depthwise_kernel
    bias = layer.bias if layer.use_bias else None
    ids = np.repeat(x.ids, layer.depth_multiplier)
    call.slice(kernel, {len(kernel.shape) - 2: x.ids})
    call.slice(bias, {0: ids})
    if not is_elementwise(layer.activation):
        call.fix(ids)
    sources = x.active if _sees_border(layer) else x.varies
    varies = _units(call.live(kernel)) & np.repeat(sources, layer.depth_multiplier)
    return Signal(ids, varies | call.moves(bias))


@unit_rule("SeparableConv1D", "SeparableConv2D")
def separable(call: Call) -> Signal:
    layer, x = call.layer, call.first()
    bias = layer.bias if layer.use_bias else None
    out, rank = call.new(layer.filters), len(layer.depthwise_kernel.shape)
    ids = np.repeat(x.ids, layer.depth_multiplier)
    call.slice(layer.depthwise_kernel, {rank - 2: x.ids})
    call.slice(layer.pointwise_kernel, {rank - 2: ids, rank - 1: out})
    call.slice(bias, {0: out})
    call.change(lambda config, kept: config.update(filters=kept.count(out)))
    if not is_elementwise(layer.activation):
        call.fix(out)
    bordered, positions = _sees_border(layer), tuple(range(rank - 2))
    sources = (x.active if bordered else x.varies).repeat(layer.depth_multiplier)
    sums = as_float(layer.depthwise_kernel).sum(axis=positions).reshape(-1)
    between = Signal(
        ids,
        _units(call.live(layer.depthwise_kernel)) & sources,
        x.constants.repeat(layer.depth_multiplier) * sums,
    )
    live = call.live(layer.pointwise_kernel).any(axis=positions)
    rows = as_float(layer.pointwise_kernel).sum(axis=positions).__getitem__
    call.link(between, out, live, None if bordered else rows, bias)
    return Signal(out, (live & between.varies[:, None]).any(axis=0) | call.moves(bias))


def _sees_border(layer: Any) -> bool:
    return layer.padding != "valid" and any(size > 1 for size in layer.kernel_size)


def _units(live: np.ndarray) -> np.ndarray:
    """Which outputs of a depthwise kernel it reaches: (inputs · multiplier,)."""
    return live.any(axis=tuple(range(live.ndim - 2))).reshape(-1)
