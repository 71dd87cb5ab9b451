"""shrink: the same outputs from fewer units, and what it tells of them."""

import json

import keras
import numpy as np
import pytest
import shrink_models
import small_models
import tf_keras

import tf_synflow
from tf_synflow import errors
from tf_synflow.flow.weights import all_weights


def _inputs(model, count=5):
    random = np.random.RandomState(2)
    values = [
        random.randint(0, 20, (count, *tensor.shape[1:]))
        if "int" in str(tensor.dtype)
        else random.standard_normal((count, *tensor.shape[1:])).astype("float32")
        for tensor in model.inputs
    ]
    return values[0] if len(values) == 1 else values


def _outputs(model, inputs):
    outputs = model(inputs, training=False)
    return [np.asarray(value) for value in (outputs if isinstance(outputs, list) else [outputs])]


def _check_same(model, small, tolerance=1e-6):
    inputs = _inputs(model)
    for one, other in zip(_outputs(model, inputs), _outputs(small, inputs), strict=True):
        assert np.max(np.abs(one - other)) <= tolerance * np.max(np.abs(one))


def _shrunk(model, masks, **options):
    """A plain model with zeros, and what is left of it."""
    plain = tf_synflow.strip_pruning(tf_synflow.apply_masks(model, masks, allow_collapse=True))
    return plain, tf_synflow.shrink(plain, verbose=False, **options)


def _widths(before, after):
    return {row.name: row.units_after for row in tf_synflow.shrink_report(before, after).rows}


@pytest.mark.parametrize("kind", shrink_models.MODELS)
@pytest.mark.parametrize("k", small_models.KERASES)
def test_same_outputs_same_names_and_the_given_model_as_it_was(k, kind):
    model = shrink_models.MODELS[kind](k)
    masks = shrink_models.starved_masks(model)
    pruned = tf_synflow.apply_masks(model, masks, allow_collapse=True)
    for before in (pruned, tf_synflow.strip_pruning(pruned)):
        state = small_models.state(before)
        small = tf_synflow.shrink(before, verbose=False)
        assert small_models.state(before) == state
        assert type(small) is type(before) and small.name == before.name
        report = tf_synflow.shrink_report(before, small)
        assert report.weights_after < report.weights_before
        _check_same(before, small)
        added = set(all_weights(small)) - set(all_weights(before))
        kernels = {name.removesuffix("kernel") for name in all_weights(before)}
        assert added <= {f"{layer}bias" for layer in kernels}
        if before is pruned:
            left = tf_synflow.masks_of(small)
            assert set(left) <= set(masks) and left.kept <= masks.kept
            assert left.info == tf_synflow.masks_of(pruned).info


@pytest.mark.parametrize("kind", ["vgg", "resnet", "gated"])
def test_widths_are_filled_up(kind):
    model = shrink_models.MODELS[kind](keras)
    masks = shrink_models.starved_masks(model)
    before, smallest = _shrunk(model, masks)
    filled = tf_synflow.shrink(before, multiple_of=4, verbose=False)
    for name, width in _widths(before, filled).items():
        if width != _widths(before, smallest)[name]:
            assert width % 4 == 0
    assert _widths(before, filled) != _widths(before, smallest)
    _check_same(before, filled)


@pytest.mark.parametrize("k", small_models.KERASES)
def test_a_dense_model_stays_as_wide_as_it_is(k):
    model = shrink_models.resnet(k)
    small = tf_synflow.shrink(model, verbose=False)
    assert all(
        row.weights_after == row.weights_before
        for row in tf_synflow.shrink_report(model, small).rows
    )
    assert small is not model
    _check_same(model, small)


def test_mobilenet_of_keras_applications():
    model = keras.applications.MobileNet((32, 32, 3), alpha=0.25, weights=None, classes=10)
    before, after = _shrunk(model, shrink_models.starved_masks(model))
    assert after.count_params() < 0.6 * model.count_params()
    _check_same(before, after)


