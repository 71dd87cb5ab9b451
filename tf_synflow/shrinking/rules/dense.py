"""Layers that multiply with a matrix, at one position or at several."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from tf_synflow.shrinking.call import Call, Rows
from tf_synflow.shrinking.rules.registry import is_elementwise, unit_rule
from tf_synflow.shrinking.units import Signal, as_float


@unit_rule("Dense")
def dense(call: Call) -> Signal | None:
    layer = call.layer
    if getattr(layer, "lora_enabled", False) or getattr(layer, "quantization_mode", None):
        return None
    return affine(call, "units")


@unit_rule("Embedding")
def embedding(call: Call) -> Signal | None:
    layer = call.layer
    if getattr(layer, "lora_enabled", False) or getattr(layer, "quantization_mode", None):
        return None
    call.fix(call.first().ids)
    out = call.new(layer.output_dim)
    call.slice(layer.embeddings, {1: out})
    call.change(lambda config, kept: config.update(output_dim=kept.count(out)))
    return Signal(out, call.live(layer.embeddings).any(axis=0))


def affine(
    call: Call, size: str, axes: Sequence[int] = (-2, -1), *, bordered: bool = False
) -> Signal:
    """The output of a layer with a kernel and maybe a bias.

    Args:
      call: of the layer.
      size: the name in the configuration of its number of units.
      axes: of the kernel, over its inputs and over its outputs.
      bordered: whether a constant differs at the border, as zeros around it count.
    """
    layer, x = call.layer, call.first()
    kernel, bias = layer.kernel, layer.bias if layer.use_bias else None
    source, target = (axis % len(kernel.shape) for axis in axes)
    out = call.new(int(kernel.shape[target]))
    call.slice(kernel, {source: x.ids, target: out})
    call.slice(bias, {0: out})
    call.change(lambda config, kept: config.update({size: kept.count(out)}))
    live = np.any(_matrices(call.live(kernel), source, target), axis=0)

    def rows(chosen: np.ndarray) -> np.ndarray:
        values = np.take(as_float(kernel), np.flatnonzero(chosen), axis=source)
        return _matrices(values, source, target).sum(axis=0)

    return reached(call, x, out, live, None if bordered else rows)


def reached(call: Call, x: Signal, out: np.ndarray, live: np.ndarray, rows: Rows | None) -> Signal:
    """The output of a layer by one weight, one bias and an activation.

    Args:
      call: of the layer.
      x: its input.
      out: the units that it makes.
      live, rows: see `Link`.
    """
    if not is_elementwise(call.layer.activation):
        call.fix(out)
    bias = getattr(call.layer, "bias", None)
    call.link(x, out, live, rows, bias)
    sources = x.active if rows is None else x.varies
    return Signal(out, (live & sources[:, None]).any(axis=0) | call.moves(bias))


def _matrices(kernel: Any, source: int, target: int) -> np.ndarray:
    """A kernel as (positions, inputs, outputs)."""
    moved = np.moveaxis(kernel, (source, target), (-2, -1))
    return moved.reshape(-1, *moved.shape[-2:])
