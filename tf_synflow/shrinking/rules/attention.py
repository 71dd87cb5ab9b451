"""Attention, whose heads are units: each reaches the output by itself."""

from typing import Any

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
    for mask in call.inputs:
        if not any(mask is x for x in (query, value, key)):
            call.fix(mask.ids)
    heads = call.new(int(output.kernel.shape[0]), "heads")
    out = call.new(int(output.kernel.shape[2]))
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
    bias = _bias(layer._value_dense)
    if bias is not None:
        varies = varies | (call.live(bias) | (as_float(bias) != 0)).any(axis=1)
    for name, x in (("query", query), ("key", key), ("value", value)):
        call.link(x, heads, reached[name] & varies)
    leaving = call.live(output.kernel).any(axis=1)
    call.link(Signal(heads, varies), out, leaving)
    return Signal(out, (leaving & varies[:, None]).any(axis=0) | call.moves(_bias(output)))


def _bias(dense: Any) -> Any:
    return getattr(dense, "bias", None)
