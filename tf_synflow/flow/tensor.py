"""A tensor of flow: values, their scale, and which positions are held as one.

The flow of a deep network leaves every floating-point range (R = 1e139 for ResNet-110, 1e224 for
ResNet-152). A `FlowTensor` stands for value · 2^log2_scale and keeps its largest value near one.
The scale is a constant to the gradient; hence all scores of a network share one factor, and their
ranking is exact, as is the scaling itself, by a power of two.

Along an axis whose positions fall into classes (see `positions`) it holds one value a class; along
one whose positions are read alike (see `sums`) it holds the sum of each group.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import tensorflow as tf

from tf_synflow.flow import plan, positions
from tf_synflow.flow.alignment import in_common_classes, in_common_groups, joint
from tf_synflow.flow.outside import take
from tf_synflow.flow.plan import Reading, Readings
from tf_synflow.flow.positions import Classes, any_of

# The scale of a tensor of zeros: below any other, so that a sum or a join takes the other's.
_OF_ZERO = -(2.0**30)

# A mistake of ours: a network ran otherwise than when it was recorded.
_SUMMED = "received sums over positions where each is read in another way; expected all of them"


@dataclasses.dataclass(frozen=True, eq=False)
class FlowTensor:
    """value · 2^log2_scale, of classes of positions, or of sums over groups of them.

    Attributes:
      held: floating-point tensor, batch first.
      log2_scale: scalar tensor of the same dtype that holds a whole number.
      classes: for each axis of `held` the class of each position, or None where it has all
        positions; () where it has all of them along every axis.
      groups: for each axis of `held` the group that each position is summed in, or None; () where
        nothing is summed.
      is_signed: whether a value may be below zero.
    """

    held: tf.Tensor
    log2_scale: tf.Tensor
    classes: tuple[Classes, ...] = ()
    groups: tuple[Classes, ...] = ()
    is_signed: bool = True

    @classmethod
    def of(cls, value: tf.Tensor) -> "FlowTensor":
        """A tensor of true values."""
        return _normalised(value, tf.zeros([], value.dtype))

    @classmethod
    def uniform(cls, value: tf.Tensor, shape: Sequence[int]) -> "FlowTensor":
        """One true value, a scalar not below zero, at every position of a shape."""
        scale = cls.of(value)
        classes = tuple(positions.uniform(size) for size in shape)
        value = tf.reshape(scale.value, [1] * len(shape))
        return FlowTensor(value, scale.log2_scale, classes, is_signed=False)

    @property
    def value(self) -> tf.Tensor:
        """What is held, for an op that may read each position in another way, and never sums."""
        if any_of(self.groups):
            raise RuntimeError(_SUMMED)
        plan.read(self, None, ())
        return self.held

    def linear(
        self, op: Callable[[tf.Tensor], tf.Tensor], alike: Iterable[int] = ()
    ) -> "FlowTensor":
        """Applies an op that is positively homogeneous of degree one: op(a·x) = a·op(x), a > 0.

        Where positions are in classes, an op that does the same at each.

        Args:
          op: of the values.
          alike: axes along which the op does the same at each position, and adds what is there with
            weights, none below zero: op(x + y) = op(x) + op(y). Positions that nothing tells apart
            may then be summed before.
        """
        readings = self._alike(alike)
        return self.through(op, self.classes, self.groups, readings)

    def moved(
        self, op: Callable[[tf.Tensor], tf.Tensor], alike: Iterable[int] = ()
    ) -> "FlowTensor":
        """`linear` for an op that makes no value larger, as ReLU, a pooling, a transposition."""
        readings = self._alike(alike)
        value = op(self.held if readings else self.value)
        state = self._state(self.classes, self.groups, readings)
        return self._read_by(FlowTensor(value, self.log2_scale, **state), readings)

    def through(
        self,
        op: Callable[[tf.Tensor], tf.Tensor],
        classes: Sequence[Classes],
        groups: Sequence[Classes] = (),
        readings: Readings = (),
    ) -> "FlowTensor":
        """`linear` for an op behind which positions are in other classes, or groups.

        Args:
          op: of the values.
          classes, groups: behind it.
          readings: how it reads each axis, if it adds with weights, none below zero.
        """
        value = op(self.held if readings else self.value)
        state = self._state(classes, groups, readings)
        return self._read_by(_normalised(value, self.log2_scale, **state), readings)

    def rectified(self, slope: float = 0.0) -> "FlowTensor":
        """Behind a ReLU, which changes nothing where no value is below zero.

        Args:
          slope: below zero, of a leaky one.
        """
        if not self.is_signed:
            return self
        if slope:
            return self.linear(lambda value: tf.nn.leaky_relu(value, slope))
        return dataclasses.replace(self.moved(tf.nn.relu), is_signed=False)

    def plus(self, constant: tf.Tensor | None) -> "FlowTensor":
        """Adds a constant, given in true values, as a bias or β is; None adds nothing."""
        return self if constant is None else add([self, FlowTensor.of(constant)])

    def full(self, axes: Iterable[int] | None = None) -> "FlowTensor":
        """The same with all positions along some axes, by default along every one."""
        rank = len(self.shape)
        wanted = self.axes if axes is None else [axis % rank for axis in axes]
        plan.read(self, None, [None if i in wanted else Reading(None) for i in range(rank)])
        if any(self.groups[i] is not None for i in wanted if self.groups):
            raise RuntimeError(_SUMMED)
        classes = list(self.classes)
        index = {i: classes[i] for i in wanted if classes and classes[i] is not None}
        if not index:
            return self
        for axis in index:
            classes[axis] = None
        readings = [None if i in index else Reading(i) for i in range(rank)]
        state = self._state(classes, self.groups, readings)
        full = FlowTensor(take(self.held, index), self.log2_scale, **state)
        return self._read_by(full, readings)

    def of_rank(self, rank: int) -> "FlowTensor":
        """The same with axes of size one in front."""
        missing = rank - len(self.shape)
        if not missing:
            return self
        held = tf.reshape(self.held, [1] * missing + self.held.shape.as_list())
        classes, groups = (
            (None,) * missing + own if own else () for own in (self.classes, self.groups)
        )
        return FlowTensor(held, self.log2_scale, classes, groups, self.is_signed)

    def transposed(self, order: Sequence[int]) -> "FlowTensor":
        """The same with its axes in another order."""
        classes, groups = (
            [own[axis] for axis in order] if own else () for own in (self.classes, self.groups)
        )
        readings = [Reading(order.index(axis)) for axis in self.axes]
        state = self._state(classes, groups, readings)
        moved = FlowTensor(tf.transpose(self.held, order), self.log2_scale, **state)
        return self._read_by(moved, readings)

    def summed(self, axes: Sequence[int], keepdims: bool = False) -> "FlowTensor":
        """The sum over all positions along some axes."""
        rank = len(self.shape)
        axes = [axis % rank for axis in axes]
        left = [i for i in range(rank) if keepdims or i not in axes]
        classes, groups = (
            [None if i in axes else own[i] for i in left] if own else ()
            for own in (self.classes, self.groups)
        )

        def op(value: tf.Tensor) -> tf.Tensor:
            return tf.reduce_sum(self._weighted(value, axes), axes, keepdims=keepdims)

        readings = [Reading(None if i in axes else left.index(i)) for i in self.axes]
        return self.through(op, classes, groups, readings)

    def mean_size(self) -> tf.Tensor:
        """The mean absolute value over all positions, apart from the scale."""
        total = tf.reduce_sum(self._weighted(tf.abs(self.value), self.axes))
        return total / self.shape.num_elements()

    @property
    def axes(self) -> range:
        """All axes, by number."""
        return range(len(self.held.shape))

    @property
    def shape(self) -> tf.TensorShape:
        """Of all positions."""
        sizes = list(self.held.shape)
        for own in (self.classes, self.groups):
            for axis, each in enumerate(own):
                sizes[axis] = sizes[axis] if each is None else len(each)
        return tf.TensorShape(sizes)

    def _alike(self, axes: Iterable[int]) -> Readings:
        """The readings of an op that does the same along some axes."""
        rank = len(self.shape)
        axes = {axis % rank for axis in axes}
        return [Reading(i) if i in axes else None for i in self.axes] if axes else ()

    def _state(
        self, classes: Sequence[Classes], groups: Sequence[Classes], readings: Readings
    ) -> dict[str, Any]:
        """What is to be said of a tensor made of this one."""
        return {
            "classes": tuple(classes) if any_of(classes) else (),
            "groups": tuple(groups) if any_of(groups) else (),
            "is_signed": self.is_signed or not readings,
        }

    def _read_by(self, target: "FlowTensor", readings: Readings) -> "FlowTensor":
        """The target."""
        if readings:
            plan.read(self, target, readings)
        return target

    def _weighted(self, value: tf.Tensor, axes: Iterable[int]) -> tf.Tensor:
        """Each representative times the number of positions that it stands for."""
        for axis in axes:
            if self.classes and self.classes[axis] is not None:
                along = [1] * len(self.shape)
                along[axis] = -1
                number = positions.counts(self.classes[axis])
                value *= tf.constant(number.reshape(along), value.dtype)
        return value


def combine(
    op: Callable[[list[tf.Tensor]], tf.Tensor],
    tensors: Sequence[FlowTensor],
    alike: Iterable[int] = (),
) -> FlowTensor:
    """Applies an op on several tensors, homogeneous of degree one in all of them together.

    The tensors are brought to the largest of their scales first. Where positions are in classes,
    the op does the same at each.

    Args:
      op: of the values, which broadcast.
      tensors: what it is applied on.
      alike: axes of the result, see `FlowTensor.linear`.
    """
    tensors = in_common_classes(in_common_groups(tensors))
    log2_scale = functools.reduce(tf.maximum, [t.log2_scale for t in tensors])
    values = [t.held if alike else t.value for t in tensors]
    aligned = [
        value * _power_of_two(t.log2_scale - log2_scale)
        for t, value in zip(tensors, values, strict=True)
    ]
    signed = not alike or any(t.is_signed for t in tensors)
    classes, groups = (joint(tensors, own) for own in ("classes", "groups"))
    # Not brought near one again: it is no larger than all of them together.
    result = FlowTensor(op(aligned), log2_scale, classes, groups, signed)
    if alike:
        rank = len(result.shape)
        axes = {axis % rank for axis in alike}
        for t in tensors:
            missing = rank - len(t.shape)
            own = [Reading(i) if i in axes else None for i in range(missing, rank)]
            plan.read(t, result, own)
    return result


def add(tensors: Sequence[FlowTensor]) -> FlowTensor:
    """The sum, with broadcasting."""

    def total(values: list[tf.Tensor]) -> tf.Tensor:
        result = values[0]
        for value in values[1:]:
            result = result + value
        return result

    return combine(total, tensors, alike=range(max(len(t.shape) for t in tensors)))


def product(
    tensors: Sequence[FlowTensor],
    op: Callable[[Sequence[tf.Tensor]], tf.Tensor] | None = None,
    main: int | None = None,
) -> FlowTensor:
    """A product of branches, as a gate is one, made homogeneous of degree one.

    x · y has degree two: flow would double at each gate, and overflow. Here every factor but the
    largest tensor (the first of equals) is divided by its mean, a constant to the gradient, and
    each of the n factors takes 1/n of the gradient:

        Σ xᵢ·∂R/∂xᵢ over all n factors = flow through the product.

    A factor counts as what it is in itself: of two factors that share their input, each passes its
    part on to it.

    Args:
      tensors: the factors.
      op: the product of the values, linear in each, of tensors with all positions; by default
        elementwise, with broadcasting.
      main: which factor is not divided; by default the largest.
    """
    if main is None:
        sizes = [t.shape.num_elements() for t in tensors]
        main = sizes.index(max(sizes))
    means = [None if i == main else t.mean_size() for i, t in enumerate(tensors)]
    tensors = in_common_classes(tensors)
    undivided, others = tensors[main], [t for i, t in enumerate(tensors) if i != main]
    # A gate of one number for all positions multiplies their sum.
    alike = [] if op else _broadcast_along(undivided, others)
    values = [t.held if t is undivided and alike else t.value for t in tensors]
    factors = [
        _shared(value if mean is None else _over(value, mean), len(tensors))
        for value, mean in zip(values, means, strict=True)
    ]
    result = _normalised(
        (op or _elementwise)(factors),
        undivided.log2_scale,
        () if op else joint(tensors, "classes"),
        undivided.groups,
        op is not None or any(t.is_signed for t in tensors),
    )
    return undivided._read_by(result, undivided._alike(alike))


def _broadcast_along(main: FlowTensor, others: Sequence[FlowTensor]) -> list[int]:
    """The axes of a tensor along which all others broadcast."""
    rank = len(main.shape)
    if any(len(t.shape) > rank for t in others):
        return []
    shapes = [[1] * (rank - len(t.shape)) + t.shape.as_list() for t in others]
    return [axis for axis in main.axes if all(shape[axis] == 1 for shape in shapes)]


def _shared(value: tf.Tensor, n: int) -> tf.Tensor:
    """The same value, with 1/n of the gradient."""
    constant = tf.stop_gradient(value)
    return constant + (value - constant) / n


def over_sum(value: tf.Tensor, axis: int | Sequence[int]) -> tf.Tensor:
    """Value / its sum along the axes, which is a constant to the gradient; zeros stay zeros."""
    return _over(value, tf.reduce_sum(tf.abs(value), axis, keepdims=True))


def _over(value: tf.Tensor, divisor: tf.Tensor) -> tf.Tensor:
    divisor = tf.stop_gradient(divisor)
    return value / tf.where(divisor > 0, divisor, tf.ones_like(divisor))


def _elementwise(values: Sequence[tf.Tensor]) -> tf.Tensor:
    result = values[0]
    for value in values[1:]:
        result = result * value
    return result


def _normalised(
    value: tf.Tensor,
    log2_scale: tf.Tensor,
    classes: tuple[Classes, ...] = (),
    groups: tuple[Classes, ...] = (),
    is_signed: bool = True,
) -> FlowTensor:
    if not plan.is_recorded():  # then nothing is computed
        factor, log2_scale = _normalisation(value.dtype)(tf.stop_gradient(value), log2_scale)
        value = value * factor
    return FlowTensor(value, log2_scale, classes, groups, is_signed)


@functools.cache
def _normalisation(dtype: tf.DType) -> Callable[..., tuple[tf.Tensor, tf.Tensor]]:
    """What to multiply a value with, and the scale behind it.

    A function of its own in the graph, for it stands behind every op, and tracing a network of
    hundreds of layers is mostly making nodes.
    """

    @tf.function(
        input_signature=[tf.TensorSpec(None, dtype), tf.TensorSpec([], dtype)], autograph=False
    )
    def normalisation(value: tf.Tensor, log2_scale: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        largest = tf.maximum(tf.reduce_max(value), -tf.reduce_min(value))
        exponent = tf.floor(tf.math.log(largest) / tf.math.log(tf.constant(2, dtype)))
        # Infinity and NaN stay as they are, to be found in the scores.
        exponent = tf.where(tf.math.is_finite(exponent), exponent, tf.zeros_like(exponent))
        log2_scale = tf.where(largest == 0, tf.constant(_OF_ZERO, dtype), log2_scale + exponent)
        return tf.pow(tf.constant(2, dtype), -exponent), log2_scale

    return normalisation


def _power_of_two(exponent: tf.Tensor) -> tf.Tensor:
    return tf.pow(tf.constant(2, exponent.dtype), exponent)
