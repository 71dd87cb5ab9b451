"""Exact selection tile by tile: bit for bit that of `select`, wherever the bracket fell."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tf_synflow.masks import cut as cut_module
from tf_synflow.masks.cut import TiledScores, cut
from tf_synflow.masks.select import select
from tf_synflow.masks.survivors import Survivors

# The smallest numbers of either dtype, and 300 decades between.
VALUES = {
    np.float64: [0.0, 5e-324, 1e-310, 2.3e-308, 1e-300, 1e-150, 1.0, 2.0, 3.0, 1e150, 1e300],
    np.float32: [0.0, 1e-45, 3e-42, 1.2e-38, 1e-30, 1e-10, 1.0, 2.0, 3.0, 1e20, 1e38],
}


@pytest.fixture(scope="module", autouse=True, params=["bracket", "all"])
def _looked_at(request):
    """So few scores are all looked at as a rule; a bracket has to give the same."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "bracket":
            patch.setattr(cut_module, "_FEW", 0)
        yield


class Arrays(TiledScores):
    """Scores that are there, handed out in tiles.

    Args:
      scores: of a whole weight.
      mask: which weights are left.
      step: rows in a tile.
    """

    def __init__(self, scores, mask=None, step=3):
        self.survivors = Survivors(np.ones(scores.shape, scores.dtype), mask)
        self.scores, self._step, self.passes = scores, step, 0

    def _live(self):
        return self.survivors.live(self.scores) * self.survivors.mask

    def tiles(self, part):
        self.passes += 1
        live = self._live()
        buffer = np.empty((self._step, live.shape[1]), live.dtype)
        for start in range(part.start, part.stop, self._step):
            rows = slice(start, min(start + self._step, part.stop))
            tile = buffer[: rows.stop - start]
            tile[:] = live[rows]
            yield rows, tile
            tile[:] = np.nan  # good until the next one is asked for

    def at(self, places):
        return self._live().reshape(-1)[places]

    def exactly(self):
        pass


class Near(Arrays):
    """Scores in tiles that are off by up to an error, in a unit of their own."""

    def __init__(self, scores, mask=None, step=3, unit=2.0**-20, error=1e-5):
        super().__init__(scores, mask, step)
        self.unit, self.error = unit, error
        off = np.random.default_rng(0).uniform(-error / 2, error / 2, scores.shape)
        self._near = (scores / unit * (1 + off)).astype(np.float32)

    def _live(self):
        scores = self._near if self.error else self.scores
        return self.survivors.live(scores) * self.survivors.mask

    def at(self, places):
        return (self.survivors.live(self.scores) * self.survivors.mask).reshape(-1)[places]

    def exactly(self):
        self.unit, self.error = 1.0, 0.0


class Misled(Arrays):
    """Scores of which a sample says something else."""

    def __init__(self, scores, mask=None, step=3, told=0.0):
        super().__init__(scores, mask, step)
        self._told = told

    def at(self, places):
        return np.full(len(places), self._told, self.scores.dtype)


def masks_of(tensors):
    return {str(i): one.survivors.full_mask() for i, one in enumerate(tensors)}


def selected(tensors, masks, keep):
    """What `select` keeps of the same scores."""
    total = sum(mask.size for mask in masks.values())
    scores = {str(i): one.scores.astype(np.float64) for i, one in enumerate(tensors)}
    return select(scores, masks, (keep - 0.5) / total)  # N − int((1 − density)·N) is `keep`


def check(tensors, keep):
    """One cut: equal to `select`, exact, and nothing comes back."""
    before = {name: mask.copy() for name, mask in masks_of(tensors).items()}
    left = sum(mask.sum() for mask in before.values())
    expected = selected(tensors, before, keep)
    cut(tensors, keep)
    after = masks_of(tensors)
    for name, mask in after.items():
        np.testing.assert_array_equal(mask, expected[name], name)
        assert not (mask & ~before[name]).any()
    assert sum(one.survivors.count for one in tensors) == min(keep, left)


@given(
    st.integers(0, 10**6),
    st.sampled_from([1e-4, 1e-6]),
    st.sampled_from([2.0**-20, 2.0**60, 2.0**-300]),
    st.booleans(),
)
@settings(deadline=None)
def test_the_error_of_tiles_changes_nothing(seed, error, unit, crowded):
    """Near-ties and ties within the error of a tile, in tensors with and without one."""
    generator = np.random.default_rng(seed)
    tensors = []
    for i, shape in enumerate([(40, 30), (7, 5), (3, 3, 4, 6), (12,)]):
        scores = generator.random(shape)
        if crowded:  # many scores within the error, some the same
            scores = 0.5 * (1 + error * generator.integers(-20, 20, shape) / 10)
        scores = scores * unit
        tensors.append(Arrays(scores) if i == 1 else Near(scores, None, 3, unit, error))
    for share in (0.95, 0.5, 0.1, 0.01):
        check(tensors, max(1, int(share * 1463)))


