"""Score → mask, n times: iterative pruning without training (Tanaka et al. 2020, algorithm 1)."""

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from tf_synflow import errors, parallel, progress, quantities
from tf_synflow.flow.network import Network
from tf_synflow.masks.cut import cut
from tf_synflow.masks.select import apportion, check_names, select
from tf_synflow.masks.structure import Channels, Grouped, Structure
from tf_synflow.scores import Scorer, Scores
from tf_synflow.scores.factors import Factors
from tf_synflow.scores.live import LiveScores
from tf_synflow.scores.synflow import SynapticFlow

Masks = dict[str, np.ndarray]


def prune(
    network: Network,
    scorer: Scorer,
    densities: Sequence[float],
    scope: str = "global",
    ties: str = "position",
    structures: Mapping[str, Structure] | None = None,
    verbose: bool | str = "auto",
) -> Masks:
    """Lowers the density round by round; each round scores what the one before it left.

    Args:
      network: of the model to prune.
      scorer: scores the masked network.
      densities: after each round, never increasing.
      scope: `"global"` or `"layer"`.
      ties: `"position"` or `"reference"`, see `masks.select`.
      structures: by weight name, of weights that are not pruned one by one.
      verbose: True shows a progress bar, False none, `"auto"` one on what takes over two seconds.

    Returns:
      A bool array for each prunable weight, True = kept.

    Raises:
      ScoreError: scores that cannot be ranked; names the weight.
      LayerCollapseError: too few rounds: no flow is left before the last.
      UnknownNameError: an unknown scope, kind of ties or verbosity.
    """
    check_names(scope, ties)
    masks = {name: np.ones(shape, bool) for name, shape in network.prunable_shapes.items()}
    score = scorer.bind(network)
    rounds = progress.bar(densities, desc=scorer.name, unit="round", verbose=verbose, leave=False)
    structures = structures or {}
    if isinstance(score, SynapticFlow) and ties == "position":
        with parallel.one_blas_thread():
            if not structures:
                return _tile_by_tile(network, score, rounds, scope)
            if all(isinstance(own, Grouped) for own in structures.values()):
                return _group_by_group(network, score, rounds, scope, structures)
    loose = 0
    for number, density in enumerate(rounds, 1):
        scores = _checked(score(masks), masks, network)
        choose = functools.partial(
            select, scores, masks, scope=scope, ties=ties, structures=structures
        )
        if not _with_channels(structures):
            masks = choose(density=density)
            continue
        keep = quantities.kept_count(network.size, density)
        more = loose if number < len(densities) else None
        masks, loose = _on_paths(network.size, keep, more, choose, network.on_path)
    return masks


def _with_channels(structures: Mapping[str, Structure]) -> bool:
    return any(isinstance(own, Channels) for own in structures.values())


def _on_paths(
    size: int,
    keep: int,
    more: int | None,
    choose: Callable[..., Masks],
    on_path: Callable[[Masks], Masks],
) -> tuple[Masks, int]:
    """Masks without what reads a channel that is gone, or leads to nothing that is read.

    Else such a channel would stay, behind a bias or a normalization, as a constant that trains.
    The channels next in rank take the place of what goes.

    Args:
      size: number of all weights.
      keep: how many are left at least.
      more: weights to choose beyond that, to begin with, as many as went the last time; None for
        as few as will do, to a channel with what reads it.
      choose: from a density to masks.
      on_path: from masks to those of the weights on a path.

    Returns:
      The masks, of the last call of `on_path` where `more` is given, and how many weights were
      chosen and went.
    """

    def attempt(wanted: int) -> tuple[Masks, int, int]:
        chosen = choose(density=min(1, (wanted - 0.5) / size))
        left = on_path(chosen)
        return left, _count(left), _count(chosen)

    too_few, wanted = keep - 1, keep + (more or 0)
    masks, left, count = attempt(wanted)
    while left < keep and count > too_few:
        too_few, wanted = count, count + keep - left
        masks, left, count = attempt(wanted)
    while more is None and left >= keep and wanted - too_few > 1:
        middle = (too_few + wanted) // 2
        fewer, fewer_left, fewer_count = attempt(middle)
        if fewer_left >= keep:
            wanted, masks, left, count = middle, fewer, fewer_left, fewer_count
        else:
            too_few = fewer_count
    return masks, count - left


def _count(masks: Masks) -> int:
    return sum(int(np.count_nonzero(mask)) for mask in masks.values())


def _group_by_group(
    network: Network,
    flow: SynapticFlow,
    densities: Sequence[float],
    scope: str,
    structures: Mapping[str, Grouped],
) -> Masks:
    """The same masks, from the scores of what is left alone."""
    live, loose = LiveScores(flow), 0

    def score(masks: Masks) -> Masks:
        nonlocal live
        live = LiveScores(flow, masks)
        return masks

    def on_path(masks: Masks) -> Masks:
        nonlocal live
        if flow.has_constants:
            return score(network.on_path(masks))
        live = LiveScores(flow, masks, on_paths=True)
        return live.masks()

    for number, density in enumerate(densities, 1):
        if not _can_be_ranked(live.factors):
            _checked(flow(live.masks()), live.masks(), network)
        choose = functools.partial(live.select, scope=scope, structures=structures)
        if _with_channels(structures):
            keep = quantities.kept_count(network.size, density)
            more = loose if number < len(densities) else None
            masks, loose = _on_paths(network.size, keep, more, choose, on_path)
        else:
            masks = choose(density=density)
            if number < len(densities):
                score(masks)
    return masks


def _tile_by_tile(
    network: Network, flow: SynapticFlow, densities: Iterable[float], scope: str
) -> Masks:
    """The same masks, without all scores in memory at any time."""
    flow.restart()
    for density in densities:
        tensors, _ = flow.factors()
        if not _can_be_ranked(tensors):
            masks = flow.masks()
            _checked(flow(masks), masks, network)
            tensors, _ = flow.factors()
        keep = quantities.kept_count(network.size, density)
        if scope == "global":
            cut(tensors, keep)
            continue
        sizes, left = (
            np.array([getattr(one.survivors, count) for one in tensors])
            for count in ("size", "count")
        )
        for one, share in zip(tensors, apportion(keep, sizes, left), strict=True):
            cut([one], share)
    return flow.masks()


def _can_be_ranked(tensors: Sequence[Factors]) -> bool:
    return any(one.flows for one in tensors) and all(one.can_be_ranked for one in tensors)


def _checked(scores: Scores, masks: Masks, network: Network) -> Scores:
    """The scores, once they can be ranked; where no flow is left, that is what is said."""
    try:
        scores.check(masks)
        flows = any(array.any() for array in scores.values())
    except errors.ScoreError:
        if not all(mask.all() for mask in masks.values()):  # else no mask has stopped the flow
            network.check_flow(masks, _MORE_ROUNDS)
        raise
    if not flows:
        network.check_flow(masks, _MORE_ROUNDS)
    return scores


_MORE_ROUNDS = (
    "Take more rounds, schedule=SynFlowPruningSchedule(compression, rounds=100), or a lower "
    "compression: a round before the last left nothing to score."
)
