"""Magnitude pruning at initialization: |θ|."""

import numpy as np

from tf_synflow.flow.network import Network
from tf_synflow.scores.scorer import ScoreFunction, Scorer, Scores


class Magnitude(Scorer):
    """score = |θ|.

    Example:
      >>> tf_synflow.compute_masks(model, compression=10, scorer="magnitude")
    """

    name = "magnitude"
    single_shot = True

    def bind(self, network: Network) -> ScoreFunction:
        scores = Scores({name: np.abs(v) for name, v in network.prunable_values().items()})
        return lambda masks: scores
