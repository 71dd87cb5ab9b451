"""One call of a layer, as the rules see it."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from tf_synflow.shrinking.groups import Groups
from tf_synflow.shrinking.units import Kept, Signal

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
      bias: into which it folds; None for a layer that has none yet.
    """

    layer: Any
    source: Signal
    targets: np.ndarray
    live: np.ndarray
    rows: Rows | None
    bias: Any


@dataclasses.dataclass(frozen=True)
class Need:
    """A call with any of its outputs left needs at least one unit of each of these inputs."""

    inputs: list[np.ndarray]
    outputs: list[np.ndarray]


class Call:
    """A call of a layer, and the books that its rule fills in.

    Args:
      survey: the books.
      layer: without pruning wrapper.
      args, kwargs: of the call, a `Signal` for each tensor.
      inputs: the signals among them, in order.
      values: what the call gives for the signals' values, flat.
      around: the layer in which this layer is, if it is in one.
    """

    def __init__(
        self,
        survey: Survey,
        layer: Any,
        args: tuple,
        kwargs: dict,
        inputs: list[Signal],
        values: list[Any],
        around: Any = None,
    ):
        self.survey, self.layer, self._around = survey, layer, around
        self.args, self.kwargs = args, kwargs
        self.inputs, self.values = inputs, values

    @property
    def _outer(self) -> Any:
        return self.layer if self._around is None else self._around

    def inside(self, layer: Any, x: Signal, values: list[Any]) -> Call:
        """The call of a layer that the layer has inside, for what is in its place."""
        call = Call(self.survey, layer, (x,), {}, [x], values, around=self._outer)
        call.change(lambda config, kept: None)  # or its weights stay as wide as they were
        return call

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
        made = self.survey.produced.setdefault(id(self._outer), {})
        if key not in made:
            made[key] = self.survey.units.new(count)
        return made[key]

    def fix(self, ids: np.ndarray) -> None:
        """Has units stay."""
        self.survey.units.fix(ids)

    def need(self, inputs: np.ndarray, outputs: np.ndarray) -> None:
        """Says that outputs need at least one of these inputs, besides what is given."""
        self.survey.needs.append(Need([inputs], [outputs]))

    def slice(self, variable: Any, axes: dict[int, np.ndarray]) -> None:
        """Says which axes of a weight hold which units; nothing for a weight that is None."""
        if variable is None:
            return
        known = self.survey.axes.setdefault(id(variable), axes)
        for axis, ids in axes.items():
            self.survey.units.join(known[axis], ids)

    def group(self, kernel: Any, groups: Groups) -> None:
        """Says that a weight holds these units, group by group, in this call."""
        known = self.survey.groups.setdefault(id(kernel), groups)
        self.survey.units.join(known.inputs.ravel(), groups.inputs.ravel())

    def change(self, change: Callable[[dict, Kept], None]) -> None:
        """Says how the layer's configuration changes: `change(config, kept)`, in place."""

        def change_inside(config: dict, kept: Kept) -> None:
            config["layer"].pop("build_config", None)  # Keras 3 would build it as wide as it was
            change(config["layer"]["config"], kept)

        inside = self._outer is not self.layer
        self.survey.changes[id(self._outer)] = change_inside if inside else change

    def live(self, variable: Any) -> np.ndarray:
        """Which entries of a weight are, or may in training become, other than zero."""
        return self.survey.live(variable)

    def moves(self, bias: Any) -> np.ndarray | bool:
        """Which units a term that is added, or None, lets vary: those that training moves."""
        if bias is None or not self.survey.trained:
            return False
        return self.live(bias).reshape(-1, bias.shape[-1]).any(axis=0)

    def link(
        self,
        source: Signal,
        targets: np.ndarray,
        live: np.ndarray,
        rows: Rows | None = None,
        bias: Any = None,
    ) -> None:
        """Says which units reach which; see `Link`."""
        self.survey.links.append(Link(self._outer, source, targets, live, rows, bias))
