"""Flow rules: one function per op, what it does to the flow of the network of |θ|.

On ReLU, max-pooling and batch-norm networks a rule is the layer itself, with |θ| for θ, in
inference mode (Tanaka et al. 2020, section 6 and their code). Elsewhere it is the nearest op that
is positively homogeneous of degree one, so that flow is conserved (Euler's theorem): activations
that bend become the identity, a final softmax among them, under which every score would be zero.

A rule has the signature `rule(layer, theta, *inputs, **keywords) -> FlowTensor`. `theta.kernel` is
|layer.kernel|, masked, as a tensor of the scoring dtype, and None where the layer has none.
"""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from tf_synflow import compat, errors
from tf_synflow.flow import tensor
from tf_synflow.flow.tensor import FlowTensor

Rule = Callable[..., Any]

# By class name for the layers of both Kerases, `ops.Name` for keras.ops in a functional graph,
# `tf.name` for TensorFlow ops in a tf_keras one; by class for layers of the user's own.
_RULES: dict[Any, Rule] = {}


def flow_rule(*keys: Any) -> Callable[[Rule], Rule]:
    """Registers the flow rule of one or more layer classes.

    Args:
      *keys: layer classes (or names of Keras' own).

    Example:
      >>> @flow_rule(MyScale)
      ... def my_scale(layer, theta, x):
      ...     return x.linear(lambda value: value * theta.scale)
    """

    def register(rule: Rule) -> Rule:
        for key in keys:
            _RULES[key] = rule
        return rule

    return register


def rule_of(layer: Any) -> Rule:
    """The flow rule of a layer or op.

    A subclass takes its base's rule unless it brings a `call` of its own, which the base's rule
    cannot know.

    Raises:
      UnsupportedLayerError: there is none; says how to register one.
    """
    for key in _keys_of(layer):
        if key in _RULES:
            return _RULES[key]
    key = _keys_of(layer)[0]
    raise errors.UnsupportedLayerError(
        f"layer {layer.name!r}: received {key!r}, which has no flow rule; expected a layer or op "
        "whose effect on the flow is known. Register one:\n"
        f"    @tf_synflow.flow_rule({key.__name__ if isinstance(key, type) else repr(key)})\n"
        "    def rule(layer, theta, x):\n"
        "        return x.linear(lambda value: ...)  # the layer with |theta| for its weights"
    )


def _keys_of(layer: Any) -> list[Any]:
    if hasattr(layer, "symbol"):  # tf_keras' TFOpLambda: a TensorFlow function in the graph
        return [f"tf.{layer.symbol}"]
    if type(layer).__module__.startswith("keras.src.ops"):
        return [f"ops.{type(layer).__name__}"]
    keys: list[Any] = []
    for base in type(layer).__mro__:
        keys.append(base)
        if base.__module__.split(".")[0] in ("keras", "tf_keras"):
            keys.append(base.__name__)
        if "call" in vars(base):
            break
    return keys


# --- layers with weights ------------------------------------------------------------------------


@flow_rule("Dense")
def dense(layer: Any, theta: Any, x: FlowTensor) -> FlowTensor:
    x = x.linear(lambda value: tf.tensordot(value, theta.kernel, 1)).plus(theta.bias)
    return activation(layer.activation, theta, x)


@flow_rule("EinsumDense")
def einsum_dense(layer: Any, theta: Any, x: FlowTensor) -> FlowTensor:
    x = x.linear(lambda value: tf.einsum(layer.equation, value, theta.kernel)).plus(theta.bias)
    return activation(layer.activation, theta, x)


@flow_rule("Conv1D", "Conv2D", "Conv3D")
def conv(layer: Any, theta: Any, x: FlowTensor) -> FlowTensor:
    causal = layer.padding == "causal"

    def op(value: tf.Tensor) -> tf.Tensor:
        if causal:
            left = layer.dilation_rate[0] * (layer.kernel_size[0] - 1)
            value = tf.pad(value, [[0, 0], [left, 0], [0, 0]])
        # TensorFlow has no gradient of a grouped convolution on the CPU.
        kernels = tf.split(theta.kernel, layer.groups, axis=-1)
        outputs = [
            tf.nn.convolution(
                part,
                kernel,
                strides=layer.strides,
                padding="VALID" if causal else layer.padding.upper(),
                dilations=layer.dilation_rate,
            )
            for part, kernel in zip(tf.split(value, layer.groups, axis=-1), kernels, strict=True)
        ]
        return outputs[0] if layer.groups == 1 else tf.concat(outputs, axis=-1)

    return activation(layer.activation, theta, _channels_last(layer, x, op, theta.bias))


@flow_rule("Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose")
def conv_transpose(layer: Any, theta: Any, x: FlowTensor) -> FlowTensor:
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

    return activation(layer.activation, theta, _channels_last(layer, x, op, theta.bias))


@flow_rule("DepthwiseConv1D", "DepthwiseConv2D")
def depthwise_conv(layer: Any, theta: Any, x: FlowTensor) -> FlowTensor:
    kernel = _either(theta, "depthwise_kernel", "kernel")
    x = _channels_last(layer, x, lambda value: _depthwise(layer, value, kernel), theta.bias)
    return activation(layer.activation, theta, x)


