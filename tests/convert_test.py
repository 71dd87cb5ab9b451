"""Keras 3 models in tf_keras: they compute the same, and trained weights come back."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from keras import layers, ops
from small_models import images, masked_and_not_zero, policy, randomise, residual, state, zoo

import tf_synflow
from tf_synflow import errors
from tf_synflow.flow.weights import all_weights
from tf_synflow.inject import convert, tf_layers, tf_ops

IMAGE, SEQUENCE, VOLUME = (8, 8, 4), (6, 4), (4, 4, 4, 2)


def built(shape, function, dtype="float32"):
    inputs = keras.Input(shape, dtype=dtype, name="inputs")
    return randomise(keras.Model(inputs, function(inputs), name="model"))


def outputs_of(model, values):
    return [np.asarray(x) for x in tf.nest.flatten(model(values, training=False))]


def check(model):
    """Converts, compares on other values than `to_tf_keras` did, and comes back."""
    before = state(model)
    converted = convert.to_tf_keras(model)
    assert state(model) == before
    assert {n: w.shape for n, w in all_weights(converted).items()} == {
        n: w.shape for n, w in all_weights(model).items()
    }
    random = np.random.RandomState(7)
    values = [
        random.random_sample((3, *t.shape[1:])).astype(t.dtype)
        if "float" in t.dtype
        else random.randint(0, 5, (3, *t.shape[1:]))
        for t in model.inputs
    ]
    values = values[0] if len(values) == 1 else values
    for one, other in zip(outputs_of(model, values), outputs_of(converted, values), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
    for weight in all_weights(converted).values():
        weight.variable.assign(weight.variable + 1.0)
    back = convert.to_keras3(converted, model)
    assert isinstance(back, type(model)) and back is not model
    for name, weight in all_weights(back).items():
        expected = all_weights(converted)[name].variable.numpy()
        np.testing.assert_array_equal(weight.variable.numpy(), expected)
    return converted


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


# --- graphs ---------------------------------------------------------------------------------------


def test_names_nesting_and_sharing_stay():
    inner = keras.Sequential(
        [keras.Input((4,)), layers.Dense(4, name="a"), layers.ReLU()], name="inner"
    )
    shared = layers.Dense(4, name="shared")
    inputs = keras.Input((4,))
    model = randomise(keras.Model(inputs, shared(inner(shared(inner(inputs)))), name="outer"))
    converted = check(model)
    assert converted.name == "outer" and isinstance(converted, tf_keras.Model)
    assert isinstance(converted.get_layer("inner"), tf_keras.Sequential)
    assert list(all_weights(converted)) == list(all_weights(model))
    assert len(converted.layers) == len(model.layers) == 3


@pytest.mark.parametrize("make", [residual, zoo])
def test_whole_models(make):
    check(make(keras))


def test_several_inputs_and_outputs():
    a, b = keras.Input((4,), name="a"), keras.Input((3,), name="b")
    outputs = [layers.Dense(3)(a), layers.Dense(2)(layers.Concatenate()([a, b]))]
    check(randomise(keras.Model([a, b], outputs)))
    of_dict = randomise(keras.Model({"x": a, "y": b}, {"one": outputs[0], "two": outputs[1]}))
    converted = convert.to_tf_keras(of_dict)
    values = {"x": np.ones((2, 4), "float32"), "y": np.ones((2, 3), "float32")}
    expected, received = of_dict(values), converted(values)
    assert list(received) == ["one", "two"]
    for name in expected:
        np.testing.assert_allclose(received[name], expected[name], rtol=1e-5)
    check(built((4,), lambda x: of_dict({"x": x, "y": x[:, :3]})["two"]))


def test_sequential_that_was_built_late():
    model = keras.Sequential([layers.Dense(4), layers.Dense(2)])
    model.build((None, 3))
    assert isinstance(check(model), tf_keras.Sequential)


@pytest.mark.parametrize("dtype", ["int32", "float32"])
def test_tokens_stay_within_the_vocabulary(dtype):
    def function(x):
        return layers.LSTM(3)(layers.Embedding(5, 3, mask_zero=True)(x))

    convert.to_tf_keras(built((5,), function, dtype))


def test_open_dimensions():
    inputs = keras.Input((None, None, 3))
    x = layers.Conv2D(3, 3, strides=2)(layers.MaxPooling2D(8)(inputs))
    model = randomise(keras.Model(inputs, layers.GlobalAveragePooling2D()(x)))
    assert convert.to_tf_keras(model).input_shape == (None, None, None, 3)


def test_states_of_the_users_model_stay():
    inputs = keras.Input((4, 3), batch_size=5)
    model = keras.Model(inputs, layers.LSTM(3, stateful=True)(inputs))
    x = np.ones((5, 4, 3), "float32")
    model.predict(x, verbose=0)
    variables = [*model.variables, *model.layers[1].states]
    before = [variable.numpy() for variable in variables]
    assert len(model.layers[1].states) == 2 and before[-1].any()
    converted = convert.to_tf_keras(model)
    for one, other in zip(before, variables, strict=True):
        np.testing.assert_array_equal(one, other.numpy())
    model.layers[1].reset_states()
    np.testing.assert_allclose(converted(x), model(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["mixed_float16", "mixed_bfloat16", "float64"])
def test_precisions(name):
    with policy(keras, name):
        model = zoo(keras)
        convert.to_tf_keras(model)
        converted = convert.to_tf_keras(model)
    compute = name.removeprefix("mixed_")
    assert [layer.compute_dtype for layer in converted.layers[1:3]] == [compute] * 2
    assert converted.layers[-1].compute_dtype == "float32"


def test_frozen_layers_stay_frozen():
    model = residual(keras)
    model.get_layer("conv1").trainable = False
    converted = convert.to_tf_keras(model)
    assert not converted.get_layer("conv1").trainable
    assert len(converted.trainable_weights) == len(model.trainable_weights)


def test_penalties_count():
    penalties = {"kernel_regularizer": "l2", "bias_regularizer": keras.regularizers.L1(0.1)}
    model = built(SEQUENCE, layers.Dense(3, **penalties))
    converted = convert.to_tf_keras(model)
    assert len(converted.losses) == 2
    np.testing.assert_allclose(sum(converted.losses), sum(model.losses), rtol=1e-6)


def test_training_recorded_in_the_graph_gives_way_to_that_of_the_call():
    model = built((4,), lambda x: layers.Dropout(0.5)(x, training=True))
    x = np.ones((2, 4), "float32")
    np.testing.assert_array_equal(convert.to_tf_keras(model)(x, training=False), x)


APPLICATIONS = [
    ("MobileNetV2", {"input_shape": (32, 32, 3)}),
    ("MobileNetV3Small", {"input_shape": (32, 32, 3)}),
    ("EfficientNetB0", {"input_shape": (32, 32, 3)}),
    ("DenseNet121", {"input_shape": (32, 32, 3)}),
    ("ConvNeXtTiny", {"input_shape": (32, 32, 3)}),
    ("InceptionResNetV2", {"input_shape": (75, 75, 3)}),
    ("Xception", {"input_shape": (71, 71, 3)}),
    ("NASNetMobile", {"input_shape": (32, 32, 3)}),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "arguments"), APPLICATIONS, ids=[n for n, _ in APPLICATIONS])
def test_applications(name, arguments):
    check(getattr(keras.applications, name)(weights=None, classes=10, **arguments))


# --- what differs, and what cannot be converted ---------------------------------------------------


def test_a_difference_says_where(monkeypatch):
    inner = keras.Sequential(
        [keras.Input((4,)), layers.Dense(4, activation="tanh", name="a")], name="inner"
    )
    inputs = keras.Input((4,))
    model = keras.Model(inputs, layers.Dense(3, name="b")(ops.sin(inner(inputs))))
    monkeypatch.setitem(tf_ops._FUNCTIONS, "Sin", lambda op, dtype, x: tf.cos(x))
    with pytest.raises(errors.ModelError, match="first at 'sin.*' .Sin: by .*wrapper='keras'"):
        convert.to_tf_keras(model)
    monkeypatch.undo()
    monkeypatch.setattr(tf_layers.activations, "of", lambda name: tf.nn.relu)
    with pytest.raises(errors.ModelError, match="first at 'inner/a' .Dense: by"):
        convert.to_tf_keras(model)
    monkeypatch.undo()
    monkeypatch.setitem(tf_ops._FUNCTIONS, "Sin", lambda op, dtype, x: tf.concat([x, x], 0))
    with pytest.raises(errors.ModelError, match="shape .2, 4. in Keras 3, .4, 4. in tf_keras"):
        convert.to_tf_keras(model)


def test_differences_that_add_up_and_chaos(monkeypatch):
    """Rounding alone may change all of an output, but only where the model is so itself."""

    def many(x):
        for _ in range(150):
            x = ops.multiply(x, 1.0)
        return x

    off = {"Multiply": lambda op, dtype, x, y: x * (y * (1 + 1e-6))}
    monkeypatch.setitem(tf_ops._FUNCTIONS, "Multiply", off["Multiply"])
    with pytest.raises(errors.ModelError, match="first at its outputs .by"):
        convert.to_tf_keras(built((4,), many))
    convert.to_tf_keras(built((4,), lambda x: ops.sin(ops.multiply(x, 1e8))))


class Own(layers.Layer):
    """A layer of the user's own."""

    def call(self, x):
        return x

    def compute_output_shape(self, shape):
        return shape


