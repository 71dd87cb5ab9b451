"""Scores and a number of weights to keep → masks, exactly that number."""

from collections.abc import Callable, Mapping

import numpy as np

from tf_synflow import errors, quantities

Arrays = Mapping[str, np.ndarray]

TIES = ("position", "reference")


def select(
    scores: Arrays, masks: Arrays, density: float, scope: str = "global", ties: str = "position"
) -> dict[str, np.ndarray]:
    """Keeps the highest scores among the weights that are still there.

    Of N prunable weights, N − int((1 − density)·N) are kept.

    Args:
      scores: by weight name; finite.
      masks: bool arrays of the same names and shapes; a weight that is removed stays removed.
      density: share of all prunable weights to keep, in (0, 1].
      scope: `"global"`, all weights compete; `"layer"`, each tensor keeps the same share.
      ties: `"position"`: among weights that tie at the threshold those that come first in the
        model are kept, so that the count is exact; `"reference"`: all of them go, as in the
        paper's own code, which keeps fewer than asked.

    Returns:
      New bool arrays by name.

    Raises:
      UnknownNameError: an unknown scope or kind of ties.

    Example:
      >>> select({"a": np.array([3., 1., 2.])}, {"a": np.ones(3, bool)}, density=1 / 3)
      {'a': array([ True, False, False])}
    """
    if scope not in SCOPES:
        raise errors.UnknownNameError("scope", scope, SCOPES)
    if ties not in TIES:
        raise errors.UnknownNameError("kind of ties", ties, TIES)
    return SCOPES[scope](scores, masks, density, ties == "position")


def _global(scores: Arrays, masks: Arrays, density: float, exact: bool) -> dict[str, np.ndarray]:
    survivors = np.concatenate([scores[name][mask] for name, mask in masks.items()])
    keep = quantities.kept_count(sum(mask.size for mask in masks.values()), density)
    kept = _highest(survivors, keep, exact)
    ends = np.cumsum([np.count_nonzero(mask) for mask in masks.values()])
    return {
        name: _within(mask, part)
        for (name, mask), part in zip(masks.items(), np.split(kept, ends[:-1]), strict=True)
    }


def _layer(scores: Arrays, masks: Arrays, density: float, exact: bool) -> dict[str, np.ndarray]:
    keeps = _apportion(
        quantities.kept_count(sum(mask.size for mask in masks.values()), density),
        np.array([mask.size for mask in masks.values()]),
        np.array([np.count_nonzero(mask) for mask in masks.values()]),
    )
    return {
        name: _within(mask, _highest(scores[name][mask], keep, exact))
        for (name, mask), keep in zip(masks.items(), keeps, strict=True)
    }


SCOPES: dict[str, Callable[..., dict[str, np.ndarray]]] = {"global": _global, "layer": _layer}


def _highest(scores: np.ndarray, keep: int, exact: bool) -> np.ndarray:
    """Which of a flat array of scores are its `keep` highest."""
    if keep >= scores.size:
        return np.ones(scores.size, bool)
    # A partition, as sorting millions of scores takes minutes where this takes a fraction of a
    # second. Entry −keep is the lowest score kept, the one before it the highest that goes.
    bounds = (scores.size - keep - 1, scores.size - keep)
    highest_removed, lowest_kept = np.partition(scores, bounds)[list(bounds)]
    if not exact:
        return scores > highest_removed
    kept = scores > lowest_kept
    tied = np.flatnonzero(scores == lowest_kept)
    kept[tied[: keep - np.count_nonzero(kept)]] = True
    return kept


def _within(mask: np.ndarray, kept: np.ndarray) -> np.ndarray:
    result = np.zeros_like(mask)
    result[mask] = kept
    return result


def _apportion(keep: int, sizes: np.ndarray, left: np.ndarray) -> np.ndarray:
    """Shares `keep` among tensors in proportion to `sizes`, whole numbers that add up exactly.

    Largest remainders, with at least one weight for each tensor (while there are enough) and never
    more than is `left` in it.
    """
    quota = keep * sizes / sizes.sum()
    shares = np.minimum(np.maximum(np.floor(quota).astype(int), int(keep >= len(sizes))), left)
    while (missing := keep - shares.sum()) != 0:
        if missing > 0:
            open_ = np.flatnonzero(shares < left)
            order = open_[np.argsort(shares[open_] - quota[open_], kind="stable")]
        else:
            order = np.flatnonzero(shares > 1)
            order = order[np.argsort(quota[order] - shares[order], kind="stable")]
        shares[order[: abs(missing)]] += np.sign(missing)
    return shares
