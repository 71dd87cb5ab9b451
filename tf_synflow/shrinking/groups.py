"""The units of a grouped convolution: as many in one group as in another."""

import dataclasses
from collections.abc import Iterator

import numpy as np

from tf_synflow.shrinking.units import Kept


@dataclasses.dataclass(frozen=True)
class Groups:
    """Units in groups, of which each output sees the inputs of its own.

    Whole groups go, and of the others as many units each.

    Attributes:
      inputs: (groups, inputs of each).
      outputs: (groups, outputs of each).
    """

    inputs: np.ndarray
    outputs: np.ndarray

    def lacking(self, stay: np.ndarray) -> Iterator[tuple[np.ndarray, int]]:
        """The units of groups that have too few, and how many they lack.

        Args:
          stay: for each unit of the survey, whether it stays as yet.
        """
        if not stay[self.outputs].any():
            return
        parts = (self.inputs, self.outputs)
        used = np.any([stay[part].any(axis=1) for part in parts], axis=0)
        for part in parts:
            counts = np.count_nonzero(stay[part], axis=1)
            for row in np.flatnonzero(used):
                if counts[row] < max(counts.max(), 1):
                    yield part[row], int(max(counts.max(), 1) - counts[row])

    def count(self, kept: Kept) -> int:
        """How many groups are left."""
        return sum(kept.count(row) > 0 for row in self.outputs)

    def cut(self, kernel: np.ndarray, kept: Kept) -> np.ndarray:
        """What is left of a kernel (..., inputs of a group, outputs of all)."""
        parts = np.split(kernel, len(self.outputs), axis=-1)
        left = [
            np.take(np.take(part, kept.positions(i), axis=-2), kept.positions(o), axis=-1)
            for part, i, o in zip(parts, self.inputs, self.outputs, strict=True)
            if kept.count(o)
        ]
        return np.concatenate(left, axis=-1)

    def whole(self, matrix: np.ndarray) -> np.ndarray:
        """A matrix (inputs of a group, outputs of all) with the inputs of all groups."""
        (groups, inputs), outputs = self.inputs.shape, self.outputs.shape[1]
        own = np.kron(np.eye(groups, dtype=bool), np.ones((inputs, outputs), bool))
        return np.where(own, np.tile(matrix, (groups, 1)), 0).astype(matrix.dtype)
