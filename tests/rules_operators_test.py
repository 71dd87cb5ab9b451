"""Every registered `keras.ops` and TensorFlow function, in a functional graph, conserves flow."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from flow_sums import NO_BIAS, flow_and_sums, without_additive_terms

import tf_synflow
from tf_synflow.flow.rules import registry

ops = keras.ops

# x and y are (4, 4, 4): feature maps of two branches. What takes a weight takes a constant here.
ONES = np.ones((4, 4), "float32")


KERAS_OPS = {
    **{
        key: lambda x, y, name=name: getattr(ops, name)(x)
        for key, name in {
            "Relu": "relu", "Relu6": "relu6", "LeakyRelu": "leaky_relu", "Celu": "celu",
            "Elu": "elu", "Gelu": "gelu", "HardShrink": "hard_shrink",
            "HardSigmoid": "hard_sigmoid", "HardSilu": "hard_silu", "HardTanh": "hard_tanh",
            "LogSigmoid": "log_sigmoid", "LogSoftmax": "log_softmax", "Selu": "selu",
            "Sigmoid": "sigmoid", "Silu": "silu", "SoftShrink": "soft_shrink",
            "Softmax": "softmax", "Softplus": "softplus", "Softsign": "softsign",
            "SparsePlus": "sparse_plus", "SparseSigmoid": "sparse_sigmoid",
            "Sparsemax": "sparsemax", "Squareplus": "squareplus", "Tanh": "tanh",
            "TanhShrink": "tanh_shrink", "Erf": "erf", "Exp": "exp", "Exp2": "exp2",
            "Expm1": "expm1", "Log": "log", "Log10": "log10", "Log1p": "log1p", "Log2": "log2",
            "Reciprocal": "reciprocal", "Rsqrt": "rsqrt", "Sin": "sin", "Cos": "cos",
            "Sqrt": "sqrt", "Square": "square", "Absolute": "absolute", "Negative": "negative",
            "Copy": "copy", "StopGradient": "stop_gradient", "Normalize": "normalize",
            "Fliplr": "fliplr", "Flipud": "flipud", "Ravel": "ravel", "Squeeze": "squeeze",
        }.items()
    },
    "Glu": lambda x, y: ops.glu(x),
    "Threshold": lambda x, y: ops.threshold(x, 0.1, 0.0),
    "Clip": lambda x, y: ops.clip(x, 0.0, 6.0),
    "Power": lambda x, y: x**2,
    "Add": lambda x, y: (1.0 + x) + (y + 2.0),
    "Subtract": lambda x, y: (1.0 - x) - (y - 2.0),
    "Multiply": lambda x, y: (2.0 * x) * (y * 0.5),
    "Divide": lambda x, y: ops.divide(1.0, ops.divide(x, y)),
    "TrueDivide": lambda x, y: (x / 2.0) / y,
    "DivideNoNan": lambda x, y: ops.divide_no_nan(x, 3.0),
    "Maximum": lambda x, y: ops.maximum(ops.maximum(x, 0.0), y),
    "Minimum": lambda x, y: ops.minimum(ops.minimum(6.0, x), y),
    "Matmul": lambda x, y: ops.matmul(x, y) @ ONES,
    "Dot": lambda x, y: ops.dot(x, ONES),
    "Tensordot": lambda x, y: ops.tensordot(x, ONES, 1),
    "Einsum": lambda x, y: ops.einsum("bijc,bkjc->bijk", x, y),
    "Amax": lambda x, y: ops.amax(x, 1),
    "Amin": lambda x, y: ops.amin(x, 1),
    "Max": lambda x, y: ops.max(x, -1),
    "Min": lambda x, y: ops.min(x, axis=1, keepdims=True),
    "Mean": lambda x, y: ops.mean(x, [1, 2], keepdims=True),
    "Sum": lambda x, y: ops.sum(x, axis=[1, 2]),
    "Cumsum": lambda x, y: ops.cumsum(x, axis=1),
    "AveragePool": lambda x, y: ops.average_pool(x, 2, 2, "same"),
    "MaxPool": lambda x, y: ops.max_pool(x, 2, 1),
    "AdaptiveAveragePool": lambda x, y: ops.adaptive_average_pool(x, (2, 2)),
    "AdaptiveMaxPool": lambda x, y: ops.adaptive_max_pool(x, (2, 2)),
    "BroadcastTo": lambda x, y: ops.broadcast_to(x, (2, 4, 4, 4)),
    "CropImages": lambda x, y: ops.image.crop_images(
        x, top_cropping=1, left_cropping=1, target_height=2, target_width=2
    ),
    "PadImages": lambda x, y: ops.image.pad_images(
        x, top_padding=1, left_padding=1, target_height=7, target_width=7
    ),
    "Resize": lambda x, y: ops.image.resize(x, (2, 2)),
    "ExtractPatches": lambda x, y: ops.image.extract_patches(x, (2, 2)),
    "DepthToSpace": lambda x, y: ops.depth_to_space(x, 2),
    "SpaceToDepth": lambda x, y: ops.space_to_depth(x, 2),
    "Unfold": lambda x, y: ops.unfold(ops.transpose(x, (0, 3, 1, 2)), 2),
    "Fold": lambda x, y: ops.fold(
        ops.unfold(ops.transpose(x, (0, 3, 1, 2)), 2), (4, 4), 2
    ),
    "Diagonal": lambda x, y: ops.diagonal(x, axis1=1, axis2=2),
    "Trace": lambda x, y: ops.trace(x, axis1=1, axis2=2),
    "ExpandDims": lambda x, y: ops.expand_dims(x, 1),
    "Flip": lambda x, y: ops.flip(x, 1),
    "GetItem": lambda x, y: x[:, 1:, ..., 0],
    "Moveaxis": lambda x, y: ops.moveaxis(x, 1, 3),
    "Pad": lambda x, y: ops.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]]),
    "Rearrange": lambda x, y: ops.rearrange(x, "b h w c -> b (h w) c"),
    "Repeat": lambda x, y: ops.repeat(x, 2, axis=1),
    "Reshape": lambda x, y: ops.reshape(x, (-1, 16, 4)),
    "Roll": lambda x, y: ops.roll(x, 1, axis=1),
    "Rot90": lambda x, y: ops.rot90(x, axes=(1, 2)),
    "Slice": lambda x, y: ops.slice(x, (0, 0, 0, 0), (1, 2, 2, 2)),
    "Swapaxes": lambda x, y: ops.swapaxes(x, 1, 3),
    "Take": lambda x, y: ops.take(x, [0, 2], axis=1),
    "TakeAlongAxis": lambda x, y: ops.take_along_axis(x, np.zeros((1, 1, 4, 4), int), axis=1),
    "Tile": lambda x, y: ops.tile(x, (1, 1, 1, 2)),
    "Transpose": lambda x, y: ops.transpose(x, (0, 2, 1, 3)),
    "Tril": lambda x, y: ops.tril(x),
    "Triu": lambda x, y: ops.triu(x),
    "Split": lambda x, y: ops.add(*ops.split(x, 2, axis=-1)),
    "Unstack": lambda x, y: ops.unstack(x, axis=1)[1] + ops.unstack(x, axis=1)[0],
    "Hsplit": lambda x, y: ops.hsplit(x, 2)[0],
    "Vsplit": lambda x, y: ops.vsplit(ops.concatenate([x, y], axis=0), 2)[0],
    "ArraySplit": lambda x, y: ops.array_split(x, 3, axis=1)[2],
    "Concatenate": lambda x, y: ops.concatenate([x, y], axis=-1),
    "Stack": lambda x, y: ops.stack([x, y], axis=1),
    "Hstack": lambda x, y: ops.hstack([x, y]),
    "Vstack": lambda x, y: ops.vstack([x, y]),
    "Dstack": lambda x, y: ops.dstack([x, y]),
    "Append": lambda x, y: ops.append(x, y, axis=-1),
    **{
        key: lambda x, y, name=name: x * ops.cast(getattr(ops, name)(y, 0.5), "float32")
        for key, name in {
            "Equal": "equal", "NotEqual": "not_equal", "Greater": "greater",
            "GreaterEqual": "greater_equal", "Less": "less", "LessEqual": "less_equal",
        }.items()
    },
    "Cast": lambda x, y: ops.cast(x, "float16"),
    "SaturateCast": lambda x, y: ops.saturate_cast(x, "float16"),
    "View": lambda x, y: ops.view(x, "float32"),
}  # fmt: skip

TF_FUNCTIONS = {
    **{
        name: lambda x, y, name=name: _tf(name)(x)
        for name in (
            "nn.relu nn.relu6 nn.leaky_relu nn.elu nn.gelu nn.log_softmax nn.selu nn.silu "
            "nn.softmax nn.softsign math.softplus math.erf math.exp math.log math.log1p "
            "math.reciprocal math.rsqrt math.sigmoid math.sqrt math.tanh math.square math.abs "
            "math.negative identity stop_gradient linalg.matrix_transpose squeeze"
        ).split()
    },
    "math.pow": lambda x, y: x**2,
    "clip_by_value": lambda x, y: tf.clip_by_value(x, 0.0, 6.0),
    "math.maximum": lambda x, y: tf.maximum(tf.maximum(x, 0.0), y),
    "math.minimum": lambda x, y: tf.minimum(tf.minimum(6.0, x), y),
    "__operators__.add": lambda x, y: (1.0 + x) + (y + 2.0),
    "math.add": lambda x, y: tf.add(x, y),
    "math.add_n": lambda x, y: tf.add_n([x, y]),
    "math.subtract": lambda x, y: (1.0 - x) - (y - 2.0),
    "math.multiply": lambda x, y: (2.0 * x) * (y * 0.5),
    "math.truediv": lambda x, y: (x / 2.0) / y,
    "math.divide_no_nan": lambda x, y: tf.math.divide_no_nan(x, 3.0),
    "linalg.matmul": lambda x, y: tf.matmul(x, y, transpose_b=True) @ ONES,
    "tensordot": lambda x, y: tf.tensordot(x, ONES, 1),
    "einsum": lambda x, y: tf.einsum("bijc,bkjc->bijk", x, y),
    "reshape": lambda x, y: tf.reshape(x, [-1, 16, 4]),
    "transpose": lambda x, y: tf.transpose(x, [0, 2, 1, 3]),
    "expand_dims": lambda x, y: tf.expand_dims(x, 1),
    "pad": lambda x, y: tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]]),
    "tile": lambda x, y: tf.tile(x, [1, 1, 1, 2]),
    "repeat": lambda x, y: tf.repeat(x, 2, axis=1),
    "gather": lambda x, y: tf.gather(x, [0, 2], axis=1),
    "broadcast_to": lambda x, y: tf.broadcast_to(x, [2, 4, 4, 4]),
    "slice": lambda x, y: tf.slice(x, [0, 0, 0, 0], [1, 2, 2, 2]),
    "strided_slice": lambda x, y: tf.strided_slice(x, [0, 1], [1, 3]),
    "reverse": lambda x, y: tf.reverse(x, [1]),
    "roll": lambda x, y: tf.roll(x, 1, axis=1),
    "__operators__.getitem": lambda x, y: x[:, 1:, ..., 0],
    "math.reduce_sum": lambda x, y: tf.reduce_sum(x, axis=[1, 2]),
    "math.reduce_mean": lambda x, y: tf.reduce_mean(x, [1, 2], keepdims=True),
    "math.reduce_max": lambda x, y: tf.reduce_max(x, axis=1),
    "math.reduce_min": lambda x, y: tf.reduce_min(x, axis=1),
    "math.cumsum": lambda x, y: tf.cumsum(x, axis=1),
    "nn.avg_pool": lambda x, y: tf.nn.avg_pool(x, 2, 2, "SAME"),
    "nn.avg_pool2d": lambda x, y: tf.nn.avg_pool2d(x, 2, 2, "SAME"),
    "nn.max_pool2d": lambda x, y: tf.nn.max_pool(x, 2, 2, "SAME"),
    "nn.space_to_depth": lambda x, y: tf.nn.space_to_depth(x, 2),
    "nn.depth_to_space": lambda x, y: tf.nn.depth_to_space(x, 2),
    "image.resize": lambda x, y: tf.image.resize(x, (2, 2)),
    "image.extract_patches": lambda x, y: tf.image.extract_patches(
        x, [1, 2, 2, 1], [1, 2, 2, 1], [1, 1, 1, 1], "VALID"
    ),
    "linalg.band_part": lambda x, y: tf.linalg.band_part(x, -1, 0),
    "split": lambda x, y: tf.add(*tf.split(x, 2, axis=-1)),
    "unstack": lambda x, y: tf.unstack(x, axis=1)[1],
    "concat": lambda x, y: tf.concat([x, y], -1),
    "stack": lambda x, y: tf.stack([x, y], axis=1),
    **{
        f"math.{name}": lambda x, y, name=name: x * tf.cast(_tf(f"math.{name}")(y, 0.5), tf.float32)
        for name in "equal not_equal greater greater_equal less less_equal".split()
    },
    "__operators__.eq": lambda x, y: x * tf.cast(tf.expand_dims(y == 0.5, 1)[:, 0], tf.float32),
    "__operators__.ne": lambda x, y: x * tf.cast(y != 0.5, tf.float32),
    "cast": lambda x, y: tf.cast(x, tf.float16),
}


def _tf(name):
    function = tf
    for part in name.split("."):
        function = getattr(function, part)
    return function


def two_branches(k, function):
    """function(x, y) of two dense branches that share an input of ones."""
    inputs = k.Input((4, 4, 2), batch_size=1)
    x, y = (k.layers.Dense(4, name=name, **NO_BIAS)(inputs) for name in "xy")
    return without_additive_terms(k.Model(inputs, function(x, y)))


def test_a_mask_of_padding_is_all_ones():
    """`mask_zero=True` puts a comparison into a Keras 3 graph, and a mask to each layer."""
    inputs = keras.Input((4,), dtype="int32")

    def scores(mask_zero):
        x = keras.layers.Embedding(5, 3, mask_zero=mask_zero, name="e")(inputs)
        x = keras.layers.LSTM(3, name="l", **NO_BIAS)(x)
        model = without_additive_terms(keras.Model(inputs, x))
        assert ("ops.NotEqual" in keys_in(model)) == mask_zero
        return tf_synflow.score(model)["e/embeddings"]

    np.testing.assert_array_equal(scores(True), scores(False))


def keys_in(model):
    return {
        key for op in getattr(model, "operations", model.layers) for key in registry.keys_of(op)
    }


CASES = [
    *(pytest.param(keras, "ops", name, id=f"ops.{name}") for name in KERAS_OPS),
    *(pytest.param(tf_keras, "tf", name, id=f"tf.{name}") for name in TF_FUNCTIONS),
]


@pytest.mark.parametrize(("k", "prefix", "name"), CASES)
def test_flow_through_the_branches_adds_up(k, prefix, name):
    function = (KERAS_OPS if k is keras else TF_FUNCTIONS)[name]
    model = two_branches(k, function)
    assert f"{prefix}.{name}" in keys_in(model), "the table tests another op than it says"
    flow, sums = flow_and_sums(model, "*/kernel", traced=True)
    assert flow > 0
    rtol = 1e-6 if "esize" in name else 1e-12  # TensorFlow resizes in float32
    np.testing.assert_allclose(sum(sums.values()), flow, rtol=rtol)


@pytest.mark.parametrize(("prefix", "table"), [("ops", KERAS_OPS), ("tf", TF_FUNCTIONS)])
def test_the_table_has_every_registered_name_and_no_other(prefix, table):
    own = {
        key.removeprefix(f"{prefix}.")
        for key in registry._RULES
        if isinstance(key, str) and key.startswith(f"{prefix}.")
    }
    assert own == set(table)


def behind_negative_values(k, function):
    """function(x) of what a normalization of means that are not zero gives, and a dense layer."""
    inputs = k.Input((4, 4, 2), batch_size=1)
    x = k.layers.Dense(8, name="x", **NO_BIAS)(inputs)
    x = function(k.layers.BatchNormalization(name="norm")(x))
    model = k.Model(inputs, k.layers.Dense(3, name="head", **NO_BIAS)(x))
    model.get_layer("x").kernel.assign(np.linspace(0.1, 1, 16).reshape(2, 8))
    model.get_layer("head").kernel.assign(np.linspace(0.1, 1, 24).reshape(8, 3))
    model.get_layer("norm").moving_mean.assign(np.linspace(0, 2, 8))
    return model


SAME = {
    "leaky, 0.2": [
        (keras, lambda x: keras.layers.LeakyReLU(negative_slope=0.2)(x)),
        (keras, lambda x: ops.leaky_relu(x)),
        (keras, lambda x: keras.layers.Activation("leaky_relu")(x)),
        (tf_keras, lambda x: tf_keras.layers.LeakyReLU(alpha=0.2)(x)),
        (tf_keras, lambda x: tf.nn.leaky_relu(x)),
        (tf_keras, lambda x: tf_keras.activations.relu(x, alpha=0.2)),
    ],
    "leaky, 0.4": [
        (keras, lambda x: ops.leaky_relu(x, 0.4)),
        (tf_keras, lambda x: tf.nn.leaky_relu(x, 0.4)),
        (tf_keras, lambda x: tf.nn.leaky_relu(x, alpha=0.4)),
    ],
    "relu": [
        (keras, lambda x: keras.layers.ReLU()(x)),
        (keras, lambda x: ops.maximum(x, 0.0)),
        (keras, lambda x: ops.maximum(0, x)),
        (tf_keras, lambda x: tf.nn.relu(x)),
        (tf_keras, lambda x: tf.maximum(x, 0.0)),
    ],
    "padded": [
        (keras, lambda x: keras.layers.ZeroPadding2D(1)(x)),
        (keras, lambda x: ops.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=3)),
        (tf_keras, lambda x: tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]], constant_values=3)),
        (tf_keras, lambda x: tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]], "CONSTANT", 3)),
    ],
}


@pytest.mark.parametrize("what", SAME)
def test_ways_to_write_the_same(what):
    one, *others = (
        tf_synflow.score(behind_negative_values(k, function)) for k, function in SAME[what]
    )
    for other in others:
        for name, array in one.items():
            np.testing.assert_allclose(other[name], array, rtol=1e-12)
