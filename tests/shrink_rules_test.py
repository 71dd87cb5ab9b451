"""shrink, family by family: grouped convolutions, contractions, layers in a layer, constants."""

import keras
import numpy as np
import pytest
import shrink_models
import small_models
import tf_keras

import tf_synflow


def _shrunk(model, masks):
    """A plain model with zeros, and what is left of it; their outputs agree."""
    plain = tf_synflow.strip_pruning(tf_synflow.apply_masks(model, masks, allow_collapse=True))
    small = tf_synflow.shrink(plain, verbose=False)
    values = np.random.RandomState(2).standard_normal((5, *model.inputs[0].shape[1:]))
    one, other = (np.asarray(m(values.astype("float32"), training=False)) for m in (plain, small))
    assert np.max(np.abs(one - other)) <= 1e-6 * np.max(np.abs(one))
    return plain, small


def _widths(before, after):
    return {row.name: row.units_after for row in tf_synflow.shrink_report(before, after).rows}


def _grouped(k, **options):
    layers = k.layers
    inputs = k.Input((6, 6, 3))
    x = layers.Conv2D(12, 1, activation="relu", name="stem")(inputs)
    x = layers.Conv2D(12, 3, groups=3, activation="relu", name="grouped", **options)(x)
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 1, name="mix")(x))
    return small_models.randomise(k.Model(inputs, x))


@pytest.mark.parametrize("k", small_models.KERASES)
@pytest.mark.parametrize(
    "unread, stem, grouped, groups",
    [
        ([4, 5, 6, 7], 8, 8, 2),  # a whole group, and what leads to it
        ([0, 5, 10], 12, 9, 3),  # one of each
        ([0, 1, 5], 12, 12, 3),  # none of the third
        ([0, 1, 4, 5, 6, 7, 8], 8, 6, 2),  # a whole group and two of the others, one of them read
    ],
)
def test_groups_go_whole_or_lose_as_many_units_each(k, unread, stem, grouped, groups):
    mask = np.ones((1, 1, 12, 4), bool)
    mask[:, :, unread] = False
    before, after = _shrunk(_grouped(k), {"mix/kernel": mask})
    layer = after.get_layer("grouped")
    assert (layer.filters, layer.groups) == (grouped, groups)
    assert _widths(before, after)["stem"] == stem


@pytest.mark.parametrize("k", small_models.KERASES)
def test_groups_lose_inputs_at_other_places_each(k):
    mask = np.ones((3, 3, 4, 12), bool)
    mask[:, :, 0, :4] = False
    mask[:, :, 2, 4:8] = False
    mask[:, :, 3, 8:] = False
    before, after = _shrunk(_grouped(k), {"grouped/kernel": mask})
    assert _widths(before, after) == {"stem": 9, "grouped": 12, "mix": 4}
    assert after.get_layer("grouped").kernel.shape[2] == 3


@pytest.mark.parametrize("k", small_models.KERASES)
@pytest.mark.parametrize("padding, stem", [("valid", 9), ("same", 12)])
def test_a_constant_folds_into_a_grouped_convolution_without_a_border(k, padding, stem):
    model = _grouped(k, padding=padding, use_bias=False)
    model.get_layer("stem").bias.assign(np.full(12, 0.7))
    mask = np.ones((1, 1, 3, 12), bool)
    mask[..., [0, 5, 10]] = False
    before, after = _shrunk(model, {"stem/kernel": mask})
    assert _widths(before, after)["stem"] == stem
    assert after.get_layer("grouped").use_bias == (padding == "valid")


