"""Keras 3 models in tf_keras: they compute the same, and trained weights come back."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from conversions import IMAGE, SEQUENCE, built, check
from keras import layers, ops
from small_models import images, masked_and_not_zero, policy, randomise, residual, zoo

import tf_synflow
from tf_synflow import errors
from tf_synflow.flow.weights import all_weights
from tf_synflow.inject import convert, tf_layers, tf_ops

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


# The size of an image; and the layer that the deepest end with, behind which their parts repeat.
APPLICATIONS = [
    ("MobileNetV2", 32, None),
    ("MobileNetV3Small", 32, None),
    ("EfficientNetB0", 32, None),
    ("DenseNet121", 32, "conv3_block2_concat"),
    ("ConvNeXtTiny", 32, None),
    ("InceptionResNetV2", 75, "block35_2_ac"),
    ("Xception", 71, None),
    ("NASNetMobile", 32, "normal_concat_1"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "size", "end"), APPLICATIONS, ids=[n for n, *_ in APPLICATIONS])
def test_applications(name, size, end):
    make = getattr(keras.applications, name)
    model = make(weights=None, classes=10, input_shape=(size, size, 3))
    check(keras.Model(model.input, model.get_layer(end).output) if end else model)


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
