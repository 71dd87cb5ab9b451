"""Layers, activations and ops of Keras 3 in tf_keras, one by one."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conversions import IMAGE, SEQUENCE, VOLUME, built, check
from keras import layers, ops

LAYERS = [
    ("Dense", (3,), {"activation": layers.LeakyReLU(negative_slope=0.3)}, SEQUENCE),
    ("Dense", (3,), {"activation": tf.nn.relu, "kernel_initializer": "orthogonal"}, SEQUENCE),
    ("EinsumDense", ("abc,cd->abd", (None, 5)), {"bias_axes": "d"}, SEQUENCE),
    ("Conv1D", (3, 2), {"padding": "causal"}, SEQUENCE),
    ("Conv2D", (4, 3), {"groups": 2, "activation": "hard_silu"}, IMAGE),
    ("Conv2D", (4, 3), {"dilation_rate": 2, "kernel_constraint": "max_norm"}, IMAGE),
    ("Conv3D", (2, 2), {}, VOLUME),
    ("Conv1DTranspose", (3, 3), {"strides": 2}, SEQUENCE),
    ("Conv2DTranspose", (3, 3), {"strides": 2, "padding": "same", "output_padding": 1}, IMAGE),
    ("Conv3DTranspose", (2, 2), {}, VOLUME),
    ("DepthwiseConv1D", (3,), {}, SEQUENCE),
    ("DepthwiseConv2D", (3,), {"depth_multiplier": 2}, IMAGE),
    ("SeparableConv1D", (3, 3), {}, SEQUENCE),
    ("SeparableConv2D", (3, 3), {}, IMAGE),
    ("BatchNormalization", (), {}, IMAGE),
    ("LayerNormalization", (), {}, IMAGE),
    ("GroupNormalization", (2,), {}, IMAGE),
    ("UnitNormalization", (), {}, IMAGE),
    ("Normalization", (), {"mean": [1.0, 2, 3, 4], "variance": [1.0, 2, 3, 4]}, IMAGE),
    ("Normalization", (), {"axis": None, "mean": 3.0, "variance": 2.0, "invert": True}, IMAGE),
    ("Rescaling", (1 / 255.0,), {"offset": -1.0}, IMAGE),
    ("PReLU", (), {"shared_axes": [1, 2]}, IMAGE),
    ("LeakyReLU", (), {"negative_slope": 0.1}, IMAGE),
    ("ReLU", (), {"max_value": 0.6, "negative_slope": 0.1, "threshold": 0.2}, IMAGE),
    ("ELU", (), {}, IMAGE),
    ("Softmax", (), {"axis": 1}, SEQUENCE),
    ("MaxPooling2D", (), {}, IMAGE),
    ("AveragePooling1D", (2,), {"padding": "same"}, SEQUENCE),
    ("MaxPooling3D", (), {}, VOLUME),
    ("GlobalAveragePooling2D", (), {"keepdims": True}, IMAGE),
    ("GlobalMaxPooling1D", (), {}, SEQUENCE),
    ("ZeroPadding2D", (((1, 0), (0, 1)),), {}, IMAGE),
    ("Cropping2D", (1,), {}, IMAGE),
    ("UpSampling2D", (2,), {"interpolation": "bilinear"}, IMAGE),
    ("Flatten", (), {}, IMAGE),
    ("Reshape", ((-1, 4),), {}, IMAGE),
    ("Permute", ((2, 1),), {}, SEQUENCE),
    ("RepeatVector", (3,), {}, (4,)),
    ("Dropout", (0.5,), {}, IMAGE),
    ("GaussianNoise", (0.5,), {"seed": 3}, IMAGE),
    ("Masking", (), {}, SEQUENCE),
    ("RandomFlip", (), {}, IMAGE),
    ("RandomRotation", (0.1,), {}, IMAGE),
    ("RandomContrast", (0.1,), {}, IMAGE),
    ("Resizing", (5, 5), {}, IMAGE),
    ("CenterCrop", (4, 4), {}, IMAGE),
    ("Discretization", ([0.2, 0.5],), {}, SEQUENCE),
    ("LSTM", (3,), {}, SEQUENCE),
    ("LSTM", (3,), {"return_sequences": True, "unroll": True, "recurrent_dropout": 0.2}, SEQUENCE),
    ("LSTM", (3,), {"return_state": True, "recurrent_activation": "hard_sigmoid"}, SEQUENCE),
    ("GRU", (3,), {"go_backwards": True}, SEQUENCE),
    ("GRU", (3,), {"reset_after": False}, SEQUENCE),
    ("SimpleRNN", (3,), {}, SEQUENCE),
    ("ConvLSTM1D", (2, 2), {}, (3, 4, 2)),
    ("ConvLSTM2D", (2, 2), {}, (3, 4, 4, 2)),
    ("Activation", ("gelu",), {}, IMAGE),
]


@pytest.mark.parametrize(
    ("kind", "args", "kwargs", "shape"), LAYERS, ids=[f"{n}{list(k)}" for n, _, k, _ in LAYERS]
)
def test_layers(kind, args, kwargs, shape):
    check(built(shape, lambda x: getattr(layers, kind)(*args, **kwargs)(x)))


WITH_LAYERS = {
    "RNN of cells": lambda x: layers.RNN([layers.LSTMCell(3), layers.GRUCell(2)])(x),
    "RNN": lambda x: layers.RNN(layers.SimpleRNNCell(3), return_sequences=True)(x),
    "Bidirectional": lambda x: layers.Bidirectional(layers.LSTM(3))(x),
    "Bidirectional, sum": lambda x: layers.Bidirectional(
        layers.GRU(3, name="named"), merge_mode="sum", backward_layer=layers.GRU(
            3, go_backwards=True, activation="relu", name="backward_other"
        )
    )(x),
    "TimeDistributed": lambda x: layers.TimeDistributed(layers.Dense(3))(x),
    "initial_state": lambda x: layers.LSTM(4)(x, initial_state=[x[:, 0], x[:, 1]]),
    "MultiHeadAttention": lambda x: layers.MultiHeadAttention(2, 3, dropout=0.1)(
        x, x[:, :3], key=x[:, 3:], use_causal_mask=True
    ),
    "Attention": lambda x: layers.Attention(use_scale=True)([x, x]),
    "AdditiveAttention": lambda x: layers.AdditiveAttention()([x, x]),
    "Add": lambda x: layers.Add()([x, layers.Dense(4)(x)]),
    "Multiply": lambda x: layers.Multiply()([x, layers.Dense(1)(x)]),
    "Concatenate": lambda x: layers.Concatenate(axis=1)([x, layers.Dense(4)(x)]),
    "Dot": lambda x: layers.Dot(axes=-1)([x, x]),
}  # fmt: skip


@pytest.mark.parametrize("case", list(WITH_LAYERS))
def test_layers_of_layers_and_of_several_inputs(case):
    check(built(SEQUENCE, WITH_LAYERS[case]))


@pytest.mark.parametrize(
    "name",
    "relu sigmoid tanh softmax softplus softsign selu elu gelu silu hard_silu hard_sigmoid relu6 "
    "leaky_relu mish exponential linear celu glu hard_tanh hard_shrink soft_shrink tanh_shrink "
    "log_sigmoid log_softmax squareplus sparse_plus sparse_sigmoid".split(),
)
def test_activations(name):
    model = built((4,), lambda x: layers.Dense(4, activation=name)(layers.Rescaling(4.0, -2.0)(x)))
    converted = check(model)
    assert converted.layers[-1].activation.__name__ == {"silu": "swish"}.get(name, name)


OPS = {
    "constants": lambda x: (2 - x) * 3 / (1 + x**2) + np.arange(4),
    "integers": lambda x: ops.cast(x * 5, "int32") * 2.5,
    "matmul": lambda x: ops.matmul(x, ops.transpose(x, (0, 2, 1))) @ x,
    "einsum": lambda x: ops.einsum("abc,adc->abd", x, x),
    "reshape": lambda x: ops.reshape(x, (-1, 24)),
    "concatenate": lambda x: ops.concatenate([x, ops.stack([x, x], 1)[:, 0]], -1),
    "split": lambda x: [*ops.split(x, 2, -1), *ops.split(x, [1, 3], 1)],
    "reductions": lambda x: ops.mean(x, (1, 2), keepdims=True) + ops.sum(x, -1, keepdims=True),
    "moments": lambda x: ops.max(x, 1) - ops.min(x, 1) + ops.var(x, 1) + ops.std(x, 1),
    "logsumexp": lambda x: ops.logsumexp(x, -1) + ops.norm(x, axis=-1),
    "activations": lambda x: ops.relu(x) + ops.sigmoid(x) + ops.gelu(x) + ops.silu(x),
    "softmax": lambda x: ops.softmax(x, 1) + ops.leaky_relu(x, 0.1) + ops.elu(x, 0.5),
    "roots": lambda x: ops.sqrt(ops.abs(x)) + ops.rsqrt(ops.square(x) + 1),
    "slices": lambda x: x[:, 1:, ::2] + x[..., None, 0][:, 1:] * x[:, -1:, :1],
    "dimensions": lambda x: ops.squeeze(ops.expand_dims(x, (1, -1)), 1),
    "pad": lambda x: ops.pad(x, ((0, 0), (1, 2), (0, 0)), constant_values=2.0),
    "pad, reflect": lambda x: ops.pad(x, ((0, 0), (1, 2), (0, 0)), mode="reflect"),
    "tile": lambda x: ops.tile(x, (1, 2, 1)) + ops.repeat(x, 2, 1),
    "broadcast_to": lambda x: ops.broadcast_to(ops.mean(x, 0, keepdims=True)[:, :1], (3, 6, 4)),
    "where": lambda x: ops.where(ops.logical_or(x > 0.5, x <= 0.1), x, -x),
    "clip": lambda x: ops.clip(x, 0.1, 0.6) + ops.maximum(x, 0.5) - ops.minimum(x, 0.3),
    "one_hot": lambda x: ops.one_hot(ops.argmax(x, -1), 4),
    "top_k": lambda x: ops.top_k(x, 2),
    "take": lambda x: ops.take(x, [0, 2], axis=1),
    "order": lambda x: ops.flip(ops.roll(x, 1, 1), 1) + ops.swapaxes(ops.moveaxis(x, 1, 2), 1, 2),
    "logarithms": lambda x: ops.exp(x) + ops.log(x + 1) + ops.log1p(x) + ops.cumsum(x, 1),
    "resize": lambda x: ops.image.resize(x[..., None], (3, 3)),
    "max_pool": lambda x: ops.max_pool(x, 2) + ops.average_pool(x, 2),
    "attention": lambda x: ops.dot_product_attention(
        x[:, :, None], x[:, :, None], x[:, :, None], is_causal=True
    ),
    "keywords": lambda x: ops.add(x1=x, x2=ops.mean(x=x, axis=1, keepdims=True)),
}


@pytest.mark.parametrize("name", list(OPS))
def test_ops(name):
    model = built(SEQUENCE, OPS[name])
    if name == "broadcast_to":  # of one batch size only
        model = keras.Model((i := keras.Input(batch_shape=(3, 6, 4))), OPS[name](i))
    check(model)
