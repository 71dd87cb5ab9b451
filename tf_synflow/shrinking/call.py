"""One call of a layer, as the rules see it."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from tf_synflow.shrinking.units import Signal

if TYPE_CHECKING:
    from tf_synflow.shrinking.survey import Survey

# What some rows of a weight, summed over all but inputs and outputs, are: (rows, outputs).
Rows = Callable[[np.ndarray], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Link:
    """Units that reach others by a weight.

    Attributes:
      layer: whose weight it is.
      source: the signal at the near end.
      targets: units at the far end, (outputs,).
      live: which weights may be other than zero, (inputs, outputs).
      rows: for a layer into whose bias a constant folds, exactly, its weights; None elsewhere.
    """

    layer: Any
    source: Signal
    targets: np.ndarray
    live: np.ndarray
    rows: Rows | None


class Call:
    """A call of a layer, and the books that its rule fills in.

    Args:
      survey: the books.
      layer: without pruning wrapper.
      args, kwargs: of the call, a `Signal` for each tensor.
      inputs: the signals among them, in order.
      values: what the call gives for the signals' values, flat.
    """

    def __init__(
        self,
        survey: Survey,
        layer: Any,
        args: tuple,
        kwargs: dict,
        inputs: list[Signal],
        values: list[Any],
    ):
        self.survey, self.layer = survey, layer
        self.args, self.kwargs = args, kwargs
        self.inputs, self.values = inputs, values

    def first(self) -> Signal:
        """The first input; what else there is, a mask of the data, stays whole."""
        for other in self.inputs[1:]:
            self.survey.units.fix(other.ids)
        return self.inputs[0]

    def argument(self, name: str) -> Any:
        """What the layer is called with by this name, or None."""
        bound = inspect.signature(self.layer.call).bind(*self.args, **self.kwargs)
        return bound.arguments.get(name)

    def new(self, count: int, key: str = "units") -> np.ndarray:
        """Units that the layer makes; the same in each of its calls."""
        made = self.survey.produced.setdefault(id(self.layer), {})
        if key not in made:
            made[key] = self.survey.units.new(count)
        return made[key]

    def fix(self, ids: np.ndarray) -> None:
        """Has units stay."""
        self.survey.units.fix(ids)

    def slice(self, variable: Any, axes: dict[int, np.ndarray]) -> None:
        """Says which axes of a weight hold which units; nothing for a weight that is None."""
        if variable is None:
            return
        known = self.survey.axes.setdefault(id(variable), axes)
        for axis, ids in axes.items():
            self.survey.units.join(known[axis], ids)

    def change(self, change: Callable[[dict, Callable[[np.ndarray], int]], None]) -> None:
        """Says how the layer's configuration changes: `change(config, count)`, in place."""
        self.survey.changes[id(self.layer)] = change

    def live(self, variable: Any) -> np.ndarray:
        """Which entries of a weight are, or may in training become, other than zero."""
        return self.survey.live(variable)

    def moves(self, bias: Any) -> np.ndarray | bool:
        """Which entries of a term that is added, or None, vary: trained ones do."""
        return self.survey.trained and bias is not None and self.live(bias)

    def link(
        self, source: Signal, targets: np.ndarray, live: np.ndarray, rows: Rows | None = None
    ) -> None:
        """Says which units reach which."""
        self.survey.links.append(Link(self.layer, source, targets, live, rows))
