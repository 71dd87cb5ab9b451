"""keras.ops in a Keras 3 graph → TensorFlow functions, for a graph of tf_keras."""

import functools
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from tf_synflow import compat, errors
from tf_synflow.inject import activations


def function_of(op: Any, dtype: str) -> Callable[..., Any]:
    """The TensorFlow function that computes a Keras 3 op, called as the op is.

    Args:
      op: an operation of a Keras 3 graph that is no layer.
      dtype: of its (first) output; Keras 3 promotes types where TensorFlow does not.

    Raises:
      UnsupportedLayerError: there is none.
    """
    if type(op).__name__ not in _FUNCTIONS or compat.keras_of(op) is None:
        raise errors.UnsupportedLayerError(
            f"op {op.name!r}: received keras.ops' {type(op).__name__}, which is not in the table "
            "of ops that TensorFlow computes alike; expected one of those, or a layer. Use "
            "wrapper='keras', which keeps the model in its own Keras."
        )
    return functools.partial(_FUNCTIONS[type(op).__name__], op, dtype)


def _cast(x: Any, dtype: str) -> Any:
    if isinstance(x, (bool, int, float)):
        return float(x) if tf.as_dtype(dtype).is_floating else x
    return x if getattr(x, "dtype", None) == tf.as_dtype(dtype) else tf.cast(x, dtype)


def _unary(function: Callable[[Any], Any]) -> Callable[..., Any]:
    return lambda op, dtype, x: function(_cast(x, dtype))


