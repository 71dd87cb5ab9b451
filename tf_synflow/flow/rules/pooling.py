"""Poolings, paddings and what else has no weights and moves values about."""

import math
from typing import Any

import tensorflow as tf

from tf_synflow.flow import positions
from tf_synflow.flow.positions import OUTSIDE
from tf_synflow.flow.rules.convolution import channels_back, channels_last, slide
from tf_synflow.flow.rules.registry import by_class, flow_rule
from tf_synflow.flow.tensor import FlowTensor
from tf_synflow.flow.theta import Theta
from tf_synflow.flow.windows import Windows


@flow_rule(
    *(f"Adaptive{kind}Pooling{n}D" for kind in ("Max", "Average") for n in (1, 2, 3)),
    "Flatten", "Reshape", "Permute", "RepeatVector", "CenterCrop", "Resizing",
)  # fmt: skip
def itself(layer: Any, theta: Theta, x: FlowTensor) -> FlowTensor:
    """A layer without weights that is linear, or a maximum: its own `call`, without autocast."""
    # Some resize in float32 whatever they are given.
    return x.moved(lambda value: tf.cast(layer.call(value), value.dtype))


@flow_rule(*(f"{kind}Pooling{n}D" for kind in ("Max", "Average") for n in (1, 2, 3)))
@by_class
def pooling(layer: Any, theta: Theta, x: FlowTensor) -> FlowTensor:
    """The largest or the mean value in a window; what is outside does not count."""
    x = channels_last(layer, x)
    rank = len(x.shape) - 2
    sizes, strides = (_per_axis(own, rank) for own in (layer.pool_size, layer.strides))
    windows = [
        positions.windows(*axis, padding=layer.padding)
        for axis in zip(x.shape[1:-1], sizes, strides, strict=True)
    ]
    if "Max" in type(layer).__name__:
        return channels_back(layer, slide(x, _largest, windows, adds=False))
    # Of windows that reach into the padding each mean is of another number of values.
    adds = not any((index == OUTSIDE).any() for index in windows)
    return channels_back(layer, slide(x, _mean, windows, adds))


@flow_rule(*(f"Global{kind}Pooling{n}D" for kind in ("Max", "Average") for n in (1, 2, 3)))
@by_class
def global_pooling(layer: Any, theta: Theta, x: FlowTensor) -> FlowTensor:
    rank = len(x.shape)
    first = layer.data_format == "channels_first"
    spatial = list(range(2, rank) if first else range(1, rank - 1))
    keepdims = getattr(layer, "keepdims", False)
    x = x.full([axis for axis in range(rank) if axis not in spatial])
    if "Max" in type(layer).__name__:
        return x.through(lambda value: tf.reduce_max(value, spatial, keepdims=keepdims), ())
    size = math.prod(x.shape[axis] for axis in spatial)
    total = x.summed(spatial, keepdims)
    return total.linear(lambda value: value / size, total.axes)


@flow_rule(*(f"ZeroPadding{n}D" for n in (1, 2, 3)))
@by_class
def zero_padding(layer: Any, theta: Theta, x: FlowTensor) -> FlowTensor:
    x = channels_last(layer, x)
    padding = _pairs(layer.padding)
    windows = [
        positions.windows(size, 1, padding=own)
        for size, own in zip(x.shape[1:-1], padding, strict=True)
    ]
    return channels_back(layer, slide(x, _only, windows))


@flow_rule(*(f"Cropping{n}D" for n in (1, 2, 3)))
@by_class
def cropping(layer: Any, theta: Theta, x: FlowTensor) -> FlowTensor:
    x = channels_last(layer, x)
    windows = [
        positions.windows(size, 1, padding=(-before, -after))
        for size, (before, after) in zip(x.shape[1:-1], _pairs(layer.cropping), strict=True)
    ]
    return channels_back(layer, slide(x, _only, windows))


@flow_rule(*(f"UpSampling{n}D" for n in (1, 2, 3)))
@by_class
def upsampling(layer: Any, theta: Theta, x: FlowTensor) -> FlowTensor:
    """Every value several times, or interpolated between all positions."""
    if getattr(layer, "interpolation", "nearest") != "nearest":
        return itself(layer, theta, x.full())
    x = channels_last(layer, x)
    factors = _per_axis(layer.size, len(x.shape) - 2)
    windows = [
        positions.repeated(size, factor)
        for size, factor in zip(x.shape[1:-1], factors, strict=True)
    ]
    return channels_back(layer, slide(x, _only, windows))


def _largest(rows: tf.Tensor, windows: Windows) -> tf.Tensor:
    return tf.reduce_max(windows.gather(rows, padding=rows.dtype.min), axis=1)


def _mean(rows: tf.Tensor, windows: Windows) -> tf.Tensor:
    size = tf.constant(windows.inside()[:, None], rows.dtype)
    return tf.reduce_sum(windows.gather(rows), axis=1) / size


def _only(rows: tf.Tensor, windows: Windows) -> tf.Tensor:
    """What is under windows of one place."""
    return windows.gather(rows)[:, 0]


def _per_axis(sizes: Any, rank: int) -> tuple[int, ...]:
    return tuple(sizes) if isinstance(sizes, list | tuple) else (sizes,) * rank


def _pairs(sizes: Any) -> list[tuple[int, int]]:
    """(before, after) of each axis; a layer over one axis has one pair."""
    return [tuple(sizes)] if isinstance(sizes[0], int) else [tuple(pair) for pair in sizes]
