"""SimpleRNN, GRU and LSTM, in one direction or both."""

from typing import Any

import numpy as np
import tensorflow as tf

from tf_synflow.shrinking.call import Call
from tf_synflow.shrinking.rules.registry import is_elementwise, unit_rule
from tf_synflow.shrinking.units import Signal, as_float


@unit_rule("SimpleRNN", "GRU", "LSTM")
def recurrent(call: Call) -> list[Signal] | None:
    if len(call.inputs) > 1 or call.layer.stateful:  # a given state has units of its own
        return None
    out = _units(call, call.layer, "units")
    if out is None:
        return None
    call.change(lambda config, kept: config.update(units=kept.count(out.ids)))
    return [out] * len(call.values)


@unit_rule("Bidirectional")
def bidirectional(call: Call) -> Signal | None:
    layer = call.layer
    kinds = {type(one).__name__ for one in (layer.forward_layer, layer.backward_layer)}
    if len(call.inputs) > 1 or len(call.values) > 1 or layer.stateful:
        return None
    if not kinds <= {"SimpleRNN", "GRU", "LSTM"}:
        return None
    ahead = _units(call, layer.forward_layer, "forward")
    back = _units(call, layer.backward_layer, "backward")
    if ahead is None or back is None:
        return None
    call.survey.units.join(ahead.ids, back.ids)  # Keras wants both directions of one width

    def change(config: dict, kept: Any) -> None:
        for key in ("layer", "backward_layer"):
            if key in config:
                config[key]["config"]["units"] = kept.count(ahead.ids)
                config[key].pop("build_config", None)  # Keras 3 would build it as wide as it was

    call.change(change)
    if layer.merge_mode == "concat":
        return Signal(
            np.concatenate([ahead.ids, back.ids]), np.concatenate([ahead.varies, back.varies])
        )
    return Signal(ahead.ids, ahead.varies | back.varies)


def _units(call: Call, layer: Any, key: str) -> Signal | None:
    """The units of one direction: each reached from the inputs, and from the others a step ago."""
    cell, x = layer.cell, call.first()
    gate = getattr(cell, "recurrent_activation", None)
    if not (is_elementwise(cell.activation) and is_elementwise(gate) and _keeps_zero(cell)):
        return None
    out = call.new(cell.units, key)
    bias = cell.bias if cell.use_bias else None
    gates = int(cell.kernel.shape[1]) // cell.units
    along = np.tile(out, gates)
    call.slice(cell.kernel, {0: x.ids, 1: along})
    call.slice(cell.recurrent_kernel, {0: out, 1: along})
    call.slice(bias, {} if bias is None else {len(bias.shape) - 1: along})
    inward, across = (
        call.live(kernel).reshape(-1, gates, cell.units).any(axis=1)
        for kernel in (cell.kernel, cell.recurrent_kernel)
    )
    varies = (inward & x.active[:, None]).any(axis=0) | _has_bias(call, bias, cell.units)
    for _ in range(cell.units):
        varies = varies | (across & varies[:, None]).any(axis=0)
    # What is the same at every step is added there as the bias is.
    rows = None if bias is None else as_float(cell.kernel).__getitem__
    call.link(x, along, call.live(cell.kernel), rows, bias)
    call.link(Signal(out, varies), out, across)
    return Signal(out, varies)


def _keeps_zero(cell: Any) -> bool:
    return cell.activation is None or float(cell.activation(tf.zeros(1))[0]) == 0


def _has_bias(call: Call, bias: Any, units: int) -> np.ndarray:
    """Which units a bias may move off the zero that they start from."""
    if bias is None:
        return np.zeros(units, bool)
    moving = call.live(bias) | (as_float(bias) != 0)
    return moving.reshape(-1, units).any(axis=0)
