"""Whole channels, with what reads them: how many to choose, for as many to be left as asked for."""

import warnings
from typing import NamedTuple

import numpy as np

from tf_synflow.rounds.scored import Scored

# A round before the last may leave one part in so many more than is asked for.
_ROUGHLY = 16

# Above so many times the weights asked for, it is said that more are left.
_FAR = 1.1


def on_paths(scored: Scored, keep: int, more: int | None) -> tuple[Scored, int]:
    """Selects, without what reads a channel that is gone, or leads to nothing that is read.

    Else such a channel would stay, behind a bias or a normalization, as a constant that trains.
    The channels next in rank take the place of what goes.

    Args:
      scored: what is left before.
      keep: how many weights are left at least.
      more: weights to choose beyond that, to begin with, as many as went the last time; about as
        few as will do are left. None for as few as will do, to a channel with what reads it.

    Returns:
      What is left after, and how many weights were chosen and went. Where no path would be left
      without the next channel, that is warned of.
    """
    found = _search(scored, keep, more, each=False)
    collapses, far = found.collapses, found.left > _FAR * keep
    if (far or collapses) and found.left > keep + _slack(keep, more):
        # The last channel of one layer, a large one, may rank below many small ones of another.
        found = min(found, _search(scored, keep, more, each=True), key=lambda one: one.left)
    if more is None and collapses and found.left > _FAR * keep:
        warnings.warn(
            f"Whole channels: {keep:,} weights were to stay and {found.left:,} do, for without the "
            "next channel no path would be left. Take a lower compression, or scorer='synflow', "
            "which keeps a path open longest.",
            stacklevel=2,
        )
    return found.after, found.count - found.left


class _Found(NamedTuple):
    """What is left, how many weights these are, were chosen, and whether fewer were no path."""

    after: Scored
    left: int
    count: int
    collapses: bool


def _search(scored: Scored, keep: int, more: int | None, each: bool) -> _Found:
    """As few weights as leave `keep`; with `each` the highest of each tensor among them."""
    size = scored.rules.network.size

    def attempt(wanted: int) -> tuple[Scored, int, int]:
        chosen = scored.select(min(1, (wanted - 0.5) / size), each)
        after = scored.of(chosen, on_paths=True)
        return after, count_of(after.masks), count_of(chosen)

    too_few, wanted = keep - 1, keep + (more or 0)
    after, left, count = attempt(wanted)
    collapses = left == 0
    while left < keep and count > too_few:
        too_few, wanted = count, count + keep - left
        after, left, count = attempt(wanted)
    slack = _slack(keep, more)
    while left > keep + slack and wanted - too_few > max(slack, 1):
        middle = (too_few + wanted) // 2
        fewer, fewer_left, fewer_count = attempt(middle)
        if fewer_left >= keep:
            wanted, after, left, count = middle, fewer, fewer_left, fewer_count
        else:
            too_few, collapses = fewer_count, collapses or fewer_left == 0
    return _Found(after, left, count, collapses)


def _slack(keep: int, more: int | None) -> int:
    return 0 if more is None else keep // _ROUGHLY


def count_of(masks: dict[str, np.ndarray]) -> int:
    """How many weights masks keep."""
    return sum(int(np.count_nonzero(mask)) for mask in masks.values())
