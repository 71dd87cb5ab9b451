"""Structures: which weights of a kernel stay or go together, so that a runtime gains by it.

A kernel's last two axes are its inputs and its outputs. Sizes are written as TFLite writes them,
outputs first: `1x4` is one output by four inputs, what its sparse FULLY_CONNECTED reads at once.
"""

import abc
import dataclasses
import math
import re
from collections.abc import Collection, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import numpy as np

from tf_synflow import errors, quantities
from tf_synflow.flow.weights import Weight

_KERNELS = ("kernel", "pointwise_kernel")
EXPECTED = (
    *("1x4", "1x16", "2x1", "4x1", "channel", "channel:16", "2:4"),
    *("outputs x inputs", "channel:n", "m:n"),
)


class Structure(abc.ABC):
    """How the weights of one kernel hang together."""

    def of(self, weight: Weight) -> "Structure | None":
        """The structure of a weight; None for one that is pruned one by one."""
        return self if weight.name.split("/")[-1] in _KERNELS else None

    @abc.abstractmethod
    def __str__(self) -> str:
        """Its name, as `parse` takes it."""


@dataclasses.dataclass(frozen=True)
class Groups:
    """The weights of a kernel's matrix in groups: all that share a row's and a column's number.

    The matrix has the outputs as its columns, and all other axes as its rows.

    Attributes:
      rows: the number of each row, from 0.
      columns: the number of each column, from 0.
      multiple: so many groups go at a time, the next in rank, while more of them are left.
    """

    rows: np.ndarray
    columns: np.ndarray
    multiple: int = 1

    def within(self, rows: np.ndarray, columns: np.ndarray) -> "Groups":
        """The same of some rows and columns; groups of which none is left are not there."""
        numbers = _from_zero(self.rows[rows]), _from_zero(self.columns[columns])
        return Groups(*numbers, self.multiple)

    def pooled(self, array: np.ndarray) -> np.ndarray:
        """The sum over each group, of shape (numbers of rows, numbers of columns)."""
        matrix = array.reshape(len(self.rows), len(self.columns))
        return _added(_added(matrix, self.rows, 0), self.columns, 1)

    def spread(self, groups: np.ndarray, shape: Sequence[int]) -> np.ndarray:
        """What each weight's group has, in a shape with as many weights."""
        return groups[self.rows][:, self.columns].reshape(shape)


def _from_zero(numbers: np.ndarray) -> np.ndarray:
    return np.unique(numbers, return_inverse=True)[1]


def _added(matrix: np.ndarray, numbers: np.ndarray, axis: int) -> np.ndarray:
    """The sums of what has the same number along an axis."""
    if (np.diff(numbers) < 0).any():
        order = np.argsort(numbers, kind="stable")
        matrix, numbers = matrix.take(order, axis), numbers[order]
    starts = np.flatnonzero(np.diff(numbers, prepend=-1))
    lengths = np.diff(starts, append=len(numbers))
    if (lengths == 1).all():  # each has one of its own
        return matrix
    if (lengths == lengths[0]).all():  # `reduceat` takes ten times as long
        *before, _ = matrix.shape[: axis + 1]
        apart = *before, len(lengths), lengths[0], *matrix.shape[axis + 1 :]
        return matrix.reshape(apart).sum(axis + 1, dtype=matrix.dtype)
    return np.add.reduceat(matrix, starts, axis)


class Grouped(Structure):
    """A structure whose groups stay or go as wholes."""

    @abc.abstractmethod
    def groups(self, shape: Sequence[int]) -> Groups:
        """The groups of a kernel of this shape."""


