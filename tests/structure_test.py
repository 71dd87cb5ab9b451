"""Structures: blocks, channels and m of n in the masks, exact counts, flow left."""

import keras
import numpy as np
import pytest
import tf_keras
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import KERASES, mlp, randomise, residual

import tf_synflow
from tf_synflow import errors, quantities
from tf_synflow.masks import acceleration
from tf_synflow.masks import structure as structures
from tf_synflow.masks.select import select
from tf_synflow.masks.structure import Blocks, Channels, MOfN
from tf_synflow.targets import TARGETS

each_keras = pytest.mark.parametrize("k", KERASES)


def of(compression):
    """Few rounds, for what holds after any of them."""
    return tf_synflow.SynFlowPruningSchedule(compression, rounds=5)


SHAPES = st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 7))


def blocks_of(array, structure):
    """The entries of each block, block by block: what `pooled` adds up, said otherwise."""
    *_, inputs, outputs = array.shape
    for position in array.reshape(-1, inputs, outputs):
        for i in range(0, inputs, structure.inputs):
            for o in range(0, outputs, structure.outputs):
                yield position[i : i + structure.inputs, o : o + structure.outputs]


@given(SHAPES, st.integers(1, 4), st.integers(1, 5))
def test_blocks_add_up_and_spread(shape, outputs, inputs):
    structure = Blocks(outputs, inputs)
    array = np.random.RandomState(0).random_sample(shape)
    groups = structure.groups(shape)
    pooled = groups.pooled(array)
    sums = [block.sum() for block in blocks_of(array, structure)]
    np.testing.assert_allclose(pooled.ravel(), sums)
    spread = groups.spread(pooled, shape)
    assert spread.shape == shape
    for block, total in zip(blocks_of(spread, structure), sums, strict=True):
        np.testing.assert_allclose(block, total)


@given(st.permutations(range(5)), st.permutations([0, 0, 1, 2]))
def test_numbers_in_any_order_add_up_and_spread(rows, columns):
    array = np.random.RandomState(0).random_sample((5, 4))
    groups = structures.Groups(np.array(rows), np.array(columns))
    expected = np.zeros((5, 3))
    np.add.at(expected, np.ix_(rows, columns), array)
    np.testing.assert_allclose(groups.pooled(array), expected)
    assert groups.spread(expected, (20,)).shape == (20,)


@settings(deadline=None)
@given(
    st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 5), st.integers(1, 4)),
    st.sampled_from([Blocks(1, 4), Blocks(2, 1), Blocks(3, 2), Channels(), Channels(2)]),
    st.floats(0, 1),
    st.integers(0, 100),
)
def test_some_rows_and_columns_of_a_kernel_add_up_to_the_same(shape, structure, share, seed):
    """What is left out being zero."""
    random = np.random.RandomState(seed)
    array = random.random_sample(shape).reshape(-1, shape[-1])
    rows, columns = (np.flatnonzero(random.random_sample(size) < share) for size in array.shape)
    some = np.ix_(rows, columns)
    left = np.zeros_like(array)
    left[some] = array[some]
    whole = structure.groups(shape)
    expected = whole.spread(whole.pooled(left), array.shape)[some]
    groups = whole.within(rows, columns)
    found = groups.spread(groups.pooled(array[some]), array[some].shape)
    np.testing.assert_allclose(found, expected, rtol=1e-14)


@pytest.mark.parametrize(
    ("structure", "scores", "density", "expected"),
    [
        # 1x2: two inputs of one output. Sums 4, 6, 12, 2.
        ("1x2", [[1, 5], [3, 1], [9, 1], [3, 1]], 0.5, [[0, 1], [0, 1], [1, 0], [1, 0]]),
        # 2x1: two outputs of one input. Sums 6, 4, 10, 4: the first of equals stays.
        ("2x1", [[1, 5], [3, 1], [9, 1], [3, 1]], 0.75, [[1, 1], [1, 1], [1, 1], [0, 0]]),
        ("channel", [[1, 5], [3, 1], [9, 1], [3, 1]], 0.5, [[1, 0], [1, 0], [1, 0], [1, 0]]),
        # The two highest of five go one by one; of the others the two next, 4 and 3, go last.
        ("channel:2", [[4, 9, 1, 3, 8]], 0.5, [[1, 1, 0, 1, 1]]),
        ("channel:2", [[4, 9, 1, 3, 8]], 0.4, [[0, 1, 0, 0, 1]]),
        ("channel:2", [[4, 9, 1, 3, 8]], 0.2, [[0, 1, 0, 0, 0]]),
        ("1:2", [[1, 5], [3, 1], [9, 1], [3, 1]], 0.5, [[0, 1], [1, 0], [1, 1], [0, 0]]),
        ("1:2", [[1, 5], [3, 1], [9, 1], [3, 1]], 0.25, [[0, 1], [0, 0], [1, 0], [0, 0]]),
        # An edge: the last block holds one weight, and counts with its mean.
        ("1x2", [[1], [1], [3]], 1 / 3, [[0], [0], [1]]),
    ],
)
def test_tables(structure, scores, density, expected):
    scores = {"d/kernel": np.array(scores, float)}
    own = {"d/kernel": structures.parse(structure)}
    masks = {"d/kernel": np.ones(scores["d/kernel"].shape, bool)}
    found = select(scores, masks, density, structures=own)
    assert found["d/kernel"].astype(int).tolist() == expected


