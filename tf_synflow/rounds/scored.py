"""What masks leave of a network, with its scores: where a round begins, and where it ends."""

import abc
import dataclasses
import functools
from collections.abc import Mapping

import numpy as np

from tf_synflow.flow.network import Network
from tf_synflow.masks.select import select
from tf_synflow.masks.structure import Structure
from tf_synflow.masks.survivors import spread
from tf_synflow.rounds import ranking
from tf_synflow.scores import Scores
from tf_synflow.scores.factors import Factors
from tf_synflow.scores.scorer import ScoreFunction

Masks = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Rules:
    """What is the same in all rounds.

    Attributes:
      network: that is pruned.
      score: bound to it.
      scope, ties: see `masks.select`.
      structures: by weight name, of weights that are not pruned one by one.
    """

    network: Network
    score: ScoreFunction
    scope: str
    ties: str
    structures: Mapping[str, Structure]


class Scored(abc.ABC):
    """The weights that masks leave, to be selected among.

    Args:
      rules: of all rounds.
      masks: bool, by weight name; None for all.
      on_paths: whether weights that no flow reaches, or that lead to no output, are left out. They
        score zero, and the others score the same without them.

    Attributes:
      rules: as given.
    """

    def __init__(self, rules: Rules, masks: Masks | None = None, on_paths: bool = False):
        self.rules, self._on_paths = rules, on_paths
        shapes = rules.network.prunable_shapes
        self._given = {n: np.ones(s, bool) for n, s in shapes.items()} if masks is None else masks

    def of(self, masks: Masks, on_paths: bool = False) -> "Scored":
        """The same of other masks."""
        return type(self)(self.rules, masks, on_paths)

    @property
    @abc.abstractmethod
    def masks(self) -> Masks:
        """Which weights are left, by name."""

    @abc.abstractmethod
    def select(self, density: float, each: bool = False) -> Masks:
        """What `masks.select` keeps, a share of all weights of the network.

        Args:
          density: that share.
          each: whether the highest of each weight goes before all others.

        Raises:
          ScoreError, LayerCollapseError: see `ranking.checked`.
        """


class AllScores(Scored):
    """All scores there are, of any scorer."""

    @functools.cached_property
    def masks(self) -> Masks:
        return self.rules.network.on_path(self._given) if self._on_paths else self._given

    def select(self, density: float, each: bool = False) -> Masks:
        rules, masks = self.rules, self.masks
        return select(
            self._scores, masks, density, rules.scope, rules.ties, rules.structures, each=each
        )

    @functools.cached_property
    def _scores(self) -> Scores:
        return ranking.checked(self.rules.score(self.masks), self.masks, self.rules.network)


class LiveScores(Scored):
    """The scores of a `SynapticFlow`, without the dead rows and columns of kernels.

    The structures are groups of weights, and ties go by position.
    """

    @functools.cached_property
    def masks(self) -> Masks:
        if not self._on_paths:
            return self._given
        if self.rules.score.has_constants:  # which flow from no input
            return self.rules.score.on_path(self._given)
        return {one.name: one.whole(one.mask) for one in self._kernels}

    def select(self, density: float, each: bool = False) -> Masks:
        rules, kernels = self.rules, self._kernels
        if not self._can_be_ranked:
            ranking.checked(rules.score(self.masks), self.masks, rules.network)
        groups = {
            one.name: rules.structures[one.name].groups(one.shape).within(one.rows, one.columns)
            for one in kernels
            if one.name in rules.structures
        }
        scores, masks, sizes = (
            {one.name: getattr(one, what) for one in kernels} for what in ("scores", "mask", "size")
        )
        kept = select(
            scores, masks, density, rules.scope, structures=groups, sizes=sizes, each=each
        )
        return {one.name: one.whole(kept[one.name]) for one in kernels}

    @functools.cached_property
    def _kernels(self) -> list["_Kernel"]:
        flow = self.rules.score
        by_flow = self._on_paths and not flow.has_constants
        flow.restart(self._given if by_flow else self.masks)
        factors, _ = flow.factors()
        self._can_be_ranked = ranking.can_be_ranked(factors)
        return [_Kernel(one, by_flow) for one in factors]


class _Kernel:
    """The scores of one weight's live rows and columns, and which are left of it.

    The flow goes on with other masks, and these stay.
    """

    def __init__(self, factors: Factors, on_paths: bool):
        survivors = factors.survivors
        self.name, self.shape, self.size = factors.name, survivors.shape, survivors.size
        self.rows, self.columns = survivors.rows, survivors.columns
        self.mask = factors.reached() if on_paths else survivors.mask
        self.scores = factors.live()

    def whole(self, live: np.ndarray) -> np.ndarray:
        """An array over live rows and columns as one of the weight's shape, zero elsewhere."""
        return spread(live, self.rows, self.columns, self.shape)
