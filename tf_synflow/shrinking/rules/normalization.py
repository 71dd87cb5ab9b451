"""Layers with a weight for each unit, and no way from one unit to another."""

from typing import Any

from tf_synflow.shrinking.call import Call
from tf_synflow.shrinking.rules.registry import unit_rule
from tf_synflow.shrinking.units import Signal, as_float


@unit_rule("BatchNormalization", "SyncBatchNormalization")
def batch_normalization(call: Call) -> Signal | None:
    """A zero becomes β, in training too, where it is normalized with its own mean."""
    layer, x = call.layer, call.first()
    if not _over_last_axis(layer.axis, x) or _has_options(layer):
        return None
    for variable in layer.weights:
        call.slice(variable, {0: x.ids})
    beta = layer.beta if layer.center else None
    varies = x.varies
    if layer.scale and not call.survey.trained:
        varies = varies & call.live(layer.gamma)
    if beta is not None and call.survey.trained:
        varies = varies | call.moves(beta) | (as_float(beta) != 0)
    return Signal(x.ids, varies)


@unit_rule("PReLU")
def prelu(call: Call) -> Signal:
    x, alpha = call.first(), call.layer.alpha
    if alpha.shape[-1] == len(x.ids):  # not one for all channels
        call.slice(alpha, {len(alpha.shape) - 1: x.ids})
    return Signal(x.ids, x.varies)


def _over_last_axis(axis: Any, x: Signal) -> bool:
    axes = [axis] if isinstance(axis, int) else list(axis)
    return [one % len(x.value.shape) for one in axes] == [len(x.value.shape) - 1]


def _has_options(layer: Any) -> bool:
    shapes = {tuple(variable.shape) for variable in layer.weights}
    return len(shapes) > 1 or bool(getattr(layer, "virtual_batch_size", None))
