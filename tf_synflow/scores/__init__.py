"""Scorers: a number per weight, larger = keep. One file a method; a new one is registered here."""

from tf_synflow import errors, quantities
from tf_synflow.scores.magnitude import Magnitude
from tf_synflow.scores.random import Random
from tf_synflow.scores.scorer import Scorer, Scores, as_scores
from tf_synflow.scores.synflow import SynFlow

REGISTRY: dict[str, type[Scorer]] = {
    "synflow": SynFlow,
    "magnitude": Magnitude,
    "random": Random,
}


def get(scorer: str | Scorer, seed: int | None = None) -> Scorer:
    """The scorer of a name, or the scorer itself.

    Args:
      scorer: a registered name or a `Scorer`.
      seed: for scorers by name that draw random numbers.

    Raises:
      UnknownNameError: neither.
      QuantityError: a seed that is no whole number, or beside a `Scorer`.
    """
    if seed is not None:
        quantities.check_seed(seed)
    if isinstance(scorer, Scorer):
        if seed is not None:
            raise errors.QuantityError(
                f"seed: received {seed!r} beside a {type(scorer).__name__}; expected one of them, "
                "for a scorer draws from a seed of its own: Random(seed=1), or scorer='random' "
                "with seed=1."
            )
        return scorer
    if not isinstance(scorer, str) or scorer not in REGISTRY:
        raise errors.UnknownNameError("scorer", scorer, [*REGISTRY, "a Scorer instance"])
    return Random(seed) if scorer == "random" else REGISTRY[scorer]()


__all__ = ["REGISTRY", "Magnitude", "Random", "Scorer", "Scores", "SynFlow", "as_scores", "get"]
