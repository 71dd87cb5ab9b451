"""Convolutions: plain, grouped, dilated, transposed, depthwise, separable."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from tf_synflow.flow.rules.activation import activation
from tf_synflow.flow.rules.registry import flow_rule
from tf_synflow.flow.tensor import FlowTensor
from tf_synflow.flow.theta import Theta


@flow_rule("Conv1D", "Conv2D", "Conv3D")
def conv(layer: Any, theta: Theta, x: FlowTensor) -> FlowTensor:
    causal = layer.padding == "causal"
    padding = "VALID" if causal else layer.padding.upper()
    # One op instead of a convolution for each of ConvNeXt's 768 channels.
    depthwise = (
        1 < layer.groups == layer.filters
        and theta.kernel.shape[-2] == 1
        and len(layer.kernel_size) < 3
        and len(set(layer.strides)) == 1
    )

    def op(value: tf.Tensor) -> tf.Tensor:
        if causal:
            left = layer.dilation_rate[0] * (layer.kernel_size[0] - 1)
            value = tf.pad(value, [[0, 0], [left, 0], [0, 0]])
        if depthwise:
            return _depthwise(layer, value, tf.einsum("...ic->...ci", theta.kernel), padding)
        # TensorFlow has no gradient of a grouped convolution on the CPU.
        kernels = tf.split(theta.kernel, layer.groups, axis=-1)
        outputs = [
            tf.nn.convolution(
                part,
                kernel,
                strides=layer.strides,
                padding=padding,
                dilations=layer.dilation_rate,
            )
            for part, kernel in zip(tf.split(value, layer.groups, axis=-1), kernels, strict=True)
        ]
        return outputs[0] if layer.groups == 1 else tf.concat(outputs, axis=-1)

    return activation(layer.activation, theta, channels_last(layer, x, op, theta.bias))


@flow_rule("Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose")
def conv_transpose(layer: Any, theta: Theta, x: FlowTensor) -> FlowTensor:
    shape = tuple(layer.compute_output_shape(tuple(x.shape)))
    if layer.data_format == "channels_first":
        shape = (shape[0], *shape[2:], shape[1])

    def op(value: tf.Tensor) -> tf.Tensor:
        return tf.nn.conv_transpose(
            value,
            theta.kernel,
            output_shape=shape,
            strides=layer.strides,
            padding=layer.padding.upper(),
            dilations=layer.dilation_rate,
        )

    return activation(layer.activation, theta, channels_last(layer, x, op, theta.bias))


@flow_rule("DepthwiseConv1D", "DepthwiseConv2D")
def depthwise_conv(layer: Any, theta: Theta, x: FlowTensor) -> FlowTensor:
    kernel = theta.first("depthwise_kernel", "kernel")
    x = channels_last(layer, x, lambda value: _depthwise(layer, value, kernel), theta.bias)
    return activation(layer.activation, theta, x)


@flow_rule("SeparableConv1D", "SeparableConv2D")
def separable_conv(layer: Any, theta: Theta, x: FlowTensor) -> FlowTensor:
    def op(value: tf.Tensor) -> tf.Tensor:
        value = _depthwise(layer, value, theta.depthwise_kernel)
        return tf.nn.convolution(value, theta.pointwise_kernel)

    return activation(layer.activation, theta, channels_last(layer, x, op, theta.bias))


def _depthwise(
    layer: Any, value: tf.Tensor, kernel: tf.Tensor, padding: str | None = None
) -> tf.Tensor:
    strides, dilations = tuple(layer.strides), tuple(layer.dilation_rate)
    one_dimensional = len(value.shape) == 3
    if one_dimensional:
        value, kernel = value[:, tf.newaxis], kernel[tf.newaxis]
        strides, dilations = strides * 2 if len(strides) == 1 else strides, (1, *dilations[-1:])
    padding = padding or layer.padding.upper()
    value = tf.nn.depthwise_conv2d(value, kernel, (1, *strides, 1), padding, dilations=dilations)
    return value[:, 0] if one_dimensional else value


def channels_last(
    layer: Any, x: FlowTensor, op: Callable[[tf.Tensor], tf.Tensor], bias: tf.Tensor | None
) -> FlowTensor:
    """A convolution plus bias; channels-first goes through channels-last, the CPU's only layout."""
    if layer.data_format != "channels_first":
        return x.linear(op).plus(bias)
    rank = len(x.shape)
    x = x.moved(lambda value: tf.transpose(value, [0, *range(2, rank), 1]))
    x = x.linear(op).plus(bias)
    return x.moved(lambda value: tf.transpose(value, [0, rank - 1, *range(1, rank - 1)]))
