"""What a scorer is, and what it gives."""

import abc
from collections.abc import Callable, Iterator, Mapping

import numpy as np

from tf_synflow import errors, quantities
from tf_synflow.flow import weights
from tf_synflow.flow.network import Network

ScoreFunction = Callable[[Mapping[str, np.ndarray]], "Scores"]


class Scores(Mapping[str, np.ndarray]):
    """A score for each prunable weight: a mapping from weight name to a float64 array.

    The true score is array · 2^log2_scale; the exponent is 0 wherever float64 holds the true
    scores. Ranking needs only the arrays, as all share one exponent.

    Args:
      arrays: by weight name, of the weight's shape.
      log2_scale: the exponent they were computed with; folded into the arrays where they can
        hold it.

    Example:
      >>> scores = Scores({"d/kernel": np.array([1.0, 2.0])}, log2_scale=3)
      >>> scores["d/kernel"], scores.log2_scale
      (array([ 8., 16.]), 0)
    """

    def __init__(self, arrays: Mapping[str, np.ndarray], log2_scale: float = 0.0):
        self._arrays = dict(arrays)
        self.log2_scale = int(log2_scale)
        if self.log2_scale and self._fits(self.log2_scale):
            self._arrays = {n: np.ldexp(a, self.log2_scale) for n, a in self._arrays.items()}
            self.log2_scale = 0

    def __getitem__(self, name: str) -> np.ndarray:
        return self._arrays[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)

    def __repr__(self) -> str:
        return f"Scores({len(self)} tensors, log2_scale={self.log2_scale})"

    def check(self, masks: Mapping[str, np.ndarray]) -> "Scores":
        """Returns itself, once every score is finite and no whole unmasked tensor scores zero.

        Raises:
          ScoreError: names the first weight whose scores cannot be ranked, or that has none.
        """
        received, expected = (
            {name: np.shape(array) for name, array in own.items()} for own in (self._arrays, masks)
        )
        if received != expected:
            differ = [n for n in {**expected, **received} if received.get(n) != expected.get(n)]
            raise errors.ScoreError(
                f"scores of {differ[0]!r}: received {received.get(differ[0], 'none')}; expected "
                f"{expected.get(differ[0], 'none')}. A scorer gives an array of its shape for each "
                "weight that it is given a mask of, and no other."
            )
        for name, array in self._arrays.items():
            broken = array.size - np.count_nonzero(np.isfinite(array))
            if broken:
                raise errors.ScoreError(
                    f"scores of {name!r}: received {broken} of {array.size} NaN or infinite; "
                    "expected finite ones. SynFlow scores in float64: "
                    "scorer=SynFlow(dtype='float64')."
                )
            if not (array.any() or weights.is_additive(name)) and masks[name].all():
                raise errors.ScoreError(
                    f"scores of {name!r}: received zeros throughout; expected flow through every "
                    "prunable weight. Something after or before the layer stops the flow (zero "
                    "weights, or an output that is not used); mend it, or leave the layer out "
                    "with prunable=."
                )
        return self

    def _fits(self, exponent: int) -> bool:
        smallest, largest = np.inf, 0.0
        for array in self._arrays.values():
            sizes = np.abs(array) if array.min(initial=0) < 0 else array
            largest = max(largest, sizes.max(initial=0))
            least = sizes.min(initial=np.inf)
            if least == 0:  # seldom: a mask has removed weights
                least = np.where(sizes > 0, sizes, np.inf).min()
            smallest = min(smallest, least)
        limits = np.finfo(np.float64)
        if not largest or not np.isfinite(largest):
            return True
        return (
            np.log2(largest) + exponent < limits.maxexp - 1
            and np.log2(smallest) + exponent > limits.minexp + 1
        )


def as_scores(found: object) -> Scores:
    """What a scorer gave.

    Raises:
      ScoreError: it is no `Scores`.
    """
    if isinstance(found, Scores):
        return found
    raise errors.ScoreError(
        f"scorer: received {type(found).__name__} from it; expected Scores, which "
        "tf_synflow.Scores makes of arrays by name: return Scores(arrays)."
    )


class Scorer(abc.ABC):
    """Scores the prunable weights of a network: no thresholds, no masks of its own.

    Attributes:
      name: what `scorer=` calls it.
      single_shot: whether one round says it all, because the scores of the weights that are left
        do not depend on those that went.
    """

    name: str
    single_shot: bool

    @abc.abstractmethod
    def bind(self, network: Network) -> ScoreFunction:
        """Prepares to score one network.

        Args:
          network: whose model stays as it is while the function is used.

        Returns:
          A function from masks (bool arrays by name of prunable weight) to `Scores`, to be called
          once a round.
        """

    @property
    def rounds(self) -> int:
        """How many rounds it takes where none are asked for."""
        return 1 if self.single_shot else quantities.DEFAULT_ROUNDS

    def get_config(self) -> dict:
        """The arguments that make this scorer again, for the record in a mask file."""
        return {}