@pytest.mark.parametrize("k", small_models.KERASES)
def test_several_inputs_and_outputs_keep_their_names_and_sizes(k):
    layers = k.layers
    left, right = k.Input((6,), name="left"), k.Input((4,), name="right")
    x = layers.Dense(8, "relu", name="on_left")(left)
    y = layers.Dense(8, "relu", name="on_right")(right)
    sums = layers.Add(name="sum")([x, y])
    outputs = {"sum": sums, "head": layers.Dense(2, name="head")(layers.Maximum()([x, sums]))}
    model = k.Model({"left": left, "right": right}, outputs)
    masks = shrink_models.starved_masks(model)
    before, after = _shrunk(small_models.randomise(model), masks)
    values = {"left": np.ones((2, 6), "float32"), "right": np.ones((2, 4), "float32")}
    expected, received = before(values), after(values)
    assert received.keys() == expected.keys()
    for name in expected:
        np.testing.assert_allclose(received[name], expected[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("k", small_models.KERASES)
def test_constants_fold_into_biases_also_where_there_are_none(k):
    layers = k.layers
    inputs = k.Input((6, 6, 3))
    x = layers.Conv2D(6, 3, activation="relu", name="first")(inputs)
    x = layers.Conv2D(5, 3, use_bias=False, name="second")(x)  # valid: no border
    x = layers.MaxPooling2D(2)(layers.ReLU()(x))
    model = k.Model(inputs, layers.Dense(3, name="head")(layers.Flatten()(x)))
    small_models.randomise(model)
    model.get_layer("first").bias.assign(np.full(6, 0.7))
    masks = {"first/kernel": np.ones((3, 3, 3, 6), bool)}
    masks["first/kernel"][..., :4] = False
    before, after = _shrunk(model, masks)
    assert _widths(before, after)["first"] == 2
    assert after.get_layer("second").use_bias
    _check_same(before, after)


@pytest.mark.parametrize("bias, left", [(0.7, 6), (-0.7, 2)])
def test_a_constant_before_zero_padding_goes_only_if_it_is_zero(bias, left):
    layers = keras.layers
    inputs = keras.Input((6, 6, 3))
    x = layers.Conv2D(6, 3, activation="relu", name="first")(inputs)
    x = layers.Conv2D(5, 3, padding="same", name="second")(x)
    model = small_models.randomise(keras.Model(inputs, layers.GlobalAveragePooling2D()(x)))
    model.get_layer("first").bias.assign(np.full(6, bias))
    masks = {"first/kernel": np.ones((3, 3, 3, 6), bool)}
    masks["first/kernel"][..., :4] = False
    before, after = _shrunk(model, masks)
    assert _widths(before, after)["first"] == left
    _check_same(before, after)


def test_a_constant_before_a_layer_that_is_called_twice_stays():
    layers = keras.layers
    inputs = keras.Input((6,))
    twice = layers.Dense(5, name="twice")
    x = layers.Dense(5, activation="relu", name="first")(inputs)
    model = keras.Model(inputs, layers.Dense(2, name="head")(twice(twice(x))))
    small_models.randomise(model).get_layer("first").bias.assign(np.full(5, 0.7))
    masks = {"first/kernel": np.ones((6, 5), bool)}
    masks["first/kernel"][:, 1:] = False
    before, after = _shrunk(model, masks)
    _check_same(before, after)


@pytest.mark.parametrize("k", small_models.KERASES)
def test_attention_loses_whole_heads(k):
    model = shrink_models.transformer(k)
    masks = {
        "attention/value/kernel": np.ones((8, 4, 3), bool),
        "attention/attention_output/kernel": np.ones((4, 3, 8), bool),
    }
    masks["attention/value/kernel"][:, 0] = False
    masks["attention/attention_output/kernel"][2] = False
    model.get_layer("attention")._value_dense.bias.assign(np.zeros((4, 3)))
    before, after = _shrunk(model, masks)
    assert _widths(before, after)["attention"] == 2
    _check_same(before, after)
    trained = tf_synflow.shrink(tf_synflow.apply_masks(model, masks), verbose=False)
    assert _widths(before, trained)["attention"] == 3  # the bias of the values is trained


@pytest.mark.parametrize("k", small_models.KERASES)
def test_recurrent_units_go(k):
    model = shrink_models.sequence(k)
    masks = {name: np.ones(w.shape, bool) for name, w in all_weights(model).items()}
    masks = {name: mask for name, mask in masks.items() if name.endswith("kernel")}
    gru, head = "gru/gru_cell", "rnn/simple_rnn_cell"
    masks[f"{gru}/recurrent_kernel"][:4, 4:7] = False  # to the others, each gate
    masks[f"{gru}/recurrent_kernel"][:4, 11:14] = False
    masks[f"{gru}/recurrent_kernel"][:4, 18:] = False
    masks[f"{head}/kernel"][:4] = False
    before, after = _shrunk(model, masks)
    assert _widths(before, after)["gru"] == 3
    _check_same(before, after)


def test_ops_in_the_graph():
    inputs = keras.Input((6, 6, 3))
    conv = [keras.layers.Conv2D(8, 3, padding="same", name=f"c{i}") for i in range(3)]
    x = conv[0](inputs)
    x = keras.ops.relu6(x + 3.0) * (1 / 6) * conv[1](x)  # a hard swish
    x = keras.ops.concatenate([x, keras.ops.relu(conv[2](x)) - 0.5], axis=-1)
    x = keras.ops.mean(x, axis=(1, 2))  # an op that nothing is known of
    model = small_models.randomise(keras.Model(inputs, keras.layers.Dense(3, name="head")(x)))
    before, after = _shrunk(model, shrink_models.starved_masks(model))
    _check_same(before, after)


def test_inputs_of_any_size():
    layers = tf_keras.layers
    inputs = tf_keras.Input((None, None, 3))
    x = layers.Conv2D(8, 3, padding="same", activation="relu", name="c0")(inputs)
    x = layers.Conv2D(8, 3, padding="same", activation="relu", name="c1")(x)
    x = layers.GlobalMaxPooling2D()(x)
    model = small_models.randomise(tf_keras.Model(inputs, layers.Dense(3, name="head")(x)))
    before, after = _shrunk(model, shrink_models.starved_masks(model))
    assert after.input_shape == (None, None, None, 3)
    for size in (3, 17):
        image = np.random.RandomState(0).random_sample((2, size, size, 3)).astype("float32")
        np.testing.assert_allclose(after(image), before(image), rtol=1e-5, atol=1e-6)


def test_a_collapsed_network_keeps_a_unit_in_each_layer():
    model = shrink_models.vgg(keras)
    found = tf_synflow.compute_masks(model, 2, scorer="random", verbose=False)
    before, after = _shrunk(model, {name: np.zeros_like(mask) for name, mask in found.items()})
    assert set(_widths(before, after).values()) == {1, 3}
    _check_same(before, after)


@pytest.mark.parametrize("k", small_models.KERASES)
def test_a_shrunk_model_is_saved_and_loaded(k, tmp_path):
    model = shrink_models.inception(k)
    pruned = tf_synflow.apply_masks(model, shrink_models.starved_masks(model), allow_collapse=True)
    for before in (pruned, tf_synflow.strip_pruning(pruned)):
        small = tf_synflow.shrink(before, verbose=False)
        small.save(tmp_path / "small.keras")
        _check_same(small, tf_synflow.load_model(tmp_path / "small.keras"))


def test_the_report_is_printed_and_ready_for_json(capfd):
    model = small_models.mlp(keras)
    masks = {"d1/kernel": np.ones((12, 8), bool)}
    masks["d1/kernel"][:5] = False
    pruned = tf_synflow.apply_masks(model, masks)
    for verbose, rows in ((False, 0), ("auto", 2), (True, 3)):
        small = tf_synflow.shrink(pruned, verbose=verbose)
        printed = capfd.readouterr().err
        assert sum(line.startswith(("d0 ", "d1 ", "d2 ")) for line in printed.splitlines()) == rows
    report = tf_synflow.shrink_report(pruned, small)
    assert (report.rows[0].units_before, report.rows[0].units_after) == (12, 7)
    assert report.weights_after == small.count_params() == 7 * 17 + 8 * 8 + 4 * 9
    assert json.loads(json.dumps(report.to_dict()))["gone"] == []
    assert "times fewer" in str(report)


@pytest.mark.parametrize("k", small_models.KERASES)
@pytest.mark.parametrize("use_bias", [False, True])
def test_the_units_of_a_depthwise_convolution_are_channels(k, use_bias):
    layers = k.layers
    model = k.Sequential(
        [
            k.Input((8, 8, 3)),
            layers.Conv2D(6, 1, use_bias=False, name="into"),
            layers.DepthwiseConv2D(3, depth_multiplier=2, use_bias=use_bias, name="each"),
            layers.Conv2D(4, 1, use_bias=False, name="out_of"),
        ]
    )
    masks = {"into/kernel": np.ones((1, 1, 3, 6), bool)}
    masks["into/kernel"][..., :2] = False
    before, after = _shrunk(model, masks)
    rows = {row.name: row for row in tf_synflow.shrink_report(before, after).rows}
    assert (rows["each"].units_before, rows["each"].units_after) == (12, 8)


def test_a_layer_of_the_users_own_keeps_its_units():
    @keras.saving.register_keras_serializable("shrink_test")
    class Reversed(keras.layers.Layer):
        def call(self, x):
            return keras.ops.flip(x, axis=-1)

    inputs = keras.Input((6,))
    x = keras.layers.Dense(8, name="first")(inputs)
    x = keras.layers.Dense(7, name="second")(Reversed()(x))
    model = small_models.randomise(keras.Model(inputs, keras.layers.Dense(3, name="head")(x)))
    before, after = _shrunk(model, shrink_models.starved_masks(model))
    widths = _widths(before, after)
    assert widths["first"] == 8 and widths["second"] < 7
    _check_same(before, after)


@pytest.mark.parametrize(
    "arguments, error",
    [
        ({"multiple_of": 0}, errors.QuantityError),
        ({"multiple_of": 1.5}, errors.QuantityError),
        ({"verbose": "loud"}, errors.UnknownNameError),
    ],
)
def test_bad_arguments(arguments, error):
    with pytest.raises(error, match=f"received {next(iter(arguments.values()))!r}"):
        tf_synflow.shrink(small_models.mlp(keras), **arguments)


def test_bad_models():
    class Mine(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = keras.layers.Dense(2)

        def call(self, x):
            return self.dense(x)

    mine = Mine()
    mine(np.ones((1, 3), "float32"))
    with pytest.raises(errors.ModelError, match="subclassed Mine"):
        tf_synflow.shrink(mine)
    with pytest.raises(errors.ModelError, match="received str"):
        tf_synflow.shrink("model.keras")
    with pytest.raises(errors.ModelError, match="not built"):
        tf_synflow.shrink(keras.Sequential([keras.layers.Dense(2)]))


@keras.saving.register_keras_serializable("shrink_test")
def relu(x):
    """Not what its name says."""
    return keras.ops.flip(keras.ops.relu(x), axis=-1)


def test_a_difference_is_an_error():
    stack = [keras.Input((6,)), keras.layers.Dense(8), keras.layers.Activation(relu)]
    model = small_models.randomise(keras.Sequential([*stack, keras.layers.Dense(3, name="head")]))
    masks = {"head/kernel": np.ones((8, 3), bool)}
    masks["head/kernel"][:3] = False
    with pytest.raises(errors.ShrinkError, match="differs by .* expected at most"):
        _shrunk(model, masks)
