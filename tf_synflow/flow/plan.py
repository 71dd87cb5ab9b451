"""The plan of a run: which positions of a tensor all that lies behind reads alike.

What reads a tensor is not known when it is made. So a network is run twice, once to be recorded and
once by plan; without a plan nothing is summed (see `sums`).

Example:
  >>> with plan.Record() as record:
  ...     network(theta)
  >>> with plan.Plan(record):
  ...     total = network(theta)
"""

import contextvars
import dataclasses
import graphlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from tf_synflow.flow import sums
from tf_synflow.flow.positions import Classes

if TYPE_CHECKING:
    from tf_synflow.flow.tensor import FlowTensor


@dataclasses.dataclass(frozen=True)
class Reading:
    """How an op reads the positions along an axis of a tensor, in sums with weights.

    Attributes:
      axis: of what the op gives, along which it does the same at each position; None for a sum over
        all positions.
      windows: the positions that are read for each position there, see `positions.windows`; None
        for that position itself.
    """

    axis: int | None
    windows: np.ndarray | None = None


# For each axis of a tensor how it is read; None where every position may be read in another way.
Readings = Sequence[Reading | None]


class _Run:
    """Is entered while a network runs."""

    def __enter__(self):
        self._token = _run.set(self)
        return self

    def __exit__(self, *_: object) -> None:
        _run.reset(self._token)


_run: contextvars.ContextVar[_Run | None] = contextvars.ContextVar("run", default=None)


class Record(_Run):
    """What reads each tensor of a network."""

    def __init__(self):
        self._readers: dict[FlowTensor, list[tuple[FlowTensor | None, Readings]]] = {}
        self._slid: list[FlowTensor] = []

    def read(self, source: "FlowTensor", target: "FlowTensor | None", readings: Readings) -> None:
        self._readers.setdefault(source, []).append((target, readings))

    def slid(self, target: "FlowTensor") -> None:
        self._slid.append(target)

    def groups(self) -> list[tuple[Classes, ...]]:
        """Of all that is behind windows, in order, the groups of positions along each axis."""
        behind = {
            tensor: [target for target, _ in readers if target is not None]
            for tensor, readers in self._readers.items()
        }
        found: dict[FlowTensor, tuple[Classes, ...]] = {}
        for tensor in graphlib.TopologicalSorter(behind).static_order():
            axes = range(len(tensor.shape))
            found[tensor] = tuple(self._groups_along(axis, tensor, found) for axis in axes)
        return [found[tensor] for tensor in self._slid]

    def _groups_along(
        self, axis: int, tensor: "FlowTensor", found: Mapping["FlowTensor", Sequence[Classes]]
    ) -> Classes:
        """The groups along an axis, from those of what is made of the tensor."""
        size, readers = tensor.shape[axis], []
        for target, readings in self._readers.get(tensor, ()):
            reading = readings[axis] if readings else None
            if reading is None:
                return None
            if reading.axis is None:
                continue
            after = target.shape[reading.axis]
            if reading.windows is None and size != after:  # it broadcasts
                return None
            groups = found[target][reading.axis]
            if groups is None and reading.windows is None and after > 1:
                return None
            # Windows may leave some out.
            readers.append((np.arange(after) if groups is None else groups, reading.windows))
        return sums.alike(size, readers)


class Plan(_Run):
    """The groups of positions of a recorded network, for its next run."""

    def __init__(self, record: Record):
        self._groups = iter(record.groups())

    def next(self) -> tuple[Classes, ...] | None:
        return next(self._groups, None)


def read(source: "FlowTensor", target: "FlowTensor | None", readings: Readings) -> None:
    """Says how a tensor is read.

    Args:
      source: what is read.
      target: what is made of it; None for what nothing more is known of.
      readings: for each axis of the source; () for each position in another way.
    """
    run = _run.get()
    if isinstance(run, Record):
        run.read(source, target, readings)


def slid(target: "FlowTensor") -> None:
    """Says that a tensor is the next one behind windows, which may be planned to hold sums."""
    run = _run.get()
    if isinstance(run, Record):
        run.slid(target)


def is_recorded() -> bool:
    """Whether the run is one to be recorded, and nothing is computed."""
    return isinstance(_run.get(), Record)


def groups() -> tuple[Classes, ...] | None:
    """The groups along the axes of the next tensor behind windows, None where there is no plan."""
    run = _run.get()
    return run.next() if isinstance(run, Plan) else None