@pytest.mark.parametrize("k", small_models.KERASES)
def test_contractions_lose_the_axes_that_one_layer_makes_and_one_reads(k):
    model = shrink_models.video(k)
    masks = {"together/kernel": np.ones((2, 6, 7), bool), "last/kernel": np.ones((7, 5), bool)}
    masks["together/kernel"][:, :2] = False  # of no use to either of the two
    masks["together/kernel"][0, 3] = False
    masks["last/kernel"][3:6] = False
    before, after = _shrunk(model, masks)
    left = _widths(before, after)
    assert (left["apart"], left["together"], left["last"]) == (4, 4, 5)
    assert after.get_layer("apart").kernel.shape[1:] == (2, 4)


@pytest.mark.parametrize("k", small_models.KERASES)
@pytest.mark.parametrize(
    "equation, shape, left",
    [("ab,bc->ac", 5, 4), ("ab,cb->ac", 5, 4), ("...b,bc->...c", (5,), 4), ("ab,bac->ac", 5, 4)],
)
def test_a_contraction_takes_constants_in_its_bias(k, equation, shape, left):
    inputs = k.Input((6,), batch_size=5)
    x = k.layers.Dense(8, "relu", name="first")(inputs)
    x = k.layers.EinsumDense(equation, shape, name="einsum")(x)
    model = small_models.randomise(k.Model(inputs, k.layers.Dense(3, name="head")(x)))
    model.get_layer("first").bias.assign(np.full(8, 0.7))
    mask = np.ones((6, 8), bool)
    mask[:, :4] = False
    before, after = _shrunk(model, {"first/kernel": mask})
    folds = "ba" not in equation  # there, another constant for each of the batch
    assert _widths(before, after)["first"] == (left if folds else 8)


@pytest.mark.parametrize("k", small_models.KERASES)
def test_layers_at_each_step_lose_units_and_take_constants(k):
    model = shrink_models.video(k)
    kernels = {"frames/conv/kernel": (3, 3, 3, 8), "steps/dense/kernel": (24, 9)}
    masks = {name: np.ones(shape, bool) for name, shape in kernels.items()}
    masks["frames/conv/kernel"][..., :3] = False
    masks["steps/dense/kernel"][[4 * 0 + 1, 6 + 1, 12 + 1, 18 + 1]] = False
    before, after = _shrunk(model, masks)
    left = _widths(before, after)
    assert (left["frames"], left["normed"], left["deeper"]) == (5, 5, 5)
    assert after.get_layer("deeper").layer.use_bias


def _block(k, constants, read_twice=False, after="relu"):
    """A residual block whose branch ends in a batch normalization that no weight reaches."""
    layers = k.layers
    inputs = k.Input((6, 6, 3))
    x = layers.Conv2D(4, 3, padding="same", activation="relu", name="stem")(inputs)
    y = layers.Conv2D(5, 3, padding="same", activation="relu", name="into")(x)
    y = layers.Conv2D(4, 3, padding="same", use_bias=False, name="out_of")(y)
    y = layers.BatchNormalization(name="bn")(y)
    branches = [x, y, layers.Conv2D(4, 1, name="third")(x)] if read_twice else [x, y]
    x = layers.Activation(after)(layers.Add(name="add")(branches))
    x = layers.Conv2D(4, 3, padding="same", activation="relu", name="behind")(x)
    model = k.Model(inputs, layers.Dense(3, name="head")(layers.Flatten()(x)))
    small_models.randomise(model)
    layer = model.get_layer("bn")
    layer.moving_mean.assign(np.zeros(4))
    layer.beta.assign(constants)
    return model


@pytest.mark.parametrize("k", small_models.KERASES)
@pytest.mark.parametrize("read_twice", [False, True])
@pytest.mark.parametrize("constants", [[0, 0, 0, 0], [0.7, -0.3, 0, 0.1]])
def test_a_branch_that_is_a_constant_goes(k, constants, read_twice):
    model = _block(k, constants, read_twice)
    masks = {"out_of/kernel": np.zeros((3, 3, 5, 4), bool)}
    before, after = _shrunk(model, masks)
    report = tf_synflow.shrink_report(before, after)
    assert report.gone == ["into", "out_of", "bn"]
    names = [layer.name for layer in after.layers]
    assert ("add_constant" in names) == any(constants)
    assert ("add" in names) == read_twice
    if any(constants):
        np.testing.assert_allclose(after.get_layer("add_constant").offset, constants, atol=1e-7)
    # Training moves the β; so before it, nothing of that.
    pruned = tf_synflow.apply_masks(model, masks, allow_collapse=True)
    small = tf_synflow.shrink(pruned, verbose=False)
    assert tf_synflow.shrink_report(pruned, small).gone == []