@st.composite
def networks(draw):
    """Tensors of scores, tiny ones too, with ties and zeros, some weights removed already."""
    dtype = draw(st.sampled_from([np.float64, np.float32]))
    generator = np.random.default_rng(draw(st.integers(0, 10**6)))
    kind = draw(st.sampled_from(["ties", "distinct", "equal", "decades", "mostly zero"]))
    told = draw(st.none() | st.sampled_from(VALUES[dtype]))
    tensors = []
    for _ in range(draw(st.integers(1, 8))):
        shape = draw(st.sampled_from([(), (1,), (6,), (1, 9), (9, 1), (12, 7), (2, 2, 3, 4)]))
        size = int(np.prod(shape))
        scores = {
            "ties": lambda size: generator.choice(VALUES[dtype], size),
            "distinct": lambda size: generator.random(size),
            "equal": lambda size: np.full(size, 3.0),
            "decades": lambda size: (
                10.0 ** generator.uniform(-37, 37, size)
                if dtype == np.float32
                else 10.0 ** generator.uniform(-300, 300, size)
            ),
            "mostly zero": lambda size: generator.random(size) * (generator.random(size) < 0.1),
        }[kind](size)
        scores = scores.astype(dtype).reshape(shape)
        mask = generator.random(shape) >= draw(st.sampled_from([0.0, 0.3, 0.97]))
        step = draw(st.sampled_from([1, 2, 5, 1000]))
        if told is None:
            tensors.append(Arrays(scores, mask, step))
        else:
            tensors.append(Misled(scores, mask, step, told))
    return tensors


@settings(deadline=None, max_examples=60)
@given(networks(), st.lists(st.floats(0, 1), min_size=1, max_size=4))
def test_equal_to_select_bit_for_bit_over_rounds(tensors, shares):
    left = sum(one.survivors.count for one in tensors)
    for share in sorted(shares, reverse=True):
        check(tensors, round(share * left))


@pytest.mark.parametrize("keep", [0, 1, 29, 30, 31, 59, 60, 61, 1000])
def test_any_number_of_equal_scores(keep):
    tensors = [Arrays(np.full((5, 6), 2.0)), Arrays(np.full((30, 1), 2.0), step=1)]
    check(tensors, keep)
    counts = [one.survivors.count for one in tensors]
    assert counts == [min(keep, 30), min(max(keep - 30, 0), 30)]


@pytest.mark.parametrize("dtype", VALUES)
@pytest.mark.parametrize("keep", [3, 40, 50])
def test_zeros_are_kept_by_position_and_none_that_is_removed(keep, dtype):
    """Weights that are there and score zero stay before those that went, which score zero too."""
    scores = np.zeros((10, 10), dtype)
    scores[1, :3] = 1e-3
    mask = np.ones((10, 10), bool)
    mask[::2] = False
    check([Arrays(scores, mask)], keep)


@pytest.mark.parametrize("dtype", VALUES)
@pytest.mark.parametrize("side", ["above", "below"])
def test_a_bracket_that_missed_is_moved_in_few_passes(side, dtype):
    """However many decades the sample was wrong by."""
    order = np.random.default_rng(0).permutation(400).reshape(20, 20)
    limits = np.finfo(dtype)
    low, high = (limits.tiny, limits.max / 1e4) if side == "above" else (limits.max / 1e4, 1e-30)
    one = Misled((1 + order / 400).astype(dtype) * dtype(high), told=float(low))
    check([one], 100)
    assert one.passes <= 12


def test_a_sample_that_is_all_zero():
    scores = 1 + np.random.default_rng(0).random((20, 20))
    one = Misled(scores, told=0.0)
    check([one], 100)
    assert one.passes <= 12


def test_a_sample_without_any_weight_that_is_left():
    """One weight a row and a column, none of them where the sampled rows and columns cross."""
    size = 800
    generator = np.random.default_rng(0)
    number = round(cut_module._SAMPLES**0.5)
    rows = generator.choice(size, number, replace=False)
    columns = generator.choice(size, number, replace=False)
    others = np.setdiff1d(np.arange(size), columns)
    column_of = np.empty(size, int)
    column_of[rows] = others[:number]
    column_of[np.setdiff1d(np.arange(size), rows)] = np.setdiff1d(np.arange(size), others[:number])
    mask = np.zeros((size, size), bool)
    mask[np.arange(size), column_of] = True
    one = Arrays(np.random.default_rng(1).random((size, size)), mask, step=size)
    cut([one], 300)
    expected = np.sort(one.scores[mask])[-300:]
    assert one.survivors.count == 300
    np.testing.assert_array_equal(np.sort(one.scores[one.survivors.full_mask()]), expected)


def test_a_good_sample_takes_one_pass():
    tensors = [Arrays(np.random.default_rng(i).random((100, 50)), step=7) for i in range(4)]
    for keep in (15000, 10000, 2000, 200, 10):
        for one in tensors:
            one.passes = 0
        check(tensors, keep)
        assert max(one.passes for one in tensors) == 1


def test_fewer_kept_is_a_part_of_more_kept():
    def kept(keep):
        generator = np.random.default_rng(3)
        tensors = [Arrays(generator.choice([0.0, 1.0, 2.0], shape)) for shape in [(7, 5), (40,)]]
        cut(tensors, keep)
        return np.concatenate([one.survivors.full_mask().ravel() for one in tensors])

    more = kept(75)
    for keep in range(74, -1, -1):
        fewer = kept(keep)
        assert fewer.sum() == keep and not (fewer & ~more).any()
        more = fewer


def test_a_tensor_of_which_nothing_is_left_takes_part_in_nothing():
    dead = Arrays(np.ones((5, 5)), np.zeros((5, 5), bool))
    check([dead, Arrays(np.random.default_rng(0).random((6, 6))), dead], 10)
    assert dead.survivors.count == 0
