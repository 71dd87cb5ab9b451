"""The pruning schedule that command-line values stand for."""

from tf_synflow import scores
from tf_synflow.schedule import SynFlowPruningSchedule


def make_schedule(
    compression: float, scorer: str, rounds: int | None, kind: str
) -> SynFlowPruningSchedule:
    """A schedule with the scorer's own number of rounds where none is given."""
    own = scores.get(scorer).rounds
    return SynFlowPruningSchedule(compression, own if rounds is None else rounds, kind)
