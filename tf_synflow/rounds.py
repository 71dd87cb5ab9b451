"""Score → mask, n times: iterative pruning without training (Tanaka et al. 2020, algorithm 1)."""

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from tf_synflow import errors, parallel, progress, quantities
from tf_synflow.flow.network import Network
from tf_synflow.masks.cut import cut
from tf_synflow.masks.select import apportion, check_names, select
from tf_synflow.masks.structure import Channels, Structure
from tf_synflow.scores import Scorer, Scores
from tf_synflow.scores.synflow import SynapticFlow


def prune(
    network: Network,
    scorer: Scorer,
    densities: Sequence[float],
    scope: str = "global",
    ties: str = "position",
    structures: Mapping[str, Structure] | None = None,
    verbose: bool | str = "auto",
) -> dict[str, np.ndarray]:
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
    if isinstance(score, SynapticFlow) and not structures and ties == "position":
        with parallel.one_blas_thread():
            return _tile_by_tile(network, score, rounds, scope)
    with_channels = any(isinstance(own, Channels) for own in (structures or {}).values())
    loose = 0
    for number, density in enumerate(rounds, 1):
        scores = _checked(score(masks), masks, network)
        choose = functools.partial(
            select, scores, masks, scope=scope, ties=ties, structures=structures
        )
        if not with_channels:
            masks = choose(density=density)
            continue
        # As many as before will be loose; the last masks hold no more than they have to.
        more = loose if number < len(densities) else None
        masks, loose = _on_paths(network, choose, density, more)
    return masks


def _on_paths(
    network: Network,
    choose: Callable[..., dict[str, np.ndarray]],
    density: float,
    more: int | None,
) -> tuple[dict[str, np.ndarray], int]:
    """Masks without what reads a channel that is gone, or leads to nothing that is read.

    Else such a channel would stay, behind a bias or a normalization, as a constant that trains.
    The channels next in rank take the place of what goes.

    Args:
      choose: from a density to masks.
      density: the share of all weights that is left at least.
      more: weights to choose beyond that, to begin with; None for as few as will do, to a channel
        with what reads it.

    Returns:
      The masks, and how many weights were chosen and went.
    """
    keep = quantities.kept_count(network.size, density)

    def attempt(wanted: int) -> tuple[dict[str, np.ndarray], int, int]:
        chosen = choose(density=min(1, (wanted - 0.5) / network.size))
        on_path = network.on_path(chosen)
        return on_path, _count(on_path), _count(chosen)

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


def _count(masks: Mapping[str, np.ndarray]) -> int:
    return sum(int(np.count_nonzero(mask)) for mask in masks.values())


def _tile_by_tile(
    network: Network, flow: SynapticFlow, densities: Iterable[float], scope: str
) -> dict[str, np.ndarray]:
    """The same masks, without all scores in memory at any time."""
    flow.restart()
    for density in densities:
        tensors, _ = flow.factors()
        flows = any(one.flows for one in tensors)
        if not (flows and all(one.can_be_ranked for one in tensors)):
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


def _checked(scores: Scores, masks: dict[str, np.ndarray], network: Network) -> Scores:
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
