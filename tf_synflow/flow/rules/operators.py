"""Operators in a functional graph: `keras.ops` in Keras 3, TensorFlow functions in tf_keras.

An operand is a flow, a variable of the model (then |θ|), or a constant. A constant that is added is
left out, as it must be when scales are carried along: `x + 3` of a hard sigmoid. One that
multiplies counts with its absolute value. An op on constants alone is itself.
"""

import functools
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import tensorflow as tf

from tf_synflow import errors
from tf_synflow.flow import tensor
from tf_synflow.flow.rules.registry import by_class, flow_rule
from tf_synflow.flow.tensor import FlowTensor
from tf_synflow.flow.theta import Theta

# --- of two operands ----------------------------------------------------------------------------


@flow_rule("ops.Add", "ops.Subtract", "ops.Maximum", "ops.Minimum")
@flow_rule("tf.__operators__.add", "tf.math.add", "tf.math.subtract", "tf.math.add_n")
@flow_rule("tf.math.maximum", "tf.math.minimum")
@by_class
def add(layer: Any, theta: Theta, *operands: Any, **keywords: Any) -> FlowTensor:
    """The sum, or of flows alone the maximum; a constant operand adds no flow, only positions.

    The maximum of a flow and zero is a ReLU.
    """
    operands = _operands(operands, keywords)
    flows = [x for x in operands if isinstance(x, FlowTensor)]
    name = _name(layer)
    if name in ("Maximum", "maximum") and len(flows) == 1 and any(map(_is_zero, operands)):
        return flows[0].rectified()
    if name in ("Maximum", "Minimum", "maximum", "minimum") and len(flows) == 2:
        return tensor.combine(lambda values: getattr(tf.math, name.lower())(*values), flows)
    total = flows[0] if len(flows) == 1 else tensor.add(flows)
    for operand in operands:
        if not isinstance(operand, FlowTensor):
            term = theta.value_of(operand)
            total = total.plus(tf.zeros(tf.shape(operand), theta.dtype) if term is None else term)
    return total


@flow_rule("ops.Multiply", "tf.math.multiply")
@by_class
def multiply(layer: Any, theta: Theta, *operands: Any, **keywords: Any) -> FlowTensor:
    """A product of flows, see `tensor.product`, or of a flow and the absolute value of a factor."""
    operands = _operands(operands, keywords)
    flows = [x for x in operands if isinstance(x, FlowTensor)]
    result = flows[0] if len(flows) == 1 else tensor.product(flows)
    for operand in operands:
        if not isinstance(operand, FlowTensor):
            factor = _factor(theta, operand)
            alike = () if len(factor.shape) else result.axes
            result = result.linear(lambda value, factor=factor: value * factor, alike)
    return result


@flow_rule("ops.Divide", "ops.TrueDivide", "ops.DivideNoNan")
@flow_rule("tf.math.truediv", "tf.math.divide_no_nan")
@by_class
def divide(layer: Any, theta: Theta, *operands: Any, **keywords: Any) -> FlowTensor:
    """Divided by the absolute value of a constant; what divides by a flow normalises: left out."""
    numerator, denominator = _operands(operands, keywords)
    if not isinstance(numerator, FlowTensor):
        return denominator
    if isinstance(denominator, FlowTensor):
        return numerator
    divisor = _factor(theta, denominator)
    return numerator.linear(lambda value: value / divisor)


@flow_rule("ops.Square", "tf.math.square")
@by_class
def square(layer: Any, theta: Theta, x: FlowTensor) -> FlowTensor:
    return tensor.product([x, x])


@flow_rule("ops.Absolute", "ops.Negative", "tf.math.abs", "tf.math.negative")
@by_class
def absolute(layer: Any, theta: Theta, x: FlowTensor) -> FlowTensor:
    return x.linear(tf.abs)


@flow_rule("ops.Matmul", "ops.Dot", "ops.Tensordot", "ops.Einsum")
@flow_rule("tf.linalg.matmul", "tf.tensordot", "tf.einsum")
def contraction(layer: Any, theta: Theta, *operands: Any, **keywords: Any) -> FlowTensor:
    """A flow contracted with a weight, or a product of two flows that is summed along axes."""
    equation, tail = None, ()
    if operands and isinstance(operands[0], str):  # tf.einsum; keras.ops keeps it in the op
        equation, *operands = operands
    elif len(operands) > 2:  # tf.tensordot(a, b, axes)
        operands, tail = operands[:2], operands[2:]
    named = [keywords.pop(name) for name in ("a", "b", "x1", "x2", "y") if name in keywords]
    operands = _operands((*operands, *named))
    flows = [x for x in operands if isinstance(x, FlowTensor)]

    def op(values: Any) -> tf.Tensor:
        values = iter(values)
        full = [next(values) if isinstance(x, FlowTensor) else _factor(theta, x) for x in operands]
        head = [] if equation is None else [equation]
        return layer.call(*head, *full, *tail, **keywords)

    if len(flows) == 1:
        return flows[0].linear(lambda value: op([value]))
    return tensor.product(flows, op)


@flow_rule("ops.Equal", "ops.NotEqual", "ops.Greater", "ops.GreaterEqual", "ops.Less")
@flow_rule("ops.LessEqual", "tf.math.equal", "tf.math.not_equal", "tf.math.greater")
@flow_rule("tf.math.greater_equal", "tf.math.less", "tf.math.less_equal")
@flow_rule("tf.__operators__.eq", "tf.__operators__.ne")
def comparison(layer: Any, theta: Theta, *operands: Any, **keywords: Any) -> tf.Tensor:
    """True throughout, a constant: a mask that the data make, of padding say, is left out."""
    shapes = [tf.TensorShape(getattr(x, "shape", ())) for x in _operands(operands, keywords)]
    return tf.ones(functools.reduce(tf.broadcast_static_shape, shapes), tf.bool)


