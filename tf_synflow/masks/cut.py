"""Exact selection among scores that are never all there at once.

`select` has every score in memory and partitions them. Here scores come in tiles, made as they are
looked at, and only near the true ones. A sample brackets the threshold; one pass counts what lies
above the bracket and keeps what lies in it; among those the threshold is found, and what is so near
it that the error of a tile could matter is ranked by its exact score. A bracket that missed is
moved, and the pass made again: the result depends neither on the sample nor on the tiles.
"""

import abc
import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from tf_synflow import parallel
from tf_synflow.masks.survivors import Survivors

# How many scores are sampled for a bracket, and how far it reaches to both sides of the share that
# is removed: a sixth of that share and one in two hundred.
_SAMPLES = 2**12
_RELATIVE_REACH, _REACH = 1 / 6, 0.005

# So few scores are sooner ranked than sampled.
_FEW = 2**15

# Multiplications of a matrix product that take as long as to look at a score, and to remove one.
_LOOK, _REMOVE = 16, 8

# In units of a tile: scores near a threshold below it are too near what float32 holds at all.
_SMALLEST = 2.0**-80


class TiledScores(abc.ABC):
    """Scores of one weight's survivors, none below zero.

    Attributes:
      survivors: what the scores are of.
      unit: what a score in a tile is multiplied with to be the score.
      error: how far a score in a tile may be off, relative to itself.
    """

    survivors: Survivors
    unit: float = 1.0
    error: float = 0.0

    @abc.abstractmethod
    def tiles(self, part: slice) -> Iterator[tuple[slice, np.ndarray]]:
        """Row ranges within a part of the rows of the survivors' matrix, with their scores.

        An array is good until the next one is asked for.
        """

    @abc.abstractmethod
    def at(self, places: np.ndarray) -> np.ndarray:
        """The exact scores at some places of the flat matrix."""

    def about(self, places: np.ndarray) -> np.ndarray:
        """The scores there, no nearer to the true ones than those in tiles."""
        return self.at(places)

    @abc.abstractmethod
    def exactly(self) -> None:
        """Makes tiles without an error, of scores as they are."""


def cut(tensors: Sequence[TiledScores], keep: int) -> None:
    """Keeps the highest scores of several weights, exactly `keep` of them.

    Ties at the threshold go by position: those that come first are kept, as in `select`.

    Args:
      tensors: in the model's order.
      keep: how many weights stay.
    """
    left = sum(one.survivors.count for one in tensors)
    if keep >= left:
        return
    low, high = _bracket(tensors, keep, left)
    reach = 2.0
    while True:
        for one in tensors:
            if low < _SMALLEST * one.unit:  # float32 counts on fewer digits there
                one.exactly()
        found = _look_at_all(tensors, low, high)
        wanted = keep - sum(one.above for one in found)
        if wanted < 0:
            low, high = high, reach * high
        elif wanted > sum(np.count_nonzero(one.reach(low)) for one in found):
            low, high = (low / reach if low > 1e-300 * reach else -1.0), low
        elif (kept := _highest(tensors, found, wanted, low, high)) is not None:
            break
        else:
            low, high = low / reach if low > 0 else low, reach * high
        reach *= reach  # a few passes for any number of decades

    def remove(i: int) -> None:
        # Several times as fast as an index of bools.
        tensors[i].survivors.remove(found[i].places.compress(~kept[i]))

    parallel.each(remove, range(len(tensors)), _REMOVE * left)


@dataclasses.dataclass(frozen=True)
class _Found:
    """The scores of one weight that do not reach the upper end of a bracket.

    Attributes:
      above: how many do reach it.
      places: of the others, in the flat matrix.
      scores: of the others, as in tiles.
      unit: of those scores.
    """

    above: int
    places: np.ndarray
    scores: np.ndarray
    unit: float

    def reach(self, threshold: float) -> np.ndarray:
        """Which scores are not below a threshold."""
        return self.scores >= threshold / self.unit


def _look_at_all(tensors: Sequence[TiledScores], low: float, high: float) -> list[_Found]:
    """One pass over the scores of all weights, large ones in parts."""
    work = [_LOOK * one.survivors.mask.size for one in tensors]
    rows = [len(one.survivors.mask) for one in tensors]
    parts = [parallel.parts(*own) for own in zip(rows, work, strict=True)]
    jobs = [(one, part) for one, own in zip(tensors, parts, strict=True) for part in own]
    looks = iter(parallel.each(lambda job: _look_at(*job, high), jobs, sum(work)))
    found = []
    for one, own in zip(tensors, parts, strict=True):
        places, scores = zip(*(next(looks) for _ in own), strict=True) if own else ((), ())
        places = _joined(places, int)
        found.append(_Found(one.survivors.count - len(places), places, _joined(scores), one.unit))
    return found


