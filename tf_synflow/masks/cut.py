"""Exact selection among scores that are never all there at once.

`select` has every score in memory and partitions them. Here scores come in tiles, made as they are
looked at. A sample of them brackets the threshold; one pass counts what lies above the bracket and
keeps what lies in it, and among those the threshold is found exactly. A bracket that missed is
moved, and the pass made again, so that the result does not depend on the sample.
"""

import abc
from collections.abc import Iterator, Sequence

import numpy as np

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
    def tiles(self) -> Iterator[tuple[slice, np.ndarray]]:
        """Row ranges of the survivors' matrix with their scores, zero where a weight is removed.

        An array is good until the next one is asked for, and may be written to.
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
    survivors = [one.survivors for one in tensors]
    left = sum(one.count for one in survivors)
    if keep >= left:
        return
    low, high = _bracket(tensors, keep, left)
    reach = 4.0
    while True:
        above, within = 0, []
        for one in tensors:
            number, scores = _pass(one, low, high)
            above += number
            within.append(scores)
        between = sum(len(scores) for scores, _ in within)
        if above > keep:
            low, high = high, reach * high
        elif above + between < keep:
            low, high = (low / reach if low > 1e-300 * reach else -1.0), low
        else:
            break
        reach *= reach  # a few passes for any number of decades
    scores, places = zip(*within, strict=True)
    for one, index, kept in zip(survivors, places, _highest(scores, keep - above), strict=True):
        mask = one.next_mask()
        mask.reshape(-1)[index[~kept]] = False
        one.keep(mask)


def _pass(one: TiledScores, low: float, high: float) -> tuple[int, tuple[np.ndarray, np.ndarray]]:
    """Fills in which scores reach `low`; how many reach `high`, and those between, with places."""
    above, scores, places = 0, [], []
    mask = one.survivors.next_mask()
    with np.errstate(over="ignore"):  # in float32 a bound may be zero, or infinite
        low, high = np.array([low, high]).astype(one.survivors.values.dtype)
    for rows, tile in one.tiles():
        if low <= 0:  # a weight that is there but scores zero comes before one that is removed
            tile[~one.survivors.mask[rows]] = -np.inf
        reaches_high = tile >= high
        np.greater_equal(tile, low, out=mask[rows])
        above += np.count_nonzero(reaches_high)
        between = np.flatnonzero(mask[rows] != reaches_high)
        if len(between):
            scores.append(tile.reshape(-1)[between])
            places.append(between + rows.start * mask.shape[1])
    if not scores:
        return above, (np.empty(0), np.empty(0, int))
    return above, (np.concatenate(scores), np.concatenate(places))


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
