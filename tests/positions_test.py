"""Classes of positions: expanded to all positions they are the windows over all positions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tf_synflow.flow import positions
from tf_synflow.flow.positions import OUTSIDE

many = settings(deadline=None, max_examples=150)
PADDINGS = st.sampled_from(["valid", "same", "causal", "VALID", "Same"]) | st.tuples(
    st.integers(-2, 4), st.integers(-2, 4)
)


@st.composite
def axes(draw):
    """The classes of an axis, numbered as they come, and its size."""
    size = draw(st.integers(1, 14))
    if size == 1 or draw(st.booleans()):
        return draw(st.sampled_from([positions.uniform(size), None])), size
    _, classes = np.unique(
        draw(st.lists(st.integers(0, 4), min_size=size, max_size=size)), return_inverse=True
    )
    return (None if len(set(classes)) == size else classes), size


def each(classes, size):
    """The class of every position."""
    return list(range(size)) if classes is None else classes.tolist()


def expanded(found):
    """Windows at all positions, from those of the classes."""
    classes, windows = found
    return windows.tolist() if classes is None else windows[classes].tolist()


def padding_of(padding, size, kernel, stride, dilation):
    """Before and after, as TensorFlow's documentation has it."""
    if not isinstance(padding, str):
        return padding
    extent = (kernel - 1) * dilation + 1
    if padding.lower() == "valid":
        return 0, 0
    if padding.lower() == "causal":
        return extent - 1, 0
    rest = size % stride or stride
    total = max(extent - rest, 0)
    return total // 2, total - total // 2


def check_classes(found):
    """No class without a position, none twice, all numbered as they come."""
    classes, windows = found
    if classes is None:
        return
    assert len(windows) < len(classes)
    assert len({tuple(window) for window in windows.tolist()}) == len(windows)
    assert list(dict.fromkeys(classes.tolist())) == list(range(len(windows)))
    assert positions.counts(classes).sum() == len(classes)


@many
@given(axes(), st.integers(1, 5), st.integers(1, 4), st.integers(1, 3), PADDINGS)
def test_windows(axis, kernel, stride, dilation, padding):
    classes, size = axis
    before, after = padding_of(padding, size, kernel, stride, dilation)
    padded = range(-before, size + after)
    own = each(classes, size)
    expected = []
    for start in list(padded)[::stride]:
        places = [start + dilation * tap for tap in range(kernel)]
        if places[-1] < size + after:
            expected.append([own[p] if 0 <= p < size else OUTSIDE for p in places])
    if not expected:
        return  # Keras refuses a window larger than what it slides over
    found = positions.seen(classes, positions.windows(size, kernel, stride, dilation, padding))
    assert expanded(found) == expected
    check_classes(found)


@many
@given(
    axes(), st.integers(1, 5), st.integers(1, 4), st.integers(1, 3), st.integers(0, 3),
    st.sampled_from(["valid", "same"]),
)  # fmt: skip
def test_transposed_windows(axis, kernel, stride, dilation, more, padding):
    """The input i reaches the output o by the tap t where o reads i by t in the convolution."""
    classes, size = axis
    extent = (kernel - 1) * dilation + 1
    least = {"valid": (size - 1) * stride + extent, "same": (size - 1) * stride + 1}[padding]
    output_size = least + min(more, stride - 1)
    before, after = padding_of(padding, output_size, kernel, stride, dilation)
    own = each(classes, size)
    expected = np.full((output_size, kernel), OUTSIDE)
    for i in range(size):
        for tap in range(kernel):
            position = i * stride - before + tap * dilation
            if 0 <= position < output_size:
                expected[position, tap] = own[i]
    windows = positions.transposed_windows(size, output_size, kernel, stride, dilation, padding)
    found = positions.seen(classes, windows)
    assert expanded(found) == expected.tolist()
    check_classes(found)


@many
@given(axes(), st.integers(1, 4))
def test_repeated(axis, times):
    classes, size = axis
    found = positions.seen(classes, positions.repeated(size, times))
    assert expanded(found) == [[c] for c in each(classes, size) for _ in range(times)]
    check_classes(found)


@many
@given(st.data())
def test_common(data):
    size = data.draw(st.integers(1, 10))
    one = st.none() | st.lists(st.integers(0, 3), min_size=size, max_size=size).map(
        lambda values: np.unique(values, return_inverse=True)[1]
    )
    given_axes = data.draw(st.lists(one, min_size=1, max_size=4))
    classes, representatives = positions.common(given_axes, size)
    joint = each(classes, size)
    for axis, index in zip(given_axes, representatives, strict=True):
        own = each(axis, size)
        at = own if index is None else [index[c] for c in joint]
        assert at == own
    # The coarsest: positions that no axis tells apart are of one class.
    tuples = list(zip(*(each(axis, size) for axis in given_axes), strict=True))
    if any(index is not None for index in representatives):
        assert len(set(joint)) == len(set(tuples))


@pytest.mark.parametrize("size", [1, 2, 7])
def test_at_the_input_all_positions_are_one_class(size):
    classes = positions.uniform(size)
    assert each(classes, size) == [0] * size
    assert (classes is None) == (size == 1)


def test_a_stack_of_convolutions_knows_its_border_and_one_interior():
    """Of n convolutions of three: n rows at either border, one for all between, at any size."""
    for size in (17, 64, 1024):
        classes = positions.uniform(size)
        for n in range(1, 6):
            classes, windows = positions.seen(classes, positions.windows(size, 3, padding="same"))
            assert len(windows) == 2 * n + 1
            assert max(positions.counts(classes)) == size - 2 * n


def test_classes_do_not_grow_behind_a_stride():
    """A stride of two halves the border: what grows by one is halved."""
    found = {}
    for size in (127, 128, 1024, 4099):
        classes, at = positions.uniform(size), size
        for _ in range(5):
            for stride in (1, 2):
                own = positions.windows(at, 3, stride, padding="same")
                classes, windows = positions.seen(classes, own)
            at = len(windows) if classes is None else len(classes)
        found[size] = len(windows)
    assert max(found.values()) <= 9
