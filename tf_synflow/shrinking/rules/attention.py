"""Attention, whose heads are units: each reaches the output by itself."""

from typing import Any

import numpy as np

from tf_synflow.shrinking.call import Call
from tf_synflow.shrinking.rules.registry import unit_rule
from tf_synflow.shrinking.units import Signal, as_float


@unit_rule("MultiHeadAttention")
def attention(call: Call) -> Signal | None:
    layer = call.layer
    query, value, key = (call.argument(name) for name in ("query", "value", "key"))
    key = value if key is None else key
    output = layer._output_dense
    if len(call.values) > 1 or len(output.kernel.shape) != 3 or hasattr(layer, "_gate_dense"):
        return None
    masks = [x for x in call.inputs if not any(x is one for one in (query, value, key))]
    for mask in masks:
        call.fix(mask.ids)
    is_masked = masks or any(getattr(x.value, "_keras_mask", None) is not None for x in call.inputs)
    heads = call.new(int(output.kernel.shape[0]), "heads")
    out = call.new(int(output.kernel.shape[2]))
    call.need(heads, out)
    reached = {}
    for name, x in (("query", query), ("key", key), ("value", value)):
        dense = getattr(layer, f"_{name}_dense")
        call.slice(dense.kernel, {0: x.ids, 1: heads})
        call.slice(_bias(dense), {0: heads})
        reached[name] = call.live(dense.kernel).any(axis=2)
    call.slice(output.kernel, {0: heads, 2: out})
    call.slice(_bias(output), {0: out})
    call.change(
        lambda config, kept: config.update(
            num_heads=kept.count(heads), output_shape=[kept.count(out)]
        )
    )
    varies = (reached["value"] & value.active[:, None]).any(axis=0)
    bias, weight = _bias(layer._value_dense), as_float(output.kernel)
    steady = np.zeros(weight.shape[:2]) if bias is None else as_float(bias)
    # Keras 3 gives zero, not the bias, where a mask leaves nothing to attend to.
    if bias is not None and (call.survey.trained or is_masked):
        varies = varies | (call.live(bias) | (steady != 0)).any(axis=1)
    for name, x in (("query", query), ("key", key), ("value", value)):
        call.link(x, heads, reached[name] & varies)
    leaving = call.live(output.kernel).any(axis=1)

    def rows(chosen: np.ndarray) -> np.ndarray:
        # The weights of all positions add up to one, so a head is the bias of its values.
        return np.einsum("hd,hdo->ho", steady, weight)[chosen]

    own = Signal(heads, varies, (steady != 0).any(axis=1))  # one times its rows, or nothing
    call.link(own, out, leaving, rows if _bias(output) is not None else None, _bias(output))
    return Signal(out, (leaving & varies[:, None]).any(axis=0) | call.moves(_bias(output)))


def _bias(dense: Any) -> Any:
    return getattr(dense, "bias", None)