@flow_rule("SeparableConv1D", "SeparableConv2D")
def separable_conv(layer: Any, theta: Any, x: FlowTensor) -> FlowTensor:
    def op(value: tf.Tensor) -> tf.Tensor:
        value = _depthwise(layer, value, theta.depthwise_kernel)
        return tf.nn.convolution(value, theta.pointwise_kernel)

    return activation(layer.activation, theta, _channels_last(layer, x, op, theta.bias))


@flow_rule("Embedding")
def embedding(layer: Any, theta: Any, x: FlowTensor) -> FlowTensor:
    """Each token as the mean over all rows: an all-ones input would only ever see row one."""
    row = tf.reduce_mean(theta.embeddings, axis=0)
    return x.linear(lambda value: value[..., tf.newaxis] * row)


@flow_rule("BatchNormalization")
def batch_normalization(layer: Any, theta: Any, x: FlowTensor) -> FlowTensor:
    """|γ|·(x − |μ|)/√(|σ²| + ε) + |β|: the reference takes the moving mean's absolute value too."""
    factor = tf.math.rsqrt(theta.moving_variance + layer.epsilon)
    factor = factor if theta.gamma is None else factor * theta.gamma
    shift = -theta.moving_mean * factor
    shift = shift if theta.beta is None else shift + theta.beta
    factor, shift = (_along_axis(v, layer.axis, x) for v in (factor, shift))
    return x.linear(lambda value: value * factor).plus(shift)


@flow_rule("LayerNormalization", "GroupNormalization", "RMSNormalization")
def normalization(layer: Any, theta: Any, x: FlowTensor) -> FlowTensor:
    """|γ|·x + |β|: dividing by the input's own deviation would make the flow constant."""
    gamma, beta = _either(theta, "gamma", "scale"), theta.beta
    if gamma is not None:
        factor = _along_axis(gamma, layer.axis, x)
        x = x.linear(lambda value: value * factor)
    return x if beta is None else x.plus(_along_axis(beta, layer.axis, x))


@flow_rule("PReLU")
def prelu(layer: Any, theta: Any, x: FlowTensor) -> FlowTensor:
    return x.linear(lambda value: tf.nn.relu(value) - theta.alpha * tf.nn.relu(-value))


# --- layers without weights ---------------------------------------------------------------------


@flow_rule(
    *(f"{kind}Pooling{n}D" for kind in ("Max", "Average") for n in (1, 2)),
    *(f"{kind}Pooling{n}D" for kind in ("GlobalMax", "GlobalAverage") for n in (1, 2, 3)),
    *(f"{kind}{n}D" for kind in ("ZeroPadding", "Cropping", "UpSampling") for n in (1, 2, 3)),
    "Flatten", "Reshape", "Permute", "RepeatVector", "CenterCrop", "Resizing",
)  # fmt: skip
def itself(layer: Any, theta: Any, x: FlowTensor) -> FlowTensor:
    """A layer without weights that is linear, or a maximum: its own `call`, without autocast."""
    # Some resize in float32 whatever they are given.
    return x.linear(lambda value: tf.cast(layer.call(value), value.dtype))


def pooling_3d(pool: Callable[..., tf.Tensor]) -> Rule:
    """A pooling over height and width, then one over depth: the CPU has no float64 one over all."""

    def rule(layer: Any, theta: Any, x: FlowTensor) -> FlowTensor:
        padding = layer.padding.upper()
        (depth, *area), (depth_stride, *area_strides) = layer.pool_size, layer.strides

        def op(value: tf.Tensor) -> tf.Tensor:
            value = pool(value[0], area, area_strides, padding)
            _, height, width, channels = value.shape
            value = tf.reshape(value, [1, -1, height * width, channels])
            value = pool(value, (depth, 1), (depth_stride, 1), padding)
            return tf.reshape(value, [1, -1, height, width, channels])

        return _channels_last(layer, x, op, None)

    return rule


flow_rule("MaxPooling3D")(pooling_3d(tf.nn.max_pool2d))
flow_rule("AveragePooling3D")(pooling_3d(tf.nn.avg_pool2d))


@flow_rule(
    "Dropout", "SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D", "AlphaDropout",
    "GaussianDropout", "GaussianNoise", "ActivityRegularization", "Masking", "InputLayer",
    "Identity", "Rescaling", "Normalization", "UnitNormalization", "Softmax", "ELU",
    "ThresholdedReLU", "RandomFlip", "RandomCrop", "RandomRotation", "RandomZoom",
    "RandomTranslation", "RandomContrast", "RandomBrightness", "tf.identity", "ops.Identity",
    "tf.nn.softmax", "ops.Softmax", "tf.math.sigmoid", "ops.Sigmoid",
)  # fmt: skip
def identity(layer: Any, theta: Any, x: FlowTensor, **keywords: Any) -> FlowTensor:
    """Nothing at inference, or an activation that is not homogeneous of degree one."""
    return x


