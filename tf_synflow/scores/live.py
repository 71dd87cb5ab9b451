"""What masks leave of a network, with its scores: dead rows and columns of kernels are left out."""

from collections.abc import Mapping

import numpy as np

from tf_synflow.masks.select import select
from tf_synflow.masks.structure import Grouped
from tf_synflow.scores.factors import Factors
from tf_synflow.scores.synflow import SynapticFlow


class LiveScores:
    """The exact scores of the weights that masks leave, selected among in groups.

    Args:
      flow: through the network.
      masks: bool, by weight name; None for all.
      on_paths: whether weights that no flow reaches, or that lead to no output, are left out. They
        score zero, and the others score the same without them.

    Attributes:
      factors: of the scores, one for each weight.
    """

    def __init__(
        self,
        flow: SynapticFlow,
        masks: Mapping[str, np.ndarray] | None = None,
        on_paths: bool = False,
    ):
        flow.restart(masks)
        self.factors, _ = flow.factors()
        self._kernels = [_Kernel(one, on_paths) for one in self.factors]

    def masks(self) -> dict[str, np.ndarray]:
        """Which weights are left, by name."""
        return {one.name: one.whole(one.mask) for one in self._kernels}

    def select(
        self, density: float, scope: str, structures: Mapping[str, Grouped]
    ) -> dict[str, np.ndarray]:
        """What `masks.select` keeps of all scores."""
        scores = {one.name: one.scores for one in self._kernels}
        masks = {one.name: one.mask for one in self._kernels}
        sizes = {one.name: one.size for one in self._kernels}
        groups = {
            one.name: structures[one.name].groups(one.shape).within(one.rows, one.columns)
            for one in self._kernels
            if one.name in structures
        }
        kept = select(scores, masks, density, scope, structures=groups, sizes=sizes)
        return {one.name: one.whole(kept[one.name]) for one in self._kernels}


class _Kernel:
    """The scores of one weight's live rows and columns, and which are left of it.

    The flow goes on with other masks, and these stay.
    """

    def __init__(self, factors: Factors, on_paths: bool):
        survivors = factors.survivors
        self.name, self.shape, self.size = factors.name, survivors.shape, survivors.size
        self.rows, self.columns = survivors.rows, survivors.columns
        self.mask = survivors.mask & factors.reached() if on_paths else survivors.mask
        self.scores = factors.live()

    def whole(self, live: np.ndarray) -> np.ndarray:
        """An array over live rows and columns as one of the weight's shape, zero elsewhere."""
        columns = self.shape[-1] if self.shape else 1
        matrix = np.zeros((self.size // max(columns, 1), columns), live.dtype)
        if live.shape[1] < columns:
            live, some = np.zeros((len(live), columns), live.dtype), live
            live[:, self.columns] = some
        matrix[self.rows] = live
        return matrix.reshape(self.shape)