@pytest.mark.parametrize("k", small_models.KERASES)
def test_what_is_left_of_a_constant_branch_is_saved_shrunk_again_and_pruned(k, tmp_path):
    model = _block(k, [0.7, -0.3, 0.2, 0.1])
    masks = {"out_of/kernel": np.zeros((3, 3, 5, 4), bool)}
    _, small = _shrunk(model, masks)
    small.save(tmp_path / "small.keras")
    loaded = tf_synflow.load_model(tmp_path / "small.keras")
    images = np.random.RandomState(2).standard_normal((2, 6, 6, 3)).astype("float32")
    np.testing.assert_array_equal(loaded(images), small(images))
    mask = np.ones((3, 3, 4, 4), bool)
    mask[:, :, 1:3] = False
    again, smaller = _shrunk(small, {"behind/kernel": mask})
    np.testing.assert_allclose(smaller.get_layer("add_constant").offset, [0.7, 0.1], atol=1e-7)
    assert _widths(again, smaller)["stem"] == 2
    assert tf_synflow.masks_of(tf_synflow.prune_at_init(small, compression=2, verbose=False))


@pytest.mark.parametrize("k", small_models.KERASES)
def test_a_constant_branch_in_a_model_that_is_called_twice(k):
    block = _block(k, [0.7, -0.3, 0.2, 0.1])
    inner = k.Model(block.inputs, block.get_layer("add").output, name="inner")
    left, right = k.Input((6, 6, 3)), k.layers.Conv2D(3, 1, name="turn")
    x = k.layers.Concatenate()([inner(left), inner(right(left))])
    model = k.Model(left, k.layers.Dense(3, name="head")(k.layers.Flatten()(x)))
    masks = {"inner/out_of/kernel": np.zeros((3, 3, 5, 4), bool)}
    _shrunk(model, masks)  # the Add is what the inner model ends in, so it stays


@pytest.mark.parametrize("k", [keras, tf_keras])
def test_frozen_layers_stay_frozen(k):
    model = _block(k, [0.7, -0.3, 0.2, 0.1])
    model.get_layer("stem").trainable = False
    mask = np.ones((3, 3, 4, 4), bool)
    mask[:, :, 1:3] = False
    for before in (model, tf_synflow.apply_masks(model, {"behind/kernel": mask})):
        small = tf_synflow.shrink(before, verbose=False)
        assert [layer.trainable for layer in small.layers] == [
            layer.trainable for layer in before.layers
        ]


@pytest.mark.parametrize("k", small_models.KERASES)
@pytest.mark.parametrize("dead", [[1, 2], [0, 1, 2, 3]])
def test_a_head_whose_values_are_a_bias_goes_into_the_bias_behind(k, dead):
    model = shrink_models.transformer(k)
    mask = np.ones((8, 4, 3), bool)
    mask[:, dead] = False
    before, after = _shrunk(model, {"attention/value/kernel": mask})
    assert _widths(before, after)["attention"] == max(4 - len(dead), 1)
    pruned = tf_synflow.apply_masks(model, {"attention/value/kernel": mask}, allow_collapse=True)
    small = tf_synflow.shrink(pruned, verbose=False)
    assert _widths(pruned, small)["attention"] == 4  # training moves the bias


