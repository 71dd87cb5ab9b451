"""Score → mask, n times: iterative pruning without training (Tanaka et al. 2020, algorithm 1)."""

from collections.abc import Sequence

import numpy as np

from tf_synflow import progress
from tf_synflow.flow.network import Network
from tf_synflow.masks.select import select
from tf_synflow.scores import Scorer


def prune(
    network: Network,
    scorer: Scorer,
    densities: Sequence[float],
    scope: str = "global",
    ties: str = "position",
    verbose: bool | str = "auto",
) -> dict[str, np.ndarray]:
    """Lowers the density round by round; each round scores what the one before it left.

    Args:
      network: of the model to prune.
      scorer: scores the masked network.
      densities: after each round, never increasing.
      scope: `"global"` or `"layer"`.
      ties: `"position"` or `"reference"`, see `masks.select`.
      verbose: True shows a progress bar, False none, `"auto"` one on what takes over two seconds.

    Returns:
      A bool array for each prunable weight, True = kept.

    Raises:
      ScoreError: scores that cannot be ranked; names the weight.
      UnknownNameError: an unknown scope, kind of ties or verbosity.
    """
    masks = {name: np.ones(shape, bool) for name, shape in network.prunable_shapes.items()}
    score = scorer.bind(network)
    for density in progress.bar(
        densities, desc=scorer.name, unit="round", verbose=verbose, leave=False
    ):
        masks = select(score(masks).check(masks), masks, density, scope, ties)
    return masks
