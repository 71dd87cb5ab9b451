"""Score → mask, n times: iterative pruning without training (Tanaka et al. 2020, algorithm 1)."""

from collections.abc import Mapping, Sequence

import numpy as np

from tf_synflow import parallel, progress, quantities
from tf_synflow.flow.network import Network
from tf_synflow.flow.outside import as_traced
from tf_synflow.masks.select import check_names
from tf_synflow.masks.structure import Blocks, Channels, Grouped, Structure
from tf_synflow.rounds import channels, tiles
from tf_synflow.rounds.scored import AllScores, LiveScores, Rules
from tf_synflow.scores import Scorer
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
    densities = [density for density in densities if density < 1]  # at 1 all stay
    rules = Rules(network, scorer.bind(network), scope, ties, structures or {})
    rounds = progress.bar(densities, desc=scorer.name, unit="round", verbose=verbose, leave=False)
    if not isinstance(rules.score, SynapticFlow) or ties != "position":
        return _selected(AllScores(rules), rounds)
    with parallel.one_blas_thread(), as_traced():
        if not rules.structures:
            return tiles.prune(network, rules.score, rounds, scope)
        grouped = all(isinstance(own, Grouped) for own in rules.structures.values())
        return _selected(LiveScores(rules) if grouped else AllScores(rules), rounds)


def _selected(scored: AllScores | LiveScores, densities: Sequence[float]) -> dict[str, np.ndarray]:
    """The masks after all rounds."""
    network, structures = scored.rules.network, scored.rules.structures
    with_channels, loose = any(isinstance(one, Channels) for one in structures.values()), 0
    for number, density in enumerate(densities, 1):
        if with_channels:
            keep = quantities.kept_count(network.size, density)
            more = loose if number < len(densities) else None
            scored, loose = channels.on_paths(scored, keep, more)
        else:
            scored = scored.of(_on_a_path(scored, density))
    return scored.masks


def _on_a_path(scored: AllScores | LiveScores, density: float) -> dict[str, np.ndarray]:
    """What is selected; of blocks with the highest of each weight, where no path would be left.

    SynFlow alone promises one; how other scorers collapse is theirs to show.
    """
    kept, rules = scored.select(density), scored.rules
    promised = rules.structures and isinstance(rules.score, SynapticFlow)
    if not promised or all(mask.any() for mask in kept.values()):
        return kept
    # What a residual branch does without may go.
    if channels.count_of(scored.of(kept, on_paths=True).masks):
        return kept
    with_each = scored.select(density, each=True)
    blocks = [own for own in rules.structures.values() if isinstance(own, Blocks)]
    largest = max((own.outputs * own.inputs for own in blocks), default=1)
    fits = (
        channels.count_of(with_each) < quantities.kept_count(rules.network.size, density) + largest
    )
    return with_each if fits else kept
