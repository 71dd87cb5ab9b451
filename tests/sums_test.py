"""Sums over positions: what is read alike has the same gradient, and only its sum is needed."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from positions_test import PADDINGS, axes, each

from tf_synflow.flow import positions, sums
from tf_synflow.flow.positions import OUTSIDE

many = settings(deadline=None, max_examples=150)


def numbered(labels):
    """Groups, numbered as they come."""
    order = {label: i for i, label in enumerate(dict.fromkeys(labels))}
    return np.array([order[label] for label in labels], int)


@st.composite
def windows(draw, size):
    """Windows over an axis, of a convolution or any others."""
    if draw(st.booleans()):
        kernel, stride, dilation = (draw(st.integers(1, n)) for n in (4, 3, 2))
        index = positions.windows(size, kernel, stride, dilation, draw(PADDINGS))
        if len(index):
            return index
    shape = draw(st.integers(1, 6)), draw(st.integers(1, 3))
    place = st.integers(OUTSIDE, size - 1)
    return np.array(draw(st.lists(place, min_size=shape[0] * shape[1],
                                  max_size=shape[0] * shape[1]))).reshape(shape)  # fmt: skip


def matrices(index, size, generator):
    """What a kernel of one channel does under windows: a random weight for each place."""
    kernel = generator.random(index.shape[1])
    matrix = np.zeros((len(index), size))
    for window, row in zip(index, matrix, strict=True):
        for place, position in enumerate(window):
            if position != OUTSIDE:
                row[position] += kernel[place]
    return matrix


@many
@given(st.data(), st.integers(1, 12), st.integers(1, 3), st.integers(0, 10**6))
def test_groups_are_the_positions_with_equal_gradients(data, size, depth, seed):
    """Of the sum behind a stack of windows; and no two groups have the same, if all are read."""
    generator = np.random.default_rng(seed)
    stack, at = [], size
    for _ in range(depth):
        stack.append((data.draw(windows(at)), at))
        at = len(stack[-1][0])
    groups, gradient, all_read = np.zeros(at, int), np.ones(at), True
    for index, before in reversed(stack):
        groups = sums.alike(before, [(groups, index)])
        groups = np.arange(before) if groups is None else groups
        gradient = gradient @ matrices(index, before, generator)
        all_read &= bool(gradient.all())
    gradient = np.round(gradient, 9)
    assert len(set(zip(groups, gradient, strict=True))) == groups.max() + 1
    if all_read:
        np.testing.assert_array_equal(groups, numbered(gradient))


@many
@given(st.data(), st.integers(1, 9))
def test_groups_of_several_readers_are_what_none_tells_apart(data, size):
    labels = st.lists(st.integers(0, 3), min_size=size, max_size=size)
    readers = data.draw(st.lists(labels, max_size=3))
    found = sums.alike(size, [(numbered(own), None) for own in readers])
    expected = numbered(list(zip(*readers, strict=True)) or [()] * size)
    np.testing.assert_array_equal(np.arange(size) if found is None else found, expected)


@many
@given(st.data(), axes(), st.integers(0, 10**6))
def test_summing_is_the_sum_under_the_windows_of_a_group(data, axis, seed):
    """Of an axis in classes, and of one that holds the sums of what the windows read alike."""
    classes, size = axis
    index = data.draw(windows(size))
    groups = numbered(data.draw(st.lists(st.integers(0, 3), min_size=len(index),
                                         max_size=len(index))))  # fmt: skip
    held = np.array(each(classes, size))
    values = np.random.default_rng(seed).random(held.max() + 1)
    at = values[held]  # of every position
    expected = np.zeros((groups.max() + 1, index.shape[1]))
    for window, group in zip(index, groups, strict=True):
        for place, position in enumerate(window):
            expected[group, place] += at[position] if position != OUTSIDE else 0

    of_classes = sums.summing(index, groups, held, are_sums=False)
    np.testing.assert_allclose((of_classes @ values).reshape(expected.shape), expected, 1e-12)
    alike = sums.alike(size, [(groups, index)])
    alike = np.arange(size) if alike is None else alike
    summed = np.bincount(alike, at)
    of_sums = sums.summing(index, groups, alike, are_sums=True)
    np.testing.assert_allclose((of_sums @ summed).reshape(expected.shape), expected, 1e-12)


@many
@given(st.data(), st.integers(1, 9))
def test_coarser_groups_hold_those_of_each_division_whole(data, size):
    labels = st.lists(st.integers(0, 4), min_size=size, max_size=size).map(numbered)
    divisions = data.draw(st.lists(labels, min_size=1, max_size=3))
    expected, changed = np.arange(size), True
    while changed:  # positions that share a group get the lowest number among them
        before = expected.copy()
        for own in divisions:
            for group in range(own.max() + 1):
                expected[own == group] = expected[own == group].min()
        changed = (before != expected).any()
    np.testing.assert_array_equal(sums.coarser(divisions), numbered(expected))


def test_whatever_is_fewer_is_held_along_an_axis():
    index = positions.windows(9, 3, padding="same")
    classes, few, many = positions.uniform(9), np.zeros(9, int), np.arange(9)
    seen, behind, groups = sums.behind(index, 9, classes, None, many)
    assert (len(seen), groups) == (3, None) and behind is not None
    matrix, behind, groups = sums.behind(index, 9, classes, None, few)
    assert (matrix.shape, behind) == ((3, 1), None) and groups is few
    np.testing.assert_array_equal(matrix.toarray().ravel(), [8, 9, 8])


def test_positions_that_no_window_reads_are_held_too():
    """As the last of an even number of them, under every second one."""
    matrix, _, _ = sums.behind(positions.windows(6, 1, 2), 6, None, None, np.zeros(3, int))
    np.testing.assert_array_equal(matrix.toarray(), [[1, 0, 1, 0, 1, 0]])


def test_sums_end_where_each_position_behind_is_on_its_own():
    """Of what is read under every second window only those that are read."""
    index, groups = positions.windows(5, 1, 2), np.array([0, 1, 2, 1, 3])
    matrix, classes, after = sums.behind(index, 5, None, groups, None)
    assert classes is None and after is None
    np.testing.assert_array_equal(matrix @ [5, 6, 7, 8], [5, 7, 8])