def _look_at(tensor: TiledScores, part: slice, high: float) -> tuple[np.ndarray, np.ndarray]:
    """Of some rows of a weight, what does not reach `high`: places and scores of a `_Found`."""
    mask, places, scores, buffer = tensor.survivors.mask, [], [], None
    number = np.int32 if mask.size < 2**31 else np.int64  # there may be as many as weights
    for rows, tile in tensor.tiles(part):
        if buffer is None:  # new memory for each tile would cost more than what is done in it
            buffer = np.empty(tile.shape, bool)
        chosen = np.less(tile, _bound(high / tensor.unit, tile.dtype), out=buffer[: len(tile)])
        some = np.flatnonzero(np.logical_and(chosen, mask[rows], out=chosen))
        scores.append(tile.reshape(-1).take(some))
        some += rows.start * tile.shape[1]
        places.append(some.astype(number))
    return _joined(places, int), _joined(scores)


def _bound(high: float, dtype: np.dtype) -> np.floating:
    """A number above zero, which what is removed scores, in a dtype that may not hold this one."""
    with np.errstate(over="ignore", under="ignore"):
        return max(dtype.type(high), np.finfo(dtype).smallest_subnormal)


def _highest(
    tensors: Sequence[TiledScores], found: Sequence[_Found], keep: int, low: float, high: float
) -> list[np.ndarray] | None:
    """Which of the scores below a bracket's upper end are the highest of all weights.

    Ties go by position. None where the errors reach beyond the bracket.
    """
    error = 4 * max(one.error for one in tensors)
    between = np.concatenate(
        [
            one.unit * one.scores.compress(one.reach(low)).astype(np.float64, copy=False)
            for one in found
        ]
    )
    if not 0 < keep < between.size:
        return None if error else [one.reach(low if keep else np.inf) for one in found]
    threshold = float(np.partition(between, between.size - keep)[between.size - keep])
    lower, upper = threshold * (1 - error), threshold * (1 + error)
    if error and not low < lower < upper < high:
        return None
    kept = [one.scores > upper / one.unit for one in found]
    near = [
        np.flatnonzero(one.reach(lower) & ~above) for one, above in zip(found, kept, strict=True)
    ]
    exact = np.concatenate(
        [
            tensor.at(one.places[some]) if tensor.error else one.scores[some]
            for tensor, one, some in zip(tensors, found, near, strict=True)
        ]
    )
    keep -= sum(map(np.count_nonzero, kept))
    threshold = np.partition(exact, exact.size - keep)[exact.size - keep]
    stays = exact > threshold
    tied = np.flatnonzero(exact == threshold)
    stays[tied[: keep - np.count_nonzero(stays)]] = True
    ends = np.cumsum([len(some) for some in near])[:-1]
    for one, some, own in zip(kept, near, np.split(stays, ends), strict=True):
        one[some[own]] = True
    return kept


def _joined(parts: Sequence[np.ndarray], dtype: type = np.float64) -> np.ndarray:
    return np.concatenate(parts) if len(parts) else np.empty(0, dtype)


def _bracket(tensors: Sequence[TiledScores], keep: int, left: int) -> tuple[float, float]:
    """Scores a little below and above the threshold, as a sample of them says."""
    if left <= _FEW:
        return -1.0, np.inf
    generator = np.random.default_rng(0)
    scores, stands_for = [], []
    for one in tensors:
        survivors = one.survivors
        if not survivors.count:
            continue
        wanted = max(64, _SAMPLES * survivors.count // left) * survivors.mask.size
        places = generator.integers(survivors.mask.size, size=wanted // survivors.count)
        found = one.about(places[survivors.mask.reshape(-1)[places]])
        scores.append(found)
        stands_for.append(np.full(found.size, survivors.count / max(found.size, 1)))
    scores, stands_for = np.concatenate(scores), np.concatenate(stands_for)
    if not scores.size:  # so few weights are left that the samples missed all of them
        return -1.0, np.inf
    order = np.argsort(scores)
    below = np.cumsum(stands_for[order]) / stands_for.sum()
    removed = 1 - keep / left
    reach = _RELATIVE_REACH * min(removed, 1 - removed) + _REACH
    low, high = (
        scores[order[min(np.searchsorted(below, share), len(order) - 1)]]
        for share in (max(removed - reach, 0), removed + reach)
    )
    if removed + reach >= 1:
        high = 2 * high
    return (float(low) if low > 0 else -1.0), float(max(high, np.finfo(float).tiny))
