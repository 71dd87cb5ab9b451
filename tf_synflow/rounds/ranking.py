"""Whether the scores of a round can be ranked, and what is said where they cannot."""

from collections.abc import Sequence

import numpy as np

from tf_synflow import errors
from tf_synflow.flow.network import Network
from tf_synflow.scores import Scores, as_scores
from tf_synflow.scores.factors import Factors

_MORE_ROUNDS = (
    "Take more rounds, 100 or above in schedule=SynFlowPruningSchedule(compression, rounds=…), or "
    "a lower compression: a round before the last left nothing to score."
)


def can_be_ranked(tensors: Sequence[Factors]) -> bool:
    """Whether `checked` would raise nothing, as far as the factors say."""
    return any(one.flows for one in tensors) and all(one.can_be_ranked for one in tensors)


def checked(scores: Scores, masks: dict[str, np.ndarray], network: Network) -> Scores:
    """The scores, once they can be ranked; where no flow is left, that is what is said.

    Raises:
      ScoreError: a score is not finite, or all of a weight are zero though nothing of it went.
      LayerCollapseError: what the masks leave lets nothing through.
    """
    try:
        as_scores(scores).check(masks)
        flows = any(array.any() for array in scores.values())
    except errors.ScoreError:
        if not all(mask.all() for mask in masks.values()):  # else no mask has stopped the flow
            network.check_flow(masks, _MORE_ROUNDS)
        raise
    if not flows:
        network.check_flow(masks, _MORE_ROUNDS)
    return scores