@flow_rule("Activation")
def activation_layer(layer: Any, theta: Any, x: FlowTensor) -> FlowTensor:
    return activation(layer.activation, theta, x)


@flow_rule("ReLU", "LeakyReLU", "tf.nn.relu", "ops.Relu")
def relu(layer: Any, theta: Any, x: FlowTensor, **keywords: Any) -> FlowTensor:
    """max(x, 0), or with the absolute slope below zero; a cap is left out (ReLU6 → ReLU)."""
    slope = getattr(layer, "negative_slope", getattr(layer, "alpha", None))
    if slope is None or not float(slope):
        return x.linear(tf.nn.relu)
    return x.linear(lambda value: tf.nn.leaky_relu(value, abs(float(slope))))


@flow_rule("Add", "tf.__operators__.add", "tf.math.add", "ops.Add")
def add(layer: Any, theta: Any, *xs: Any, **keywords: Any) -> FlowTensor:
    return tensor.add(_flows(layer, xs, keywords))


@flow_rule("Average")
def average(layer: Any, theta: Any, xs: list[FlowTensor]) -> FlowTensor:
    return tensor.add(xs).linear(lambda value: value / len(xs))


@flow_rule("Concatenate", "Maximum", "Minimum")
def merge(layer: Any, theta: Any, xs: list[FlowTensor]) -> FlowTensor:
    return tensor.combine(layer.call, xs)


# --- activations, as layers and as arguments of layers --------------------------------------------

_LITERAL = {"relu": tf.nn.relu, "relu6": tf.nn.relu}
_IDENTITY = frozenset(
    "celu elu exponential gelu glu hard_shrink hard_sigmoid hard_silu hard_swish hard_tanh linear "
    "log_sigmoid log_softmax mish selu sigmoid silu soft_shrink softmax softplus softsign "
    "sparse_plus squareplus swish tanh tanh_shrink threshold".split()
)


def activation(function: Any, theta: Any, x: FlowTensor) -> FlowTensor:
    """The rule of a layer's `activation`: ReLU is itself, what bends becomes the identity."""
    if function is None:
        return x
    if compat.keras_of(function) is not None:  # an activation layer given as an argument
        return rule_of(function)(function, theta, x)
    name = getattr(function, "__name__", type(function).__name__)
    if name in _LITERAL:
        return x.linear(_LITERAL[name])
    if name == "leaky_relu":
        return x.linear(lambda value: tf.nn.leaky_relu(value, 0.2))
    if name in _IDENTITY:
        return x
    raise errors.UnsupportedLayerError(
        f"activation: received {name!r}, which has no flow rule; expected one of Keras' own. Use a "
        "layer of your own for it, and register that with @tf_synflow.flow_rule."
    )


# --- helpers ------------------------------------------------------------------------------------


def _flows(layer: Any, xs: Any, keywords: dict) -> list[FlowTensor]:
    flat = tf.nest.flatten((xs, keywords.get("y")))
    values = [x for x in flat if x is not None]
    if not all(isinstance(x, FlowTensor) for x in values):
        raise errors.UnsupportedLayerError(
            f"op {layer.name!r}: received a constant beside a tensor of the graph; expected "
            "tensors of the graph only. Put the constant into a layer of your own, and register "
            "its rule with @tf_synflow.flow_rule."
        )
    return values


def _either(theta: Any, *names: str) -> tf.Tensor | None:
    values = [getattr(theta, name) for name in names]
    return next((value for value in values if value is not None), None)


def _along_axis(value: tf.Tensor, axis: Any, x: FlowTensor) -> tf.Tensor:
    """A normalization's parameter, shaped so that it broadcasts along the axes it belongs to."""
    rank = len(x.shape)
    axes = [a % rank for a in (axis if isinstance(axis, (list, tuple)) else [axis])]
    return tf.reshape(value, [x.shape[i] if i in axes else 1 for i in range(rank)])


def _depthwise(layer: Any, value: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    strides, dilations = tuple(layer.strides), tuple(layer.dilation_rate)
    one_dimensional = len(value.shape) == 3
    if one_dimensional:
        value, kernel = value[:, tf.newaxis], kernel[tf.newaxis]
        strides, dilations = strides * 2 if len(strides) == 1 else strides, (1, *dilations[-1:])
    value = tf.nn.depthwise_conv2d(
        value, kernel, (1, *strides, 1), layer.padding.upper(), dilations=dilations
    )
    return value[:, 0] if one_dimensional else value


def _channels_last(
    layer: Any, x: FlowTensor, op: Callable[[tf.Tensor], tf.Tensor], bias: tf.Tensor | None
) -> FlowTensor:
    """A convolution plus bias; channels-first goes through channels-last, the CPU's only layout."""
    if layer.data_format != "channels_first":
        return x.linear(op).plus(bias)
    rank = len(x.shape)
    x = x.linear(lambda value: tf.transpose(value, [0, *range(2, rank), 1]))
    x = x.linear(op).plus(bias)
    return x.linear(lambda value: tf.transpose(value, [0, rank - 1, *range(1, rank - 1)]))
