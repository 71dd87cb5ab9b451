"""Exact selection among scores that are never all there at once.

`select` has every score in memory and partitions them. Here scores come in tiles, made as they are
looked at. A sample of them brackets the threshold; one pass counts what lies above the bracket and
keeps what lies in it, and among those the threshold is found exactly. A bracket that missed is
moved, and the pass made again, so that the result does not depend on the sample.
"""

import abc
import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from tf_synflow import parallel
from tf_synflow.masks.survivors import Survivors

# Of all scores, how many are sampled for a bracket, and how far it reaches to both sides of the
# share that is removed: a third of that share and one in a hundred.
_SAMPLES = 2**14
_RELATIVE_REACH, _REACH = 1 / 3, 0.01


class TiledScores(abc.ABC):
    """Scores of one weight's survivors, none below zero.

    Attributes:
      survivors: what the scores are of.
    """

    survivors: Survivors

    @abc.abstractmethod
    def tiles(self, part: slice) -> Iterator[tuple[slice, np.ndarray]]:
        """Row ranges within a part of the rows of the survivors' matrix, with their scores.

        An array is good until the next one is asked for.
        """

    @abc.abstractmethod
    def sample(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """The scores where some rows and columns of the survivors' matrix cross."""


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
    reach = 4.0
    while True:
        found = _look_at_all(tensors, low, high)
        above = sum(one.above for one in found)
        if above > keep:
            low, high = high, reach * high
        elif above + sum(len(one.between) for one in found) < keep:
            low, high = (low / reach if low > 1e-300 * reach else -1.0), low
        else:
            break
        reach *= reach  # a few passes for any number of decades
    kept = _highest([one.scores for one in found], keep - above)

    def remove(i: int) -> None:
        places = np.concatenate([*found[i].below, found[i].between[~kept[i]]])
        tensors[i].survivors.remove(places)

    parallel.each(remove, range(len(tensors)))


@dataclasses.dataclass(frozen=True)
class _Found:
    """Where the scores of one weight lie, places of its flat matrix.

    Attributes:
      above: how many reach the upper end of a bracket.
      below: places of those that do not reach the lower end, in parts.
      between: places of the others.
      scores: of those between.
    """

    above: int
    below: list[np.ndarray]
    between: np.ndarray
    scores: np.ndarray

    @classmethod
    def joined(cls, parts: Sequence["_Found"]) -> "_Found":
        """What was found in all of a weight, part by part."""
        return cls(
            sum(part.above for part in parts),
            [places for part in parts for places in part.below],
            np.concatenate([np.empty(0, int), *(part.between for part in parts)]),
            np.concatenate([np.empty(0), *(part.scores for part in parts)]),
        )


def _look_at_all(tensors: Sequence[TiledScores], low: float, high: float) -> list[_Found]:
    """One pass over the scores of all weights, large ones in parts."""
    parts = [parallel.parts(len(one.survivors.mask), one.survivors.mask.size) for one in tensors]
    jobs = [(one, part) for one, own in zip(tensors, parts, strict=True) for part in own]
    looks = iter(parallel.each(lambda job: _look_at(*job, low, high), jobs))
    return [_Found.joined([next(looks) for _ in own]) for own in parts]


def _look_at(tensor: TiledScores, part: slice, low: float, high: float) -> _Found:
    """One pass over the scores of some rows of a weight."""
    survivors, below, between, scores = tensor.survivors, [], [np.empty(0, int)], [np.empty(0)]
    buffers: tuple[np.ndarray, ...] = ()
    above = 0
    with np.errstate(over="ignore"):  # in float32 a bound may be zero, or infinite
        low, high = np.array([low, high]).astype(survivors.values.dtype)
    if high == 0:  # what is removed scores zero, and does not count
        high = np.nextafter(high, high + 1)
    for rows, tile in tensor.tiles(part):
        if not buffers:  # new memory for each tile would cost more than what is done in it
            buffers = np.empty(tile.shape, bool), np.empty(tile.shape, bool)
        reaches_high, chosen = (buffer[: len(tile)] for buffer in buffers)
        np.greater_equal(tile, high, out=reaches_high)
        above += np.count_nonzero(reaches_high)
        places = np.flatnonzero(np.greater(survivors.mask[rows], reaches_high, out=chosen))
        found = tile.reshape(-1)[places]
        places += rows.start * tile.shape[1]
        reaches_low = found >= low
        below.append(places[~reaches_low])
        between.append(places[reaches_low])
        scores.append(found[reaches_low])
    return _Found(above, below, np.concatenate(between), np.concatenate(scores))


def _highest(parts: Sequence[np.ndarray], keep: int) -> list[np.ndarray]:
    """Which scores of all parts together are the highest, ties by position."""
    scores = np.concatenate(parts)
    if keep <= 0 or keep >= scores.size:
        kept = np.full(scores.size, keep > 0)
    else:
        lowest_kept = np.partition(scores, scores.size - keep)[scores.size - keep]
        kept = scores > lowest_kept
        tied = np.flatnonzero(scores == lowest_kept)
        kept[tied[: keep - np.count_nonzero(kept)]] = True
    return np.split(kept, np.cumsum([len(part) for part in parts])[:-1])


def _bracket(tensors: Sequence[TiledScores], keep: int, left: int) -> tuple[float, float]:
    """Scores a little below and above the threshold, as a sample of them says."""
    generator = np.random.default_rng(0)
    scores, stands_for = [], []
    for one in tensors:
        survivors = one.survivors
        if not survivors.count:
            continue
        wanted = max(64, _SAMPLES * survivors.count // left)
        sides = []
        for size, other in (survivors.mask.shape, survivors.mask.shape[::-1]):
            number = min(size, max(8, round(wanted**0.5), -(-wanted // other)))
            sides.append(generator.choice(size, number, replace=False))
        found = one.sample(*sides)[survivors.mask[np.ix_(*sides)]]
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
