"""Random pruning: the baseline that any method must beat."""

import numpy as np

from tf_synflow.flow.network import Network
from tf_synflow.quantities import check_seed
from tf_synflow.scores.scorer import ScoreFunction, Scorer, Scores


class Random(Scorer):
    """score ~ uniform(0, 1), drawn once for all rounds.

    Args:
      seed: the same seed gives the same scores; None draws one, kept in `seed`.

    Example:
      >>> tf_synflow.compute_masks(model, compression=10, scorer="random", seed=1)
    """

    name = "random"
    single_shot = True

    def __init__(self, seed: int | None = None):
        self.seed = np.random.SeedSequence().entropy % 2**32 if seed is None else check_seed(seed)

    def bind(self, network: Network) -> ScoreFunction:
        generator = np.random.default_rng(self.seed)
        shapes = network.prunable_shapes
        scores = Scores({name: generator.random(shape) for name, shape in shapes.items()})
        return lambda masks: scores

    def get_config(self) -> dict:
        return {"seed": self.seed}