@dataclasses.dataclass(frozen=True)
class Blocks(Grouped):
    """Blocks of outputs × inputs at each position of a kernel; those at the edge may be smaller.

    Example:
      >>> Blocks(1, 2).groups((2, 2)).pooled(np.array([[1.0, 2.0], [3.0, 4.0]]))
      array([[4., 6.]])
    """

    outputs: int
    inputs: int

    def __str__(self) -> str:
        return f"{self.outputs}x{self.inputs}"

    def groups(self, shape: Sequence[int]) -> Groups:
        *positions, inputs, outputs = shape
        position, number = np.divmod(np.arange(math.prod(positions) * inputs), inputs)
        return Groups(
            position * -(-inputs // self.inputs) + number // self.inputs,
            np.arange(outputs) // self.outputs,
        )


@dataclasses.dataclass(frozen=True)
class Channels(Grouped):
    """Whole output channels (units of a dense layer), with all that leads into them.

    Attributes:
      axes: how many of the last axes count channels; two in a depthwise kernel.
      multiple: of which the number of channels that are left is one, from it on.
    """

    axes: int = 1
    multiple: int = 1

    def __str__(self) -> str:
        return "channel" if self.multiple == 1 else f"channel:{self.multiple}"

    def of(self, weight: Weight) -> Structure | None:
        own = dataclasses.replace(self, axes=2)
        return own if weight.name.endswith("depthwise_kernel") else super().of(weight)

    def groups(self, shape: Sequence[int]) -> Groups:
        rows, own = np.arange(math.prod(shape[:-1])), math.prod(shape[-self.axes : -1])
        return Groups(rows % own, np.arange(shape[-1]), self.multiple)


@dataclasses.dataclass(frozen=True)
class MOfN(Structure):
    """At most m of every n successive inputs of an output (2:4 and the like).

    Example:
      >>> MOfN(1, 2).highest(np.array([[1.0], [2.0], [3.0], [2.0]])).ravel()
      array([False,  True,  True, False])
    """

    m: int
    n: int

    def __str__(self) -> str:
        return f"{self.m}:{self.n}"

    def highest(self, scores: np.ndarray) -> np.ndarray:
        """Which weights are among the m highest of their n, ties to the first; bool."""
        *_, inputs, outputs = scores.shape
        flat = scores.reshape(-1, inputs, outputs)
        missing = -inputs % self.n
        padded = np.pad(flat, ((0, 0), (0, missing), (0, 0)), constant_values=-np.inf)
        groups = padded.reshape(len(flat), -1, self.n, outputs)
        rank = np.argsort(np.argsort(-groups, axis=2, kind="stable"), axis=2, kind="stable")
        return (rank < self.m).reshape(padded.shape)[:, :inputs].reshape(scores.shape)

    def capacity(self, shape: Sequence[int]) -> int:
        """How many weights of a kernel can stay at most."""
        *positions, inputs, outputs = shape
        whole, rest = divmod(inputs, self.n)
        return int(np.prod(positions)) * outputs * (whole * self.m + min(rest, self.m))


def parse(text: "str | Structure") -> Structure:
    """The structure of a name: `"1x4"`, `"2x1"`, `"channel"`, `"channel:16"`, `"2:4"`.

    Raises:
      UnknownNameError: not the name of one.
    """
    if isinstance(text, Structure):
        if isinstance(text, (Blocks, Channels, MOfN)):
            parse(str(text))  # whose numbers must be those of a name
        return text
    channels = re.fullmatch(r"channel(:0*([1-9][0-9]*))?", text) if isinstance(text, str) else None
    if channels:
        return Channels(multiple=int(channels[2] or 1))
    sizes = re.fullmatch(r"([0-9]+)([x:])([0-9]+)", text) if isinstance(text, str) else None
    first, second = (int(sizes[1]), int(sizes[3])) if sizes else (0, 0)
    if first and second and sizes[2] == "x":
        return Blocks(first, second)
    if 0 < first < second and sizes[2] == ":":
        return MOfN(first, second)
    raise errors.UnknownNameError("structure", text, EXPECTED)


def of_weights(
    structure: "str | Structure | Mapping[str, str | Structure] | None",
    weights: Mapping[str, Weight],
    last: Collection[str] = (),
) -> dict[str, Structure]:
    """The structure of each weight that has one: kernels of dense layers and convolutions.

    The axes of others (attention, EinsumDense, transposed convolutions) are not inputs and outputs,
    or, as in recurrent layers, hold several kernels.

    Args:
      structure: one for all of them, or one for each name pattern, the first that matches counts:
        `{"head/*": "1x4", "*": "channel"}`.
      weights: the prunable ones, by name.
      last: names of those whose outputs are the model's; no whole channel of them goes.

    Raises:
      UnknownNameError: not the name of a structure.
      NoPrunableWeightsError: no weight has it.
    """
    if structure is None:
        return {}
    rules = structure if isinstance(structure, Mapping) else {"*": structure}
    rules = {pattern: parse(value) for pattern, value in rules.items()}
    found = {}
    for name, weight in weights.items():
        own = next((rule for pattern, rule in rules.items() if fnmatchcase(name, pattern)), None)
        if isinstance(own, Channels) and name in last:
            continue
        if own is not None and _has_inputs_and_outputs(weight.layer) and own.of(weight):
            found[name] = own.of(weight)
    if not found:
        raise errors.NoPrunableWeightsError(
            f"structure={structure!r}: received the prunable weights {', '.join(weights)}, none of "
            "which has it; expected a kernel of a dense layer or a convolution whose name matches."
        )
    return found


def _has_inputs_and_outputs(layer: Any) -> bool:
    """Whether the last two axes of a layer's kernel are its inputs and its outputs."""
    kinds = [base.__name__ for base in type(layer).__mro__]
    return not any(kind.endswith("Transpose") for kind in kinds) and any(
        re.fullmatch(r"Dense|(Separable|Depthwise)?Conv[123]D", kind) for kind in kinds
    )


def capacity(
    structures: Mapping[str, Structure], shapes: Mapping[str, Sequence[int]]
) -> tuple[int, int]:
    """How many weights there are, and how many of them may stay: of m of n, m in every n."""
    sizes = {name: int(np.prod(shape)) for name, shape in shapes.items()}
    most = {
        name: own.capacity(shapes[name]) if isinstance(own, MOfN) else sizes[name]
        for name, own in ((name, structures.get(name)) for name in shapes)
    }
    return sum(sizes.values()), sum(most.values())


def check_capacity(
    structures: Mapping[str, Structure], shapes: Mapping[str, Sequence[int]], compression: float
) -> None:
    """Checks that m of n can hold at this compression.

    Raises:
      QuantityError: more weights stay than m of n allow.
    """
    total, most = capacity(structures, shapes)
    if quantities.kept_count(total, 1 / compression) > most:
        raise errors.QuantityError(
            f"compression: received {compression:g}; expected at least {total / most:.6g}, for the "
            f"structure lets {most:,} of {total:,} weights stay."
        )
