"""Convolutions: plain, grouped, dilated, transposed, depthwise, separable.

Each is a matrix product of patches, one patch for each class of positions, with the kernel.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tf_synflow.flow import plan, positions, sums
from tf_synflow.flow.plan import Reading
from tf_synflow.flow.positions import any_of
from tf_synflow.flow.rules.activation import activation
from tf_synflow.flow.rules.registry import by_class, flow_rule
from tf_synflow.flow.tensor import FlowTensor
from tf_synflow.flow.theta import Theta
from tf_synflow.flow.windows import Windows, windows_over

# From a feature map (*sizes, channels) and windows over it to (windows, filters), as they lie along
# the axes or in a row.
Product = Callable[[tf.Tensor, Windows], tf.Tensor]

# Patches of more values are not made; 2^25 of them are 256 MB.
_MOST_VALUES = 2**25


@flow_rule("Conv1D", "Conv2D", "Conv3D")
@by_class
def conv(layer: Any, theta: Theta, x: FlowTensor) -> FlowTensor:
    def product(rows: tf.Tensor, windows: Windows) -> tf.Tensor:
        if layer.groups == 1:
            return theta.product(rows, windows)
        patches = windows.gather(rows)
        number, places, channels = patches.shape
        groups = [places, channels // layer.groups, layer.groups, layer.filters // layer.groups]
        patches = tf.reshape(patches, [number, places, layer.groups, -1])
        kernel = tf.reshape(theta.kernel, groups)
        return _flat(tf.einsum("npgc,pcgf->ngf", patches, kernel))

    x = channels_last(layer, x)
    if _values(layer, x) > _MOST_VALUES and layer.groups == 1 and layer.padding != "causal":
        x = x.full().linear(lambda value: _plain(layer, theta, value)).plus(theta.bias)
    else:
        x = slide(x, product, _kernel_windows(layer, x)).plus(theta.bias)
    return activation(layer.activation, theta, channels_back(layer, x))


@flow_rule("Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose")
@by_class
def conv_transpose(layer: Any, theta: Theta, x: FlowTensor) -> FlowTensor:
    shape = tuple(layer.compute_output_shape(tuple(x.shape)))
    sizes = shape[2:] if layer.data_format == "channels_first" else shape[1:-1]
    x = channels_last(layer, x)
    windows = [
        positions.transposed_windows(*axis, padding=layer.padding)
        for axis in zip(
            x.shape[1:-1], sizes, layer.kernel_size, layer.strides, layer.dilation_rate, strict=True
        )
    ]

    def product(rows: tf.Tensor, windows: Windows) -> tf.Tensor:
        patches = windows.gather(rows)
        kernel = tf.reshape(theta.kernel, [patches.shape[1], layer.filters, patches.shape[2]])
        return tf.einsum("npc,pfc->nf", patches, kernel)

    x = slide(x, product, windows).plus(theta.bias)
    return activation(layer.activation, theta, channels_back(layer, x))


@flow_rule("DepthwiseConv1D", "DepthwiseConv2D")
@by_class
def depthwise_conv(layer: Any, theta: Theta, x: FlowTensor) -> FlowTensor:
    kernel = theta.first("depthwise_kernel", "kernel")
    x = channels_last(layer, x)
    windows = _kernel_windows(layer, x)
    x = slide(x, lambda *patches: _depthwise(*patches, kernel), windows).plus(theta.bias)
    return activation(layer.activation, theta, channels_back(layer, x))


@flow_rule("SeparableConv1D", "SeparableConv2D")
@by_class
def separable_conv(layer: Any, theta: Theta, x: FlowTensor) -> FlowTensor:
    def product(rows: tf.Tensor, windows: Windows) -> tf.Tensor:
        rows = _depthwise(rows, windows, theta.depthwise_kernel)
        return theta.product(rows, attribute="pointwise_kernel")

    x = channels_last(layer, x)
    x = slide(x, product, _kernel_windows(layer, x)).plus(theta.bias)
    return activation(layer.activation, theta, channels_back(layer, x))


# --- helpers --------------------------------------------------------------------------------------


def channels_last(layer: Any, x: FlowTensor) -> FlowTensor:
    """The tensor with all its channels, as the last axis."""
    rank = len(x.shape)
    if getattr(layer, "data_format", None) == "channels_first":
        x = x.transposed([0, *range(2, rank), 1])
    return x.full([0, rank - 1])


def channels_back(layer: Any, x: FlowTensor) -> FlowTensor:
    """The tensor with its channels where the layer has them."""
    rank = len(x.shape)
    if getattr(layer, "data_format", None) != "channels_first":
        return x
    return x.transposed([0, rank - 1, *range(1, rank - 1)])


def slide(
    x: FlowTensor, product: Product, windows: Sequence[np.ndarray], adds: bool = True
) -> FlowTensor:
    """Applies a product under windows along each spatial axis.

    Args:
      x: channels last.
      product: of a feature map and windows over it.
      windows: over the positions of each spatial axis, see `positions.windows`.
      adds: whether the product adds what is under a window with weights, none below zero.
    """
    windows = [np.arange(x.shape[0])[:, np.newaxis], *windows]  # several under TimeDistributed
    nothing = (None,) * len(x.shape)
    planned = plan.groups() if adds else None
    if planned is None and any_of(x.groups):
        raise RuntimeError("received sums over positions; expected a plan for what reads them")
    states = zip(
        windows,
        x.shape,
        x.classes or nothing,
        x.groups or nothing,
        planned or nothing,
        strict=False,  # the last axis are channels
    )
    axes, classes, groups = zip(*(sums.behind(*state) for state in states), strict=True)
    over = windows_over(axes, [len(index[0]) for index in windows], x.held.shape[:-1])

    def op(value: tf.Tensor) -> tf.Tensor:
        output = product(value, over)
        shape = [*over.shape, output.shape[-1]]
        return output if output.shape.as_list() == shape else tf.reshape(output, shape)

    readings = [*(Reading(*axis) for axis in enumerate(windows)), None]
    behind = x.through(op, (*classes, None), (*groups, None), readings if adds else ())
    if adds:
        plan.slid(behind)
    return behind


def _kernel_windows(layer: Any, x: FlowTensor) -> list[np.ndarray]:
    rank = len(x.shape) - 2
    sizes, strides, dilations = (
        _along(own, rank) for own in (layer.kernel_size, layer.strides, layer.dilation_rate)
    )
    return [
        positions.windows(*axis, padding=layer.padding)
        for axis in zip(x.shape[1:-1], sizes, strides, dilations, strict=True)
    ]


def _along(sizes: Sequence[int], rank: int) -> tuple[int, ...]:
    """One number for each spatial axis: a `DepthwiseConv1D` of tf_keras has a second one."""
    return tuple(sizes)[-rank:]


def _values(layer: Any, x: FlowTensor) -> int:
    """How many values the patches of a convolution hold at most."""
    return math.prod(x.held.shape) * math.prod(layer.kernel_size)


def _plain(layer: Any, theta: Theta, value: tf.Tensor) -> tf.Tensor:
    return tf.nn.convolution(
        value, theta.kernel, layer.strides, layer.padding.upper(), dilations=layer.dilation_rate
    )


def _depthwise(rows: tf.Tensor, windows: Windows, kernel: tf.Tensor) -> tf.Tensor:
    patches = windows.gather(rows)
    kernel = tf.reshape(kernel, [*patches.shape[1:], -1])
    return _flat(tf.einsum("npc,pcm->ncm", patches, kernel))


def _flat(patches: tf.Tensor) -> tf.Tensor:
    return tf.reshape(patches, [patches.shape[0], -1])
