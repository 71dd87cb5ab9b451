"""TimeDistributed: the layer inside, with the steps as the batch."""

import tensorflow as tf

from tf_synflow.shrinking.call import Call
from tf_synflow.shrinking.rules.registry import find, unit_rule
from tf_synflow.shrinking.units import Signal


@unit_rule("TimeDistributed")
def time_distributed(call: Call) -> Signal | list[Signal] | None:
    rule = find(call.layer.layer)
    if rule is None:
        return None
    x = call.first()
    steps, *values = (_merged(value) for value in (x.value, *call.values))
    return rule(call.inside(call.layer.layer, Signal(x.ids, x.varies, steps), values))


def _merged(value: tf.Tensor) -> tf.Tensor:
    return tf.reshape(value, [-1, *value.shape[2:]])
