"""The pruning schedule that command-line values stand for."""

from tf_synflow import scores
from tf_synflow.schedule import SynFlowPruningSchedule

SYNFLOW_ROUNDS = 100


def make_schedule(
    compression: float, scorer: str, rounds: int | None, kind: str
) -> SynFlowPruningSchedule:
    """A schedule with the scorer's own number of rounds where none is given."""
    if rounds is None:
        rounds = 1 if scores.get(scorer).single_shot else SYNFLOW_ROUNDS
    return SynFlowPruningSchedule(compression, rounds, kind)