@settings(deadline=None)
@given(
    st.lists(SHAPES, min_size=1, max_size=3),
    st.sampled_from(["1x4", "2x1", "3x2", "channel", "channel:2", "channel:3", "2:4", "1:3"]),
    st.sampled_from(["global", "layer"]),
    st.floats(0.05, 1),
)
def test_whole_groups_as_few_as_hold_the_weights_asked_for(shapes, structure, scope, density):
    random = np.random.RandomState(len(shapes))
    own = structures.parse(structure)
    names = [f"l{i}/kernel" for i in range(len(shapes))]
    scores = {name: random.random_sample(s) for name, s in zip(names, shapes, strict=True)}
    masks = {name: np.ones(s, bool) for name, s in zip(names, shapes, strict=True)}
    total = sum(mask.size for mask in masks.values())
    asked = quantities.kept_count(total, density)
    for one in (1.0, (1 + density) / 2, density):  # rounds
        masks = select(scores, masks, one, scope, structures=dict.fromkeys(names, own))
    kept = sum(int(mask.sum()) for mask in masks.values())
    if isinstance(own, MOfN):
        assert kept == asked
        if scope == "global" and asked <= sum(own.capacity(s) for s in shapes):
            for mask in masks.values():
                assert max(b.sum() for b in blocks_of(mask, Blocks(1, own.n))) <= own.m
        return
    multiple = own.multiple if isinstance(own, Channels) else 1
    largest = multiple * max(int(own.groups(s).pooled(np.ones(s)).max()) for s in shapes)
    assert asked <= kept < asked + largest * (len(shapes) if scope == "layer" else 1)
    for mask in masks.values():
        groups = own.groups(mask.shape)
        whole = groups.spread(groups.pooled(mask.astype(int)), mask.shape)
        sizes = groups.spread(groups.pooled(np.ones(mask.shape, int)), mask.shape)
        assert ((whole == 0) | (whole == sizes)).all()
        left = np.count_nonzero(whole[..., 0, :].any(tuple(range(whole.ndim - 2))))
        assert left < multiple or left % multiple == 0 or left == mask.shape[-1]


@each_keras
@pytest.mark.parametrize("structure", ["1x4", "1x16", "2x1", "4x1", "channel", "2:4"])
def test_masks_of_a_model(k, structure):
    model = mlp(k, units=(32, 16, 8))
    masks = tf_synflow.compute_masks(model, schedule=of(4), structure=structure, verbose=False)
    asked = quantities.kept_count(masks.size, 0.25)
    # To the largest group: a unit with the 32 weights that lead into it and the 16 that read it.
    assert asked <= masks.kept < asked + (32 + 16 if structure == "channel" else 32)
    pruned = tf_synflow.apply_masks(model, masks)  # raises where no flow is left
    assert tf_synflow.masks_of(pruned) == masks
    whole = [name for name in masks if structure != "channel" or name != "d2/kernel"]
    assert masks.info["structure"] == dict.fromkeys(whole, structure)


@pytest.mark.parametrize("inputs", [8, 6])  # of which the last block is half as large
def test_tied_groups_go_together_as_in_the_papers_code(inputs):
    scores = {"d/kernel": np.ones((inputs, 10))}
    scores["d/kernel"][:4, 0] = 2
    masks = {"d/kernel": np.ones((inputs, 10), bool)}
    own = {"d/kernel": structures.parse("1x4")}
    kept = select(scores, masks, 0.5, ties="reference", structures=own)["d/kernel"]
    assert kept.sum() == kept[:4, 0].sum() == 4
    assert select(scores, masks, 0.5, structures=own)["d/kernel"].sum() >= 5 * inputs


