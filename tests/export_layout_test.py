"""A layout unpacks to the tensor that it was made of, and none is smaller than the smallest."""

import itertools

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from tf_synflow.export import layout
from tf_synflow.export.layout import Compressed


def unpacked(packed, shape):
    """The tensor, as TFLite's DENSIFY reads it: depth first, in the order of traversal."""
    tensor = np.zeros(shape, packed.values.dtype)
    values = iter(packed.values)
    width = packed.axes[-1] if packed.block_axes else 1

    def visit(level, parent, places):
        if level == len(packed.axes):
            index = [0] * len(shape)
            for axis, place in zip(packed.order, places, strict=True):
                if axis < len(shape):
                    index[axis] = place * width if axis in packed.block_axes else place
            for axis, place in zip(packed.order, places, strict=True):
                if axis >= len(shape):
                    index[packed.block_axes[axis - len(shape)]] += place
            tensor[tuple(index)] = next(values)
            return
        axis = packed.axes[level]
        if isinstance(axis, Compressed):
            for entry in range(axis.segments[parent], axis.segments[parent + 1]):
                visit(level + 1, entry, [*places, axis.indices[entry]])
        else:
            for place in range(axis):
                visit(level + 1, parent * axis + place, [*places, place])

    visit(0, 0, [])
    assert next(values, None) is None
    return tensor


@st.composite
def tensors(draw, ranks=(1, 2, 3, 4), multiple=1):
    shape = [draw(st.integers(1, 6)) for _ in range(draw(st.sampled_from(ranks)))]
    shape[-1] *= multiple
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    tensor = rng.integers(-9, 9, shape).astype(draw(st.sampled_from([np.int8, np.float32])))
    tensor[rng.random(shape) < draw(st.sampled_from([0.0, 0.5, 0.9, 1.0]))] = 0
    if draw(st.booleans()):  # whole rows, whole columns
        tensor[rng.random(shape[0]) < 0.7] = 0
    return tensor


@hypothesis.given(tensors())
def test_the_smallest_layout_unpacks(tensor):
    packed = layout.smallest(tensor)
    assert np.array_equal(unpacked(packed, tensor.shape), tensor)


@hypothesis.given(tensors(ranks=(2,)))
def test_rows_unpack(tensor):
    assert np.array_equal(unpacked(layout.rows(tensor), tensor.shape), tensor)


@hypothesis.given(tensors(ranks=(2,), multiple=4))
def test_blocks_unpack_and_hold_only_what_is_filled(tensor):
    packed = layout.blocks(tensor, 4)
    assert np.array_equal(unpacked(packed, tensor.shape), tensor)
    assert packed.values.size == pytest.approx(layout.filled(tensor, 4) * tensor.size)


@hypothesis.given(tensors(ranks=(2, 3)))
def test_no_layout_is_smaller(tensor):
    best = layout.smallest(tensor).nbytes
    for order in itertools.permutations(range(tensor.ndim)):
        for kinds in itertools.product((False, True), repeat=tensor.ndim):
            # Index widths are chosen by bounds before, by the indices after.
            assert best <= layout._layout(tensor, order, kinds).nbytes + 8


@pytest.mark.parametrize(("size", "dtype"), [(200, "uint8"), (300, "uint16"), (70_000, "int32")])
def test_indices_are_as_narrow_as_they_can_be(size, dtype):
    matrix = np.zeros((1, size), np.float32)
    matrix[0, -1] = 1
    assert layout.rows(matrix).axes[1].indices.dtype == dtype


def test_empty_and_full_tensors():
    zeros = layout.smallest(np.zeros((4, 3, 3, 8), np.float32))
    assert zeros.values.tolist() == [0]  # TFLite takes an empty buffer as that of no constant
    assert zeros.nbytes < 20
    full = layout.smallest(np.ones((4, 8), np.float32))
    assert full.axes == (4, 8)
