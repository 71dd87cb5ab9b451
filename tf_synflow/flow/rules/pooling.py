"""Poolings, paddings and what else has no weights and moves values about."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from tf_synflow.flow.rules.convolution import channels_last
from tf_synflow.flow.rules.registry import Rule, flow_rule
from tf_synflow.flow.tensor import FlowTensor
from tf_synflow.flow.theta import Theta


@flow_rule(
    *(f"{kind}Pooling{n}D" for kind in ("Max", "Average") for n in (1, 2)),
    *(f"{kind}Pooling{n}D" for kind in ("GlobalMax", "GlobalAverage") for n in (1, 2, 3)),
    *(f"Adaptive{kind}Pooling{n}D" for kind in ("Max", "Average") for n in (1, 2, 3)),
    *(f"{kind}{n}D" for kind in ("ZeroPadding", "Cropping", "UpSampling") for n in (1, 2, 3)),
    "Flatten", "Reshape", "Permute", "RepeatVector", "CenterCrop", "Resizing",
)  # fmt: skip
def itself(layer: Any, theta: Theta, x: FlowTensor) -> FlowTensor:
    """A layer without weights that is linear, or a maximum: its own `call`, without autocast."""
    # Some resize in float32 whatever they are given.
    return x.moved(lambda value: tf.cast(layer.call(value), value.dtype))


def pooling_3d(pool: Callable[..., tf.Tensor]) -> Rule:
    """A pooling over height and width, then one over depth: the CPU has no float64 one over all."""

    def rule(layer: Any, theta: Theta, x: FlowTensor) -> FlowTensor:
        padding = layer.padding.upper()
        (depth, *area), (depth_stride, *area_strides) = layer.pool_size, layer.strides

        def op(value: tf.Tensor) -> tf.Tensor:
            batch, *volume, channels = value.shape
            value = tf.reshape(value, [batch * volume[0], *volume[1:], channels])
            value = pool(value, area, area_strides, padding)
            height, width = value.shape[1:3]
            value = tf.reshape(value, [batch, volume[0], height * width, channels])
            value = pool(value, (depth, 1), (depth_stride, 1), padding)
            return tf.reshape(value, [batch, value.shape[1], height, width, channels])

        return channels_last(layer, x, op, None)

    return rule


flow_rule("MaxPooling3D")(pooling_3d(tf.nn.max_pool2d))
flow_rule("AveragePooling3D")(pooling_3d(tf.nn.avg_pool2d))
