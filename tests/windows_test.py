"""Windows: patches and spread are transposes of each other, in NumPy and in a graph."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tf_synflow.flow import positions, sums
from tf_synflow.flow.positions import OUTSIDE
from tf_synflow.flow.windows import Windows, times, windows_over

many = settings(deadline=None, max_examples=60)


@st.composite
def windows(draw):
    """Windows along one to three axes, with padding or without, some representatives unseen."""
    sizes = draw(st.lists(st.integers(1, 4), min_size=1, max_size=3))
    axes = []
    for size in sizes:
        shape = draw(st.tuples(st.integers(1, 4), st.integers(1, 3)))
        places = st.lists(st.integers(OUTSIDE, size - 1), min_size=shape[0] * shape[1],
                          max_size=shape[0] * shape[1])  # fmt: skip
        axes.append(np.array(draw(places)).reshape(shape))
    return Windows(axes, sizes), axes, sizes


def identity(*sizes):
    return Windows([np.arange(size)[:, np.newaxis] for size in sizes], sizes)


def values(*shape, dtype=np.float64, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def by_hand(rows, axes, sizes, padding):
    """The patches, looked up one by one."""
    volume = rows.reshape(*sizes, -1)
    patches = []
    for at in np.ndindex(*(len(axis) for axis in axes)):
        for place in np.ndindex(*(axis.shape[1] for axis in axes)):
            index = tuple(axis[a, p] for axis, a, p in zip(axes, at, place, strict=True))
            inside = OUTSIDE not in index
            patches.append(volume[index] if inside else np.full(volume.shape[-1], padding))
    return np.reshape(patches, (np.prod([len(axis) for axis in axes]), -1))


@many
@given(windows(), st.integers(1, 3), st.sampled_from([0.0, -1e30]))
def test_patches(made, channels, padding):
    own, axes, sizes = made
    rows = values(np.prod(sizes), channels)
    np.testing.assert_array_equal(
        own.patches(rows, padding), by_hand(rows, axes, sizes, padding), strict=True
    )
    assert own.shape == tuple(len(axis) for axis in axes)
    ones = by_hand(np.ones((np.prod(sizes), 1)), axes, sizes, 0.0)
    np.testing.assert_array_equal(own.inside(), ones.sum(1))


@many
@given(windows(), st.integers(1, 3))
def test_spread_is_the_transpose_of_patches(made, channels):
    own, _, sizes = made
    rows = values(np.prod(sizes), channels)
    patches = own.patches(rows)
    signal = values(*patches.shape, seed=1)
    back = own.spread(signal)
    assert back.shape == rows.shape
    forth, back = np.vdot(patches, signal), np.vdot(rows, back)
    np.testing.assert_allclose(forth, back, rtol=1e-12, atol=1e-12)


@settings(deadline=None, max_examples=12)
@given(windows(), st.integers(1, 3), st.sampled_from([tf.float32, tf.float64]))
def test_gather_and_its_gradient_in_a_graph(made, channels, dtype):
    own, axes, sizes = made
    rows = tf.constant(values(np.prod(sizes), channels), dtype)
    expected = by_hand(rows.numpy(), axes, sizes, 0.0)
    signal = values(*expected.shape, dtype=dtype.as_numpy_dtype, seed=1)

    def run(rows):
        with tf.GradientTape() as tape:
            tape.watch(rows)
            patches = own.gather(rows)
            total = tf.reduce_sum(patches * tf.reshape(signal, patches.shape))
        return patches, tape.gradient(total, rows)

    rtol = 1e-12 if dtype == tf.float64 else 1e-5
    for function in (run, tf.function(run, autograph=False).get_concrete_function(rows)):
        patches, gradient = function(rows)
        assert patches.dtype == gradient.dtype == dtype
        assert patches.shape == (own.number, own.places, channels)
        np.testing.assert_array_equal(tf.reshape(patches, expected.shape), expected)
        np.testing.assert_allclose(gradient, own.spread(signal), rtol, atol=rtol)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_dtype_stays(dtype):
    own = Windows([positions.windows(5, 3, padding="same")], [5])
    rows = values(5, 2, dtype=dtype)
    patches = own.patches(rows)
    assert patches.dtype == own.spread(patches).dtype == dtype


@pytest.mark.parametrize("sizes", [(1,), (5,), (2, 3), (1, 3, 2)])
def test_windows_of_one_place_at_every_position_change_nothing(sizes):
    own = identity(*sizes)
    rows = values(np.prod(sizes), 3)
    assert own.patches(rows) is rows and own.spread(rows) is rows
    np.testing.assert_array_equal(own.gather(tf.constant(rows))[:, 0], rows)
    np.testing.assert_array_equal(own.inside(), 1)


@pytest.mark.parametrize(
    "axis", [[[1], [0]], [[0], [0]], [[0]], [[OUTSIDE], [0], [1]], [[0], [1], [OUTSIDE]]]
)
def test_what_only_looks_like_the_identity(axis):
    own = Windows([np.array(axis)], [2])
    rows = values(2, 3)
    expected = by_hand(rows, [np.array(axis)], [2], 0.0)
    np.testing.assert_array_equal(own.patches(rows), expected)
    np.testing.assert_array_equal(tf.squeeze(own.gather(tf.constant(rows)), 1), expected)


def test_the_largest_under_windows_ignores_the_padding():
    own = Windows([positions.windows(4, 3, 2, padding="same")], [4])
    rows = tf.constant([[-5.0], [-4.0], [-3.0], [-7.0]], tf.float64)
    with tf.GradientTape() as tape:
        tape.watch(rows)
        largest = tf.reduce_max(own.gather(rows, padding=rows.dtype.min), axis=1)
    np.testing.assert_array_equal(largest, [[-3.0], [-3.0]])
    np.testing.assert_array_equal(tape.gradient(largest, rows), [[0], [0], [2], [0]])


def test_infinity_stays_where_it_is():
    own = Windows([positions.windows(4, 3, padding="same")], [4])
    rows = values(4, 1)
    rows[0] = np.inf
    found = own.gather(tf.constant(rows))
    assert np.isinf(found).sum() == 2 and not np.isnan(found).any()


@many
@given(windows(), st.integers(1, 3), st.integers(1, 3))
def test_a_product_under_windows_is_that_of_the_patches(made, channels, outputs):
    own, _, sizes = made
    rows = values(np.prod(sizes), channels)
    kernel = values(own.places, channels, outputs)
    expected = (own.patches(rows) @ kernel.reshape(-1, outputs)).reshape(*own.shape, outputs)
    for shape in ([-1, channels], [*sizes, channels]):  # in a row, and along the axes
        found = times(tf.reshape(rows, shape), tf.constant(kernel), own)
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


@many
@given(st.data(), st.integers(1, 3))
def test_windows_of_sums_are_the_sums_of_windows(data, channels):
    """Over groups of windows along each axis, or over each window."""
    _, axes, sizes = data.draw(windows())
    groups = [
        data.draw(st.none() | st.just(np.arange(len(axis)) // 2), label="groups") for axis in axes
    ]
    matrices = [
        axis if own is None else sums.summing(axis, own, np.arange(size), are_sums=False)
        for axis, own, size in zip(axes, groups, sizes, strict=True)
    ]
    own = windows_over(matrices, [axis.shape[1] for axis in axes], sizes)
    rows = values(np.prod(sizes), channels)
    patches = Windows(axes, sizes).patches(rows).reshape(*(len(axis) for axis in axes), -1)
    for i, some in enumerate(groups):
        if some is not None:
            patches = np.add.reduceat(patches, np.unique(some, return_index=True)[1], axis=i)
    assert (own.number, own.places) == (
        np.prod(patches.shape[:-1]), np.prod([axis.shape[1] for axis in axes])
    )  # fmt: skip
    expected = patches.reshape(own.number, -1)
    np.testing.assert_allclose(own.patches(rows), expected, 1e-12, 1e-12)
    found = own.patches(rows.astype(np.float32))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, 1e-5, 1e-5)
    columns = data.draw(st.lists(st.integers(0, expected.shape[1] - 1), max_size=5).map(np.array))
    at = own.patches_at(rows, columns.astype(int))
    np.testing.assert_allclose(at, expected[:, columns.astype(int)], 1e-12, 1e-12)
    signal = values(*expected.shape, seed=1)
    np.testing.assert_allclose(
        np.sum(own.spread(signal) * rows), np.sum(signal * expected), 1e-10, 1e-10
    )