@pytest.mark.parametrize("compression", [2, 4])
@pytest.mark.parametrize("structure", ["1x4", "channel", "2:4"])
def test_in_a_hundred_rounds_every_layer_keeps_its_share(structure, compression):
    """In so many, more goes with a channel at times than the next round would take."""
    model = mlp(keras, units=(64, 64, 12))
    masks = tf_synflow.compute_masks(
        model, compression, structure=structure, scope="layer", verbose=False
    )
    asked = quantities.kept_count(masks.size, 1 / compression)
    assert asked <= masks.kept < asked + len(masks) * (64 + 64)


@each_keras
def test_blocks_of_a_known_size_are_counted_exactly(k):
    model = mlp(k, units=(64, 32, 16), use_bias=False)
    for compression in (1.5, 2, 10, 33):
        masks = tf_synflow.compute_masks(
            model, schedule=of(compression), structure="1x4", verbose=False
        )
        blocks = masks.size // 4
        assert masks.kept == 4 * quantities.kept_count(blocks, 1 / compression)


@each_keras
def test_no_structure_is_blocks_of_one(k):
    model = residual(k)
    plain = tf_synflow.compute_masks(model, schedule=of(5), verbose=False)
    assert tf_synflow.compute_masks(model, schedule=of(5), structure="1x1", verbose=False) == plain


def test_structures_by_name_and_depthwise_channels():
    layers = keras.layers
    inputs = keras.Input((6, 6, 3))
    x = layers.Conv2D(8, 3, name="stem")(inputs)
    x = layers.DepthwiseConv2D(3, depth_multiplier=2, name="deep")(x)
    x = layers.Conv2D(8, 1, name="point")(x)
    x = layers.GlobalAveragePooling2D()(x)
    model = randomise(keras.Model(inputs, layers.Dense(8, name="head")(x)))
    masks = tf_synflow.compute_masks(
        model,
        schedule=of(3),
        structure={"head/*": "1x4", "point/*": "2x1", "deep/*": "channel"},
        verbose=False,
    )
    assert masks.info["structure"] == {
        "deep/depthwise_kernel": "channel",
        "point/kernel": "2x1",
        "head/kernel": "1x4",
    }
    per_channel = masks["deep/depthwise_kernel"].sum((0, 1))
    assert set(per_channel.ravel()) <= {0, 9}
    point = masks["point/kernel"].astype(int)
    pairs = Blocks(2, 1).groups(point.shape).pooled(point)
    assert set(pairs.ravel()) <= {0, 2}


def separable(k):
    layers = k.layers
    inputs = k.Input((8, 8, 3))
    x = layers.Conv2D(8, 3, strides=2, name="stem")(inputs)
    x = layers.Conv2D(16, 1, name="p1")(x)
    x = layers.Conv2D(16, 1, name="p2")(x)
    return randomise(
        k.Model(inputs, layers.Dense(4, name="head")(layers.GlobalAveragePooling2D()(x)))
    )


@each_keras
def test_a_target_prunes_what_it_accelerates(k):
    model = separable(k)
    wasm = tf_synflow.compute_masks(model, schedule=of(10), target="wasm", verbose=False)
    assert set(wasm) == {"p1/kernel", "p2/kernel"}
    assert wasm.kept == quantities.kept_count(8 * 16 + 16 * 16, 0.1)
    assert wasm.info["structure"] == {} and wasm.info["target"] == "wasm"
    assert wasm.info["scope"] == "layer"
    assert max(mask.mean() for mask in wasm.values()) < 0.11
    x86 = tf_synflow.compute_masks(model, schedule=of(2), target="cpu-x86", verbose=False)
    assert x86.info["structure"] == {"head/kernel": "1x4"}
    board = tf_synflow.compute_masks(model, schedule=of(2), target="microcontroller", verbose=False)
    assert set(board) == {"stem/kernel", "p1/kernel", "p2/kernel", "head/kernel"}
    assert set(board.info["structure"]) == {"stem/kernel", "p1/kernel", "p2/kernel"}
    assert set(board.info["structure"].values()) == {"channel"}
    some = tf_synflow.prune_at_init(
        model, schedule=of(4), target="wasm", prunable="p2/*", verbose=False
    )
    assert set(tf_synflow.masks_of(some)) == {"p2/kernel"}


def stem_of(k, **arguments):
    layers = k.layers
    inputs = k.Input((9, 9, 3))
    x = layers.ZeroPadding2D(1)(inputs) if arguments.get("padding") == "valid" else inputs
    x = layers.Conv2D(8, 3, name="stem", **arguments)(x)
    x = layers.Conv2D(16, 1, name="point")(x)
    return randomise(k.Model(inputs, layers.GlobalAveragePooling2D()(x)))


