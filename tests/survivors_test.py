"""What is left of a kernel: whatever is taken out of it, it is the plain masked matrix."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tf_synflow.flow.windows import Windows
from tf_synflow.masks.survivors import Survivors

many = settings(deadline=None, max_examples=80)
SHAPES = [(), (1,), (7,), (1, 1), (6, 1), (1, 6), (8, 5), (2, 3, 3, 4), (3, 1, 2, 2), (30, 20)]


def kernel(shape, dtype=np.float64, seed=0):
    return np.abs(np.random.default_rng(seed).standard_normal(shape)).astype(dtype) + 0.1


def as_matrix(array):
    return array.reshape(-1, array.shape[-1] if array.ndim else 1)


def check(survivors, absolute, mask):
    """Everything that is asked of survivors, against the whole kernel and its mask."""
    masked = as_matrix(absolute * mask)
    inputs, outputs = masked.shape
    generator = np.random.default_rng(1)
    rows = generator.random((3, inputs)).astype(absolute.dtype)
    signals = generator.random((3, outputs)).astype(absolute.dtype)
    rtol = 1e-12 if absolute.dtype == np.float64 else 1e-5
    times, back = survivors.times(rows), survivors.times_transposed(signals)
    np.testing.assert_allclose(times, rows @ masked, rtol)
    np.testing.assert_allclose(back, signals @ masked.T, rtol)
    assert times.dtype == back.dtype == survivors.dense().dtype == absolute.dtype
    np.testing.assert_array_equal(survivors.dense(), absolute * mask, strict=True)
    np.testing.assert_array_equal(survivors.full_mask(), mask, strict=True)
    assert survivors.count == mask.sum() and survivors.size == mask.size
    assert survivors.shape == absolute.shape
    assert survivors.mask.shape == survivors.values.shape
    assert survivors.mask.sum() == survivors.count
    assert not survivors.values[~survivors.mask].any()
    # `live` and `spread` undo each other, and leave out nothing that is left.
    numbers = np.arange(1.0, absolute.size + 1).reshape(absolute.shape)
    live = survivors.live(numbers)
    assert live.shape == survivors.mask.shape
    np.testing.assert_array_equal(survivors.spread(live * survivors.mask), numbers * mask)
    flat = live[survivors.mask]
    assert (np.diff(flat) > 0).all()  # in the order of the kernel's positions
    np.testing.assert_array_equal(survivors.inputs(rows) @ survivors.values,
                                  survivors.outputs(times))  # fmt: skip


def keep(survivors, mask):
    """Removes all weights but those of a mask over the live rows and columns."""
    survivors.remove(np.flatnonzero(survivors.mask & ~mask))


@st.composite
def histories(draw):
    """A shape, a mask to begin with or None, and the masks of the rounds, ever fewer."""
    shape = draw(st.sampled_from(SHAPES))
    generator = np.random.default_rng(draw(st.integers(0, 10**6)))
    masks = []
    mask = np.ones(shape, bool)
    for _ in range(draw(st.integers(1, 6))):
        share = draw(st.sampled_from([0.0, 0.02, 0.2, 0.6, 0.95, 1.0]))
        mask = mask & (generator.random(shape) >= share)
        if draw(st.booleans()) and len(shape) > 1:  # whole rows and columns go
            mask = mask & (generator.random((*shape[:-1], 1)) >= share)
            mask = mask & (generator.random(shape[-1]) >= share)
        masks.append(np.asarray(mask))
    return shape, masks, draw(st.booleans())


@many
@given(histories(), st.sampled_from([np.float64, np.float32]))
def test_any_sequence_of_removals(history, dtype):
    shape, masks, masked_at_first = history
    absolute = kernel(shape, dtype)
    survivors = Survivors(absolute.copy(), masks[0] if masked_at_first else None)
    check(survivors, absolute, masks[0] if masked_at_first else np.ones(shape, bool))
    for mask in masks:
        keep(survivors, survivors.live(mask))
        check(survivors, absolute, mask)
    # Begun anew it is as good as new.
    survivors.restart(absolute.copy(), masks[0])
    check(survivors, absolute, masks[0])
    survivors.restart(absolute.copy())
    check(survivors, absolute, np.ones(shape, bool))


@many
@given(st.integers(0, 10**6), st.sampled_from([0.0, 0.5, 0.9]), st.booleans())
def test_under_windows_as_over_their_patches(seed, share, channels_die):
    """With dead places of windows, dead channels and padding."""
    generator = np.random.default_rng(seed)
    axis = np.array([[-1, 0], [0, 1], [1, 2], [2, -1]])
    windows, mask = Windows([axis, axis], [3, 3]), generator.random((2, 2, 5, 4)) >= share
    if channels_die:
        mask &= generator.random((5, 1)) >= share
    survivors = Survivors(kernel(mask.shape), mask)
    rows, signal = generator.random((9, 5)), generator.random((16, 4))
    patches, live = windows.patches(rows), survivors.inputs(rows, windows)
    np.testing.assert_array_equal(live, survivors.inputs(patches), strict=True)
    np.testing.assert_array_equal(survivors.times(rows, windows), survivors.times(patches))
    back = windows.spread(survivors.times_transposed(signal))
    found = survivors.times_transposed(signal, windows, channels=5)
    np.testing.assert_allclose(found, back, 1e-14, strict=True)
    np.testing.assert_allclose(
        survivors.all_inputs(live, windows, channels=5),
        windows.spread(survivors.all_inputs(live)),
        1e-14,
        strict=True,
    )


def test_dead_rows_and_columns_are_taken_out():
    absolute = kernel((10, 8))
    survivors = Survivors(absolute.copy())
    mask = np.ones((10, 8), bool)
    mask[2:5], mask[:, 6] = False, False
    keep(survivors, mask)
    assert survivors.values.shape == (7, 7)
    check(survivors, absolute, mask)
    inner = survivors.mask.copy()
    inner[0] = inner[:, 0] = False
    keep(survivors, inner)
    assert survivors.values.shape == (6, 6)
    mask[0] = mask[:, 0] = False
    check(survivors, absolute, mask)


def test_a_mask_to_begin_with_takes_them_out_at_once():
    mask = np.zeros((3, 3, 4, 5), bool)
    mask[1, 1, :2, 3:] = True
    survivors = Survivors(kernel((3, 3, 4, 5)), mask)
    assert survivors.values.shape == (2, 2)


def test_little_that_is_dead_is_not_worth_a_copy():
    survivors = Survivors(kernel((100, 100)))
    values, mask = survivors.values, np.ones((100, 100), bool)
    mask[:5] = False
    keep(survivors, mask)
    assert survivors.values is values


@pytest.mark.parametrize("shape", SHAPES)
def test_nothing_left(shape):
    absolute, dead = kernel(shape), np.zeros(shape, bool)
    survivors = Survivors(absolute.copy())
    keep(survivors, np.zeros_like(survivors.mask))
    check(survivors, absolute, dead)
    keep(survivors, survivors.mask)
    check(survivors, absolute, dead)
    check(Survivors(absolute.copy(), dead), absolute, dead)


def test_values_in_another_order_of_memory():
    """A view that is no contiguous block is written to all the same."""
    absolute = kernel((9, 7)).T
    survivors = Survivors(absolute.copy(order="K"))
    mask = np.ones((7, 9), bool)
    mask[0, 1:] = mask[3, 3] = False
    keep(survivors, mask)
    check(survivors, absolute, mask)