def own_activation(x):
    return x


class OwnRegularizer(keras.regularizers.Regularizer):
    """A penalty of the user's own."""

    def __call__(self, x):
        return 0.0

    def get_config(self):
        return {}


REFUSED = {
    "layer 'own'.*Own.*class of your own": Own(name="own"),
    "layer 'lambda'.*no Lambda": layers.Lambda(lambda x: x, name="lambda"),
    "layer 'd'.*no activation 'own_activation'": layers.Dense(
        3, activation=own_activation, name="d"
    ),
    "layer 'd'.*no regularizer": layers.Dense(3, kernel_regularizer=OwnRegularizer(), name="d"),
    "layer 'rms'.*no RMSNormalization": layers.RMSNormalization(name="rms"),
    "layer 'ln'.*rms_scaling": layers.LayerNormalization(name="ln", rms_scaling=True),
    "layer 'inside'.*class of your own": layers.TimeDistributed(Own(name="inside")),
    "op 'sinc'.*Sinc.*table": lambda x: ops.sinc(x),
}  # fmt: skip


@pytest.mark.parametrize("message", list(REFUSED))
def test_what_has_no_counterpart(message):
    with pytest.raises(errors.UnsupportedLayerError, match=f"{message}.*wrapper='keras'"):
        convert.to_tf_keras(built(SEQUENCE, REFUSED[message]))


