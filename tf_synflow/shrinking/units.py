"""Units: the channels of a network, numbered, and which of them stand or fall together."""

import dataclasses
from typing import Any

import numpy as np


class Units:
    """Disjoint sets of numbered units.

    A sum of two feature maps has a channel only if both have it, so the channel's units in all
    three are one. Whatever is known of a unit holds for its set.
    """

    def __init__(self) -> None:
        self._parents: list[int] = []
        self._fixed: list[np.ndarray] = []

    def __len__(self) -> int:
        return len(self._parents)

    def new(self, count: int) -> np.ndarray:
        """Numbers of units that nothing is known of yet."""
        first = len(self._parents)
        self._parents.extend(range(first, first + count))
        return np.arange(first, first + count)

    def join(self, ids: np.ndarray, others: np.ndarray) -> None:
        """Makes each unit one with that of the same position."""
        for one, other in zip(ids.tolist(), others.tolist(), strict=True):
            one, other = self._root(one), self._root(other)
            self._parents[max(one, other)] = min(one, other)

    def fix(self, ids: np.ndarray) -> None:
        """Has units stay, whatever they are used for."""
        self._fixed.append(ids)

    def roots(self) -> np.ndarray:
        """The set of each unit, as the number of its first."""
        return np.array([self._root(one) for one in range(len(self))], int)

    def fixed(self) -> np.ndarray:
        """Numbers of all units that stay."""
        return np.concatenate([np.zeros(0, int), *self._fixed])

    def _root(self, one: int) -> int:
        while self._parents[one] != one:
            self._parents[one] = self._parents[self._parents[one]]
            one = self._parents[one]
        return one


@dataclasses.dataclass(frozen=True)
class Signal:
    """A tensor of the network, its units along the last axis.

    Attributes:
      ids: number of each unit, (units,).
      varies: whether each unit may depend on the input, (units,). One that does not is the same
        at every position, for every input; in training, it is zero for ever.
      value: the tensor itself, for random input; None inside a layer, where no constant but
        zero is told from what varies.
    """

    ids: np.ndarray
    varies: np.ndarray
    value: Any = None

    @property
    def constants(self) -> np.ndarray:
        """The value of each unit that does not vary, float64; zero for the others."""
        if self.value is None:
            return np.zeros(len(self.ids))
        first = as_float(self.value).reshape(-1, len(self.ids))[0]
        return np.where(self.varies, 0.0, first)

    @property
    def active(self) -> np.ndarray:
        """Whether each unit varies, or is a constant other than zero."""
        return self.varies | (self.constants != 0)


@dataclasses.dataclass(frozen=True)
class Kept:
    """The units that stay.

    Attributes:
      of_unit: for each unit of the survey, whether it stays.
    """

    of_unit: np.ndarray

    def positions(self, ids: np.ndarray) -> np.ndarray:
        """At which positions units stay."""
        return np.flatnonzero(self.of_unit[ids])

    def count(self, ids: np.ndarray) -> int:
        """How many of some units stay."""
        return int(np.count_nonzero(self.of_unit[ids]))


def as_float(value: Any) -> np.ndarray:
    """A float64 array of a tensor of any number type."""
    return np.asarray(value).astype(np.float64)