@each_keras
@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({"strides": 2, "padding": "same"}, "its stem 'stem' has padding='same'"),
        ({"strides": 1, "padding": "valid"}, "no layer of this model is a 3x3 convolution"),
    ],
)
def test_a_stem_behind_which_nothing_runs_sparse(k, arguments, why):
    model = stem_of(k, **arguments)
    for target in ("wasm", "cpu-arm"):
        with pytest.warns(UserWarning, match=f"target='{target}'.*{why}.*ZeroPadding2D") as said:
            tf_synflow.compute_masks(model, 4, target=target, verbose=False)
        assert said[0].filename == __file__


@each_keras
def test_a_stem_as_xnnpack_takes_it(k, recwarn):
    model = stem_of(k, strides=2, padding="valid")
    tf_synflow.compute_masks(model, 4, target="wasm", verbose=False)
    tf_synflow.compute_masks(separable(k), 4, target="cpu-x86", verbose=False)
    assert not [one for one in recwarn if issubclass(one.category, UserWarning)]


@pytest.mark.parametrize("target", TARGETS)
def test_every_target_accelerates_something(target):
    shapes = {"stem/kernel": (1, 1, 3, 8), "head/kernel": (8, 4)}
    names, accelerated = acceleration.of_target(target, shapes, 4)
    assert names and accelerated.kernels


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"structure": "1y4"}, errors.UnknownNameError, "structure.*'1y4'.*1x4"),
        ({"structure": "0x4"}, errors.UnknownNameError, "structure"),
        ({"structure": "4:2"}, errors.UnknownNameError, "structure"),
        ({"structure": Channels(multiple=0)}, errors.UnknownNameError, "channel:0"),
        ({"structure": {"*": Blocks(0, 4)}}, errors.UnknownNameError, "0x4"),
        ({"structure": MOfN(3, 2)}, errors.UnknownNameError, "3:2"),
        ({"structure": {"nothing/*": "1x4"}}, errors.NoPrunableWeightsError, "none of which"),
        ({"structure": "2:4", "compression": 1.5}, errors.QuantityError, "at least 2"),
        ({"target": "toaster"}, errors.UnknownNameError, "target.*'toaster'.*wasm"),
        ({"target": "wasm"}, errors.NoPrunableWeightsError, "received no 1x1 convolutions"),
    ],
)
def test_bad_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        tf_synflow.compute_masks(mlp(tf_keras), **{"compression": 2, **arguments}, verbose=False)


def test_too_few_zeros_for_a_target():
    with pytest.raises(errors.QuantityError, match="more than 3,.*67%"):
        tf_synflow.compute_masks(separable(keras), 3, target="wasm", verbose=False)


def test_kernels_whose_axes_are_others_are_pruned_one_by_one():
    layers = keras.layers
    inputs = keras.Input((6, 4))
    x = layers.Conv1D(8, 3, name="conv")(inputs)
    x = layers.Conv1DTranspose(8, 3, name="up")(x)
    x = layers.MultiHeadAttention(2, 4, name="attention")(x, x)
    x = layers.LSTM(4, name="lstm")(x)
    model = randomise(keras.Model(inputs, layers.Dense(4, name="head")(x)))
    masks = tf_synflow.compute_masks(model, schedule=of(2), structure="1x4", verbose=False)
    assert set(masks.info["structure"]) == {"conv/kernel", "head/kernel"}


def test_a_large_block_stays_beside_single_weights():
    """Its mean is a sixteenth of what a single weight scores that all flow goes through."""
    keras.utils.set_random_seed(0)
    conv = keras.layers.Conv2D
    hidden = [conv(16, 3, padding="same", activation="relu"), conv(32, 1, activation="relu")]
    hidden += [keras.layers.MaxPooling2D(2), conv(32, 3, padding="same", activation="relu")]
    hidden += [conv(64, 1, activation="relu"), keras.layers.GlobalAveragePooling2D()]
    heads = [keras.layers.Dense(48, "relu", name="wide"), keras.layers.Dense(12)]
    model = keras.Sequential([keras.Input((12, 12, 4)), *hidden, *heads])
    own = {"wide/kernel": "1x16"}
    masks = tf_synflow.compute_masks(model, 400, structure=own, verbose=False)
    asked = quantities.kept_count(masks.size, 1 / 400)
    assert asked <= masks.kept < asked + 16
    tf_synflow.apply_masks(model, masks)  # which refuses a model without a path