def test_subclassed_models():
    class Subclassed(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(2)

        def call(self, x):
            return self.dense(x)

    model = Subclassed()
    model.build((None, 3))
    with pytest.raises(errors.ModelError, match="Subclassed.*wrapper='keras'"):
        convert.to_tf_keras(model)


def test_weights_of_another_architecture():
    with pytest.raises(errors.ModelError, match="another architecture.*like="):
        convert.to_keras3(residual(tf_keras), zoo(keras))
    wide = built((4,), layers.Dense(3, name="d"))
    narrow = convert.to_tf_keras(built((4,), layers.Dense(2, name="d")))
    with pytest.raises(errors.ModelError, match=r"'d/kernel'.*\(4, 2\).*\(4, 3\)"):
        convert.to_keras3(narrow, wide)


# --- pruned ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pruned_both_ways():
    model = zoo(keras)
    masks = tf_synflow.compute_masks(model, schedule=tf_synflow.SynFlowPruningSchedule(4, rounds=3))
    return model, masks


def test_an_adapted_normalization_keeps_what_it_learned():
    adapted = layers.Normalization(name="norm")
    adapted.adapt(np.random.RandomState(0).normal(5, 3, (64, 4)).astype("float32"))
    model = built((4,), lambda x: layers.Dense(3, name="d")(x))
    inputs = keras.Input((4,))
    model = keras.Model(inputs, model(adapted(inputs)))
    mask = {"model/d/kernel": np.ones((4, 3))}
    x = np.ones((2, 4), "float32")
    converted = convert.to_tf_keras(model)
    pruned = [
        converted,
        tf_synflow.apply_masks(converted, mask),
        tf_synflow.apply_masks(model, mask, wrapper="tfmot"),
        tf_synflow.apply_masks(model, mask, wrapper="keras"),
    ]
    pruned += [tf_synflow.strip_pruning(p) for p in pruned[1:]]
    pruned += [tf_synflow.strip_pruning(pruned[2], like=model)]
    for other in pruned:
        np.testing.assert_allclose(other(x), model(x), rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    "optimizer",
    [lambda k: k.optimizers.SGD(0.05, momentum=0.9), lambda k: k.optimizers.Adam(0.01)],
    ids=["sgd", "adam"],
)
def test_both_wrappers_train_alike(optimizer, pruned_both_ways):
    model, masks = pruned_both_ways
    x, y = images(model)
    losses, finals = {}, {}
    for wrapper, k in (("keras", keras), ("tfmot", tf_keras)):
        pruned = tf_synflow.apply_masks(model, masks, wrapper=wrapper)
        assert tf_synflow.masks_of(pruned) == masks
        pruned.compile(optimizer(k), "sparse_categorical_crossentropy")
        history = pruned.fit(x, y, batch_size=8, epochs=5, shuffle=False, verbose=0)
        losses[wrapper] = history.history["loss"]
        like = {"like": model} if wrapper == "tfmot" else {}
        finals[wrapper] = tf_synflow.strip_pruning(pruned, **like)
        assert isinstance(finals[wrapper], keras.Model)
        assert masked_and_not_zero(finals[wrapper], masks) == 0
    np.testing.assert_allclose(losses["keras"], losses["tfmot"], rtol=0, atol=5e-6)
    assert losses["keras"][-1] < losses["keras"][0] - 0.001
    np.testing.assert_allclose(finals["keras"](x), finals["tfmot"](x), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["model.keras", "saved_model"])  # tf_keras' .h5 has only its own
def test_a_converted_model_is_saved_and_loaded(name, tmp_path):
    model = built(IMAGE, lambda x: layers.Conv2D(3, 3, activation="hard_silu", name="c")(x) * 2)
    mask = np.random.RandomState(0).random_sample((3, 3, 4, 3)) < 0.5
    pruned = tf_synflow.apply_masks(model, {"c/kernel": mask}, wrapper="tfmot")
    pruned.save(tmp_path / name)
    loaded = tf_synflow.load_model(tmp_path / name)
    x = np.ones((2, *IMAGE), "float32")
    np.testing.assert_allclose(loaded(x), pruned(x), rtol=1e-5)
    assert tf_synflow.masks_of(loaded) == tf_synflow.masks_of(pruned)
