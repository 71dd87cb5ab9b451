"""Whole channels, with what reads them: how many to choose, for as many to be left as asked for."""

import warnings

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
    size = scored.rules.network.size

    def attempt(wanted: int) -> tuple[Scored, int, int]:
        chosen = scored.select(min(1, (wanted - 0.5) / size))
        after = scored.of(chosen, on_paths=True)
        return after, _count(after.masks), _count(chosen)

    too_few, wanted, collapses = keep - 1, keep + (more or 0), False
    after, left, count = attempt(wanted)
    while left < keep and count > too_few:
        too_few, wanted = count, count + keep - left
        after, left, count = attempt(wanted)
    slack = 0 if more is None else keep // _ROUGHLY
    while left > keep + slack and wanted - too_few > max(slack, 1):
        middle = (too_few + wanted) // 2
        fewer, fewer_left, fewer_count = attempt(middle)
        if fewer_left >= keep:
            wanted, after, left, count = middle, fewer, fewer_left, fewer_count
        else:
            too_few, collapses = fewer_count, fewer_left == 0
    if more is None and collapses and left > _FAR * keep:
        warnings.warn(
            f"Whole channels: {keep:,} weights were to stay and {left:,} do, for without the next "
            "channel no path would be left. Take more rounds, a lower compression, or "
            "scorer='synflow', which keeps a path open longest.",
            stacklevel=2,
        )
    return after, count - left


def _count(masks: dict[str, np.ndarray]) -> int:
    return sum(int(np.count_nonzero(mask)) for mask in masks.values())