# --- of one tensor --------------------------------------------------------------------------------

_LINEAR_OPS = (
    "Amax Amin AveragePool AdaptiveAveragePool AdaptiveMaxPool BroadcastTo CropImages Cumsum "
    "DepthToSpace Diagonal ExpandDims ExtractPatches Flip Fliplr Flipud GetItem Max MaxPool Mean "
    "Min Moveaxis PadImages Ravel Rearrange Repeat Reshape Resize Roll Rot90 Slice "
    "SpaceToDepth Squeeze Sum Swapaxes Take TakeAlongAxis Tile Trace Transpose Tril Triu Fold "
    "Unfold"
)
_LINEAR_FUNCTIONS = (
    "reshape transpose expand_dims squeeze tile repeat gather broadcast_to slice "
    "strided_slice reverse roll __operators__.getitem math.reduce_sum math.reduce_mean "
    "math.reduce_max math.reduce_min math.cumsum nn.avg_pool nn.avg_pool2d "
    "nn.max_pool2d nn.space_to_depth nn.depth_to_space image.resize image.extract_patches "
    "linalg.band_part linalg.matrix_transpose"
)


@flow_rule(*(f"ops.{name}" for name in _LINEAR_OPS.split()))
@flow_rule(*(f"tf.{name}" for name in _LINEAR_FUNCTIONS.split()))
def itself(layer: Any, theta: Theta, x: FlowTensor, *args: Any, **keywords: Any) -> FlowTensor:
    """Moves, sums or picks values: the op itself."""
    _check_constant(layer, (args, keywords))
    return x.linear(lambda value: tf.cast(layer.call(value, *args, **keywords), value.dtype))


@flow_rule("ops.Pad", "tf.pad")
def pad(layer: Any, theta: Theta, x: FlowTensor, *args: Any, **keywords: Any) -> FlowTensor:
    """The op itself, with zeros for the constant, which adds no flow."""
    if _name(layer) == "Pad":  # keras.ops; how wide and how, the op knows
        return x.linear(layer.call)
    named = dict(zip(("paddings", "mode"), args, strict=False)) | keywords
    return x.linear(lambda value: layer.call(value, **{**named, "constant_values": 0}))


@flow_rule("ops.Split", "ops.Unstack", "ops.Hsplit", "ops.Vsplit", "ops.ArraySplit")
@flow_rule("tf.split", "tf.unstack")
def split(layer: Any, theta: Theta, x: FlowTensor, *args: Any, **keywords: Any) -> list[FlowTensor]:
    """Pieces of one tensor, each with a scale of its own."""
    _check_constant(layer, (args, keywords))
    pieces = layer.call(x.value, *args, **keywords)
    return [FlowTensor(piece, x.log2_scale) for piece in pieces]


@flow_rule("ops.Concatenate", "ops.Stack", "ops.Hstack", "ops.Vstack", "ops.Dstack", "ops.Append")
@flow_rule("tf.concat", "tf.stack")
def join(layer: Any, theta: Theta, xs: Any, *args: Any, **keywords: Any) -> FlowTensor:
    """Several tensors side by side; a variable among them is |θ|, a constant is ones."""
    if isinstance(xs, FlowTensor):  # ops.append(x, y)
        xs, args = [xs, *args], ()

    def flow(x: Any) -> FlowTensor:
        if isinstance(x, FlowTensor):
            return x
        value = theta.value_of(x)
        return FlowTensor.of(tf.ones(tf.shape(x), theta.dtype) if value is None else value)

    if _name(layer) == "Append":
        return tensor.combine(lambda values: layer.call(*values), [flow(x) for x in xs])
    return tensor.combine(
        lambda values: layer.call(list(values), *args, **keywords), [flow(x) for x in xs]
    )


# --- helpers ------------------------------------------------------------------------------------


def _name(layer: Any) -> str:
    return getattr(layer, "symbol", type(layer).__name__).split(".")[-1]


def _operands(operands: Any, keywords: Mapping[str, Any] = MappingProxyType({})) -> list:
    """The operands, given by position, by name or as one list; the name of the op is none."""
    values = [*operands, *keywords.values()]
    if len(values) == 1 and isinstance(values[0], list | tuple):  # tf.math.add_n
        values = list(values[0])
    values = [x for x in values if not isinstance(x, str)]
    # A constant or a weight with axes of its own has other values at other positions.
    constants = [x for x in values if not isinstance(x, FlowTensor)]
    if not any(len(x.shape if hasattr(x, "shape") else np.shape(x)) for x in constants):
        return values
    return [x.full() if isinstance(x, FlowTensor) else x for x in values]


def _is_zero(operand: Any) -> bool:
    return not isinstance(operand, FlowTensor) and np.size(operand) == 1 and not np.any(operand)


def _factor(theta: Theta, constant: Any) -> tf.Tensor:
    value = theta.value_of(constant)
    return tf.abs(tf.cast(constant, theta.dtype)) if value is None else value


def _check_constant(layer: Any, arguments: Any) -> None:
    if any(isinstance(x, FlowTensor) for x in tf.nest.flatten(arguments)):
        raise errors.UnsupportedLayerError(
            f"op {layer.name!r}: received a tensor of the graph as an index, a shape or an axis; "
            "expected a constant there, for the flow has no integers. Put the op into a layer of "
            "your own, and register its rule with @tf_synflow.flow_rule."
        )