def _binary(function: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    return lambda op, dtype, x, y: function(_cast(x, dtype), _cast(y, dtype))


def _compare(function: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    def compare(op: Any, dtype: str, x: Any, y: Any) -> Any:
        common = _common_dtype(x, y)
        return function(_cast(x, common), _cast(y, common))

    return compare


def _reduce(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda op, dtype, x: function(_cast(x, dtype), axis=op.axis, keepdims=op.keepdims)


def _common_dtype(*values: Any) -> str:
    kinds = [
        type(v) if isinstance(v, (bool, int, float)) else tf.as_dtype(v.dtype).name for v in values
    ]
    return compat.keras().backend.result_type(*kinds)


def _axes(op: Any, x: Any, moves: dict[int, int]) -> Any:
    """A tensor with axes moved, from → to, the others in order in the places that are left."""
    rank = len(x.shape)
    places = {to % rank: source % rank for source, to in moves.items()}
    rest = (axis for axis in range(rank) if axis not in places.values())
    return tf.transpose(x, [places[i] if i in places else next(rest) for i in range(rank)])


def _swap(op: Any, dtype: str, x: Any) -> Any:
    return _axes(op, x, {op.axis1: op.axis2, op.axis2: op.axis1})


def _move(op: Any, dtype: str, x: Any) -> Any:
    return _axes(op, x, dict(zip(_tuple(op.source), _tuple(op.destination), strict=True)))


def _matmul(op: Any, dtype: str, x: Any, y: Any) -> Any:
    x, y = _cast(x, dtype), _cast(y, dtype)
    return tf.matmul(x, y) if min(len(x.shape), len(y.shape)) > 1 else tf.tensordot(x, y, 1)


def _split(op: Any, dtype: str, x: Any) -> Any:
    if isinstance(op.indices_or_sections, int):
        return tf.split(x, op.indices_or_sections, op.axis)
    bounds = [0, *op.indices_or_sections, x.shape[op.axis]]
    return tf.split(x, [b - a for a, b in zip(bounds, bounds[1:], strict=False)], op.axis)


def _pad(op: Any, dtype: str, x: Any, constant_values: Any = None) -> Any:
    width = op.pad_width
    width = [width] * len(x.shape) if len(width) == 1 or isinstance(width[0], int) else width
    return tf.pad(x, width, op.mode, constant_values or 0)


def _arg(function: Callable[..., Any]) -> Callable[..., Any]:
    def arg(op: Any, dtype: str, x: Any) -> Any:
        index = function(x if op.axis is not None else tf.reshape(x, [-1]), op.axis or 0)
        return tf.cast(tf.expand_dims(index, op.axis) if op.keepdims else index, dtype)

    return arg


def _take(op: Any, dtype: str, x: Any, indices: Any) -> Any:
    return tf.gather(*((tf.reshape(x, [-1]), indices) if op.axis is None else (x, indices)),
                     axis=op.axis or 0)  # fmt: skip


def _pool(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda op, dtype, x: function(
        x, op.pool_size, op.strides or op.pool_size, op.padding.upper()
    )


def _attention(
    op: Any, dtype: str, query: Any, key: Any, value: Any,
    bias: Any = None, mask: Any = None, scale: Any = None,
) -> Any:  # fmt: skip
    """softmax(q·kᵀ / √d + bias)·v on (batch, place, head, feature)."""
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    logits = tf.einsum("btnh,bsnh->bnts", query, key) * scale
    logits = logits if bias is None else logits + bias
    allowed = [] if mask is None else [mask]
    if op.is_causal:
        allowed.append(tf.linalg.band_part(tf.ones_like(logits[:1, :1]), -1, 0) > 0)
    for where in allowed:
        logits = tf.where(where, logits, logits.dtype.min)
    return tf.einsum("bnts,bsnh->btnh", tf.nn.softmax(logits), value)


def _axis_or_axes(axis: Any) -> Any:
    return axis[0] if isinstance(axis, (list, tuple)) and len(axis) == 1 else axis


def _tuple(value: Any) -> tuple:
    return (value,) if isinstance(value, int) else tuple(value)


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    # Element by element.
    "Absolute": _unary(tf.abs),
    "Arctan": _unary(tf.atan),
    "Ceil": _unary(tf.math.ceil),
    "Clip": lambda op, dtype, x: tf.clip_by_value(
        _cast(x, dtype), _cast(op.x_min, dtype), _cast(op.x_max, dtype)
    ),
    "Cos": _unary(tf.cos),
    "Erf": _unary(tf.math.erf),
    "Exp": _unary(tf.exp),
    "Expm1": _unary(tf.math.expm1),
    "Floor": _unary(tf.floor),
    "Log": _unary(tf.math.log),
    "Log1p": _unary(tf.math.log1p),
    "Negative": _unary(tf.negative),
    "Reciprocal": _unary(tf.math.reciprocal),
    "Rsqrt": _unary(tf.math.rsqrt),
    "Sign": _unary(tf.sign),
    "Sin": _unary(tf.sin),
    "Sqrt": _unary(tf.sqrt),
    "Square": _unary(tf.square),
    "Tanh": _unary(tf.tanh),
    # Activations.
    "Celu": lambda op, dtype, x: activations.celu(_cast(x, dtype), op.alpha),
    "Elu": lambda op, dtype, x: tf.nn.relu(x) + op.alpha * tf.math.expm1(-tf.nn.relu(-x)),
    "Gelu": lambda op, dtype, x: tf.nn.gelu(x, op.approximate),
    "Glu": lambda op, dtype, x: activations.glu(x, op.axis),
    "HardSigmoid": _unary(activations.hard_sigmoid),
    "HardSilu": _unary(activations.hard_silu),
    "HardTanh": _unary(activations.hard_tanh),
    "LeakyRelu": lambda op, dtype, x: tf.nn.leaky_relu(x, op.negative_slope),
    "LogSigmoid": _unary(tf.math.log_sigmoid),
    "LogSoftmax": lambda op, dtype, x: tf.nn.log_softmax(x, op.axis),
    "Relu": _unary(tf.nn.relu),
    "Relu6": _unary(tf.nn.relu6),
    "Selu": _unary(tf.nn.selu),
    "Sigmoid": _unary(tf.sigmoid),
    "Silu": lambda op, dtype, x: x * tf.sigmoid(x),
    "Softmax": lambda op, dtype, x: tf.nn.softmax(x, op.axis),
    "Softplus": _unary(tf.nn.softplus),
    "Softsign": _unary(tf.nn.softsign),
    "TanhShrink": _unary(activations.tanh_shrink),
    # Two tensors, or a tensor and a number.
    "Add": _binary(tf.add),
    "Divide": _binary(tf.divide),
    "DivideNoNan": _binary(tf.math.divide_no_nan),
    "FloorDivide": _binary(tf.math.floordiv),
    "Maximum": _binary(tf.maximum),
    "Minimum": _binary(tf.minimum),
    "Mod": _binary(tf.math.floormod),
    "Multiply": _binary(tf.multiply),
    "Power": _binary(tf.pow),
    "Subtract": _binary(tf.subtract),
    "TrueDivide": _binary(tf.divide),
    "Equal": _compare(tf.equal),
    "Greater": _compare(tf.greater),
    "GreaterEqual": _compare(tf.greater_equal),
    "Less": _compare(tf.less),
    "LessEqual": _compare(tf.less_equal),
    "NotEqual": _compare(tf.not_equal),
    "Isfinite": lambda op, dtype, x: tf.math.is_finite(x),
    "Isnan": lambda op, dtype, x: tf.math.is_nan(x),
    "LogicalAnd": lambda op, dtype, x, y: tf.logical_and(_cast(x, "bool"), _cast(y, "bool")),
    "LogicalNot": lambda op, dtype, x: tf.logical_not(_cast(x, "bool")),
    "LogicalOr": lambda op, dtype, x, y: tf.logical_or(_cast(x, "bool"), _cast(y, "bool")),
    "Where": lambda op, dtype, condition, x1, x2: tf.where(
        _cast(condition, "bool"), _cast(x1, dtype), _cast(x2, dtype)
    ),
    # Products.
    "DotProductAttention": _attention,
    "Dot": _matmul,
    "Einsum": lambda op, dtype, *xs: tf.einsum(op.subscripts, *(_cast(x, dtype) for x in xs)),
    "Matmul": _matmul,
    "Tensordot": lambda op, dtype, x, y: tf.tensordot(_cast(x, dtype), _cast(y, dtype), op.axes),
    # Reductions.
    "All": _reduce(tf.reduce_all),
    "Amax": _reduce(tf.reduce_max),
    "Amin": _reduce(tf.reduce_min),
    "Any": _reduce(tf.reduce_any),
    "Argmax": _arg(tf.argmax),
    "Argmin": _arg(tf.argmin),
    "Logsumexp": _reduce(tf.reduce_logsumexp),
    "Max": _reduce(tf.reduce_max),
    "Mean": _reduce(tf.reduce_mean),
    "Min": _reduce(tf.reduce_min),
    "Norm": lambda op, dtype, x: tf.norm(
        x, op.ord or "euclidean", _axis_or_axes(op.axis), op.keepdims
    ),
    "Prod": _reduce(tf.reduce_prod),
    "Std": _reduce(tf.math.reduce_std),
    "Sum": _reduce(tf.reduce_sum),
    "Var": _reduce(tf.math.reduce_variance),
    "Argsort": lambda op, dtype, x: tf.cast(tf.argsort(x, op.axis), dtype),
    "Cumsum": lambda op, dtype, x: tf.cumsum(_cast(x, dtype), op.axis),
    "Normalize": lambda op, dtype, x: tf.math.l2_normalize(x, op.axis, (op.epsilon or 1e-7) ** 2),
    "Sort": lambda op, dtype, x: tf.sort(x, op.axis),
    "TopK": lambda op, dtype, x: tuple(tf.math.top_k(x, op.k, op.sorted)),
    "AveragePool": _pool(tf.nn.avg_pool),
    "MaxPool": _pool(tf.nn.max_pool),
    # Shapes, places and types.
    "BroadcastTo": lambda op, dtype, x: tf.broadcast_to(x, op.shape),
    "Cast": lambda op, dtype, x: tf.cast(x, op.dtype),
    "Concatenate": lambda op, dtype, xs: tf.concat([_cast(x, dtype) for x in xs], op.axis),
    "ConvertToTensor": lambda op, dtype, x: tf.identity(_cast(x, dtype)),
    "Copy": _unary(tf.identity),
    "ExpandDims": lambda op, dtype, x: functools.reduce(tf.expand_dims, _tuple(op.axis), x),
    "Flip": lambda op, dtype, x: tf.reverse(
        x, range(len(x.shape)) if op.axis is None else _tuple(op.axis)
    ),
    "GetItem": lambda op, dtype, x, key: x[key],
    "Moveaxis": _move,
    "OneHot": lambda op, dtype, x: tf.one_hot(
        tf.cast(x, "int32"), op.num_classes, axis=op.axis, dtype=dtype
    ),
    "OnesLike": lambda op, dtype, x: tf.ones_like(x, dtype),
    "Pad": _pad,
    "Ravel": lambda op, dtype, x: tf.reshape(x, [-1]),
    "Repeat": lambda op, dtype, x: tf.repeat(x, op.repeats, op.axis),
    "Reshape": lambda op, dtype, x: tf.reshape(x, [-1 if n is None else n for n in op.newshape]),
    "Resize": lambda op, dtype, x: tf.cast(
        tf.image.resize(x, op.size, op.interpolation, antialias=op.antialias), dtype
    ),
    "Roll": lambda op, dtype, x: tf.roll(x, op.shift, op.axis),
    "Split": _split,
    "Squeeze": lambda op, dtype, x: tf.squeeze(x, None if op.axis is None else _tuple(op.axis)),
    "Stack": lambda op, dtype, xs: tf.stack([_cast(x, dtype) for x in xs], op.axis),
    "StopGradient": lambda op, dtype, x: tf.stop_gradient(x),
    "Swapaxes": _swap,
    "Take": _take,
    "Tile": lambda op, dtype, x: tf.tile(x, _tuple(op.repeats)),
    "Transpose": lambda op, dtype, x: tf.transpose(x, op.axes),
    "Unstack": lambda op, dtype, x: tf.unstack(x, op.num, op.axis),
    "ZerosLike": lambda op, dtype, x: tf.zeros_like(x, dtype),
}
