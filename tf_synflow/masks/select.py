"""Scores and a number of weights to keep → masks, exactly that number."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from tf_synflow import errors, quantities
from tf_synflow.masks.structure import Grouped, Groups, MOfN, Structure

Arrays = Mapping[str, np.ndarray]
Structures = Mapping[str, Structure | Groups]

TIES = ("position", "reference")

# So many groups are sooner sorted than halved.
_FEW = 2**12


def select(
    scores: Arrays,
    masks: Arrays,
    density: float,
    scope: str = "global",
    ties: str = "position",
    structures: Structures | None = None,
    sizes: Mapping[str, int] | None = None,
    each: bool = False,
) -> dict[str, np.ndarray]:
    """Keeps the highest scores among the weights that are still there.

    Of N prunable weights, k = N − int((1 − density)·N) are kept. Weights that stay or go together
    count with their mean score, and as few of such groups are kept as hold k weights: exactly k
    where all are single weights, of G equal groups G − int((1 − density)·G).

    Args:
      scores: by weight name; finite.
      masks: bool arrays of the same names and shapes; a weight that is removed stays removed.
      density: share of all prunable weights to keep, in (0, 1].
      scope: `"global"`, all weights compete; `"layer"`, each tensor keeps the same share.
      ties: `"position"`: among weights that tie at the threshold those that come first in the
        model are kept, so that the count is exact; `"reference"`: all of them go, as in the
        paper's own code, which keeps fewer than asked.
      structures: by weight name, of weights that are not pruned one by one; or their groups.
      sizes: how many weights each tensor has, where the arrays hold only what is left of it.
      each: whether the highest of each tensor stays where it is above zero, also if these are more
        than k weights. Under SynFlow it does among groups of one size, the last of which scores no
        less than any; the mean of a large one may be below those of many small ones.

    Returns:
      New bool arrays by name.

    Raises:
      UnknownNameError: an unknown scope or kind of ties.

    Example:
      >>> select({"a": np.array([3., 1., 2.])}, {"a": np.ones(3, bool)}, density=1 / 3)
      {'a': array([ True, False, False])}
    """
    check_names(scope, ties)
    structures = structures or {}
    tensors = []
    for name, mask in masks.items():
        size = mask.size if sizes is None else sizes[name]
        tensors.append(_Tensor(scores[name], mask, structures.get(name), size))
    kept = SCOPES[scope](tensors, density, ties == "position", each)
    return dict(zip(masks, kept, strict=True))


def check_names(scope: str, ties: str) -> None:
    """Checks that there is such a scope, and such a way with ties.

    Raises:
      UnknownNameError: there is none.
    """
    if scope not in SCOPES:
        raise errors.UnknownNameError("scope", scope, SCOPES)
    if ties not in TIES:
        raise errors.UnknownNameError("kind of ties", ties, TIES)


@dataclasses.dataclass(frozen=True)
class _Tensor:
    scores: np.ndarray
    mask: np.ndarray
    structure: Structure | Groups | None
    size: int

    @property
    def capacity(self) -> int:
        """How many of its weights can stay."""
        if not isinstance(self.structure, MOfN):
            return np.count_nonzero(self.mask)
        return np.count_nonzero(self.mask & self._highest())

    def _highest(self) -> np.ndarray:
        return self.structure.highest(np.where(self.mask, self.scores, -np.inf))

    def groups(self, scarce: bool) -> "_Groups":
        """What competes: groups of weights, or single ones.

        Args:
          scarce: whether fewer weights stay than m of n allow: then only the m highest compete;
            else they are kept before all others, so that later m of n can be.
        """
        groups = self.structure
        if isinstance(groups, Grouped):
            groups = groups.groups(self.mask.shape)
        if isinstance(groups, Groups):
            sizes = groups.pooled(self.mask.astype(np.int32))
            left = sizes > 0
            sums = groups.pooled(self.scores * self.mask)[left]

            def spread(kept: np.ndarray) -> np.ndarray:
                return self.mask & groups.spread(_within(left, kept), self.mask.shape)

            return _Groups(sums / sizes[left], sizes[left], spread).bundled(groups.multiple)
        mask, scores = self.mask, self.scores
        if isinstance(self.structure, MOfN):
            highest = mask & self._highest()
            mask = highest if scarce else mask
            scores = scores if scarce else np.where(highest, np.inf, scores)
        return _Groups(scores[mask], None, lambda kept: _within(mask, kept))


@dataclasses.dataclass(frozen=True)
class _Groups:
    """Scores, how many weights each stands for (None: one), and which groups → mask."""

    scores: np.ndarray
    sizes: np.ndarray | None
    spread: Callable[[np.ndarray], np.ndarray]

    def bundled(self, multiple: int) -> "_Groups":
        """The same with so many groups at a time, by rank; the highest `multiple` stay single.

        Hence the number that is kept is a multiple, or below it any number: else layers would
        collapse to keep it.
        """
        if multiple == 1 or self.scores.size <= multiple:
            return self
        order = np.argsort(-self.scores, kind="stable")
        ranks = np.arange(order.size)
        starts = np.append(ranks[:multiple], ranks[multiple::multiple])
        sizes = np.add.reduceat(self.sizes[order], starts)
        sums = np.add.reduceat((self.scores * self.sizes)[order], starts)
        means = np.minimum.accumulate(sums / sizes)  # a rounded mean may be above what it is of
        lengths = np.diff(starts, append=order.size)

        def spread(kept: np.ndarray) -> np.ndarray:
            single = np.empty(order.size, bool)
            single[order] = np.repeat(kept, lengths)
            return self.spread(single)

        return _Groups(means, sizes, spread)


def _global(
    tensors: Sequence[_Tensor], density: float, exact: bool, each: bool
) -> list[np.ndarray]:
    keep = quantities.kept_count(sum(tensor.size for tensor in tensors), density)
    scarce = keep < sum(tensor.capacity for tensor in tensors)
    groups = [tensor.groups(scarce) for tensor in tensors]
    sizes = None
    if any(group.sizes is not None for group in groups):
        sizes = np.concatenate(
            [np.ones(g.scores.size, int) if g.sizes is None else g.sizes for g in groups]
        )
    scores = np.concatenate([group.scores for group in groups])
    ends = np.cumsum([group.scores.size for group in groups])
    if each:
        parts = zip(groups, ends, strict=True)
        tops = [end - g.scores.size + g.scores.argmax() for g, end in parts if g.scores.size]
        tops = [top for top in tops if scores[top] > 0]
        keep = max(keep, len(tops) if sizes is None else sizes[tops].sum())
        scores[tops] = np.inf
    kept = _highest(scores, sizes, keep, exact)
    parts = np.split(kept, ends[:-1])
    return [group.spread(part) for group, part in zip(groups, parts, strict=True)]


def _layer(tensors: Sequence[_Tensor], density: float, exact: bool, each: bool) -> list[np.ndarray]:
    del each  # has a share of its own, that is not zero
    sizes = np.array([tensor.size for tensor in tensors])
    left = np.array([np.count_nonzero(tensor.mask) for tensor in tensors])
    keeps = apportion(quantities.kept_count(int(sizes.sum()), density), sizes, left)
    result = []
    for tensor, keep in zip(tensors, keeps, strict=True):
        groups = tensor.groups(scarce=keep < tensor.capacity)
        result.append(groups.spread(_highest(groups.scores, groups.sizes, keep, exact)))
    return result


SCOPES: dict[str, Callable[..., list[np.ndarray]]] = {"global": _global, "layer": _layer}


def _highest(scores: np.ndarray, sizes: np.ndarray | None, keep: int, exact: bool) -> np.ndarray:
    """Which of the groups, highest first, together hold at least `keep` weights."""
    if keep == 0:
        return np.zeros(scores.size, bool)
    if sizes is not None:
        if sizes.size and sizes.min() != sizes.max():
            kept = _highest_of_unequal(scores, sizes, keep)
            return kept if exact or kept.all() else scores > scores[~kept].max()
        keep = -(-keep // int(sizes.max(initial=1)))
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


def _highest_of_unequal(scores: np.ndarray, sizes: np.ndarray, keep: int) -> np.ndarray:
    """`_highest` of groups that differ in size; ties go by position."""
    kept, open_ = np.zeros(scores.size, bool), np.arange(scores.size)
    while open_.size > _FEW:  # halves what the threshold may be among, for sorting all takes longer
        own = scores[open_]
        high = own > np.partition(own, own.size // 2)[own.size // 2]
        held = sizes[open_[high]].sum()
        if held >= keep:
            open_ = open_[high]
        elif held:
            kept[open_[high]] = True
            keep, open_ = keep - held, open_[~high]
        else:
            break  # half of them and more are the same
    order = open_[np.argsort(-scores[open_], kind="stable")]
    kept[order[: np.searchsorted(np.cumsum(sizes[order]), keep) + 1]] = True
    return kept


def _within(mask: np.ndarray, kept: np.ndarray) -> np.ndarray:
    result = np.zeros_like(mask)
    result[mask] = kept
    return result


def apportion(keep: int, sizes: np.ndarray, left: np.ndarray) -> np.ndarray:
    """Shares `keep` among tensors in proportion to `sizes`, whole numbers that add up exactly.

    Largest remainders, with at least one weight for each tensor (while there are enough) and never
    more than is `left` in it; all that is left where that is fewer.
    """
    keep = min(keep, int(left.sum()))  # tied weights go together, and so do whole channels
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