@pytest.mark.parametrize("k", small_models.KERASES)
def test_under_a_mask_such_a_head_stays(k):
    layers = k.layers
    inputs = k.Input((5,), dtype="int32")
    x = layers.Embedding(9, 8, mask_zero=True, name="embedding")(inputs)
    x = layers.MultiHeadAttention(4, 3, name="attention")(x, x)
    model = small_models.randomise(k.Model(inputs, layers.Dense(3, name="head")(x)))
    mask = np.ones((8, 4, 3), bool)
    mask[:, :2] = False
    pruned = tf_synflow.apply_masks(model, {"attention/value/kernel": mask})
    before = tf_synflow.strip_pruning(pruned)
    after = tf_synflow.shrink(before, verbose=False)
    tokens = np.array([[3, 0, 4, 5, 0], [0, 0, 0, 0, 0]])  # nothing to attend to in the second
    one, other = (np.asarray(m(tokens, training=False)) for m in (before, after))
    np.testing.assert_allclose(other, one, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("k", small_models.KERASES)
@pytest.mark.parametrize("kind", ["SimpleRNN", "LSTM", "GRU", "GRU before", "Bidirectional"])
def test_a_constant_at_every_step_folds_into_the_bias_of_the_inputs(k, kind):
    layers = k.layers
    inputs = k.Input((3, 6))
    x = layers.Dense(8, "relu", name="first")(inputs)
    if kind == "Bidirectional":
        x = layers.Bidirectional(layers.GRU(4, unroll=True, name="gru"), name="both")(x)
    else:
        options = {"reset_after": False} if "before" in kind else {}
        x = getattr(layers, kind.split()[0])(4, unroll=True, name="own", **options)(x)
    model = small_models.randomise(k.Model(inputs, layers.Dense(3, name="head")(x)))
    model.get_layer("first").bias.assign(np.full(8, 0.7))
    mask = np.ones((6, 8), bool)
    mask[:, :5] = False
    before, after = _shrunk(model, {"first/kernel": mask})
    assert _widths(before, after)["first"] == 3


@pytest.mark.parametrize("k", small_models.KERASES)
@pytest.mark.parametrize("padding, left", [("valid", 3), ("same", 8)])
def test_a_constant_folds_through_a_separable_convolution_without_a_border(k, padding, left):
    layers = k.layers
    inputs = k.Input((6, 6, 3))
    x = layers.Conv2D(8, 1, activation="relu", name="first")(inputs)
    options = {"padding": padding, "depth_multiplier": 2, "use_bias": False}
    x = layers.SeparableConv2D(5, 3, activation="relu", name="separable", **options)(x)
    x = layers.GlobalAveragePooling2D()(x)
    model = small_models.randomise(k.Model(inputs, layers.Dense(3, name="head")(x)))
    model.get_layer("first").bias.assign(np.full(8, 0.7))
    mask = np.ones((1, 1, 3, 8), bool)
    mask[..., :5] = False
    before, after = _shrunk(model, {"first/kernel": mask})
    assert _widths(before, after)["first"] == left


@pytest.mark.parametrize("k", small_models.KERASES)
def test_a_channel_whose_gamma_is_zero_is_a_constant(k):
    layers = k.layers
    inputs = k.Input((6, 6, 3))
    x = layers.BatchNormalization(name="bn")(layers.Conv2D(8, 3, name="first")(inputs))
    x = layers.Flatten()(layers.Conv2D(5, 3, name="second")(layers.ReLU()(x)))
    model = small_models.randomise(k.Model(inputs, layers.Dense(3, name="head")(x)))
    gamma = np.ones(8)
    gamma[:5] = 0
    model.get_layer("bn").gamma.assign(gamma)
    before, after = _shrunk(model, {"head/kernel": np.ones((20, 3), bool)})
    assert _widths(before, after)["first"] == 3
    pruned = tf_synflow.apply_masks(model, {"head/kernel": np.ones((20, 3), bool)})
    assert tf_synflow.shrink(pruned, verbose=False).get_layer("first").filters == 8
