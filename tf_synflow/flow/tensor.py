"""A tensor of flow: values, their scale, and which positions hold the same.

The flow of a deep network leaves every floating-point range (R = 1e139 for ResNet-110, 1e224 for
ResNet-152). A `FlowTensor` stands for value · 2^log2_scale and keeps its largest value near one.
The scale is a constant to the gradient; hence all scores of a network share one factor, and their
ranking is exact, as is the scaling itself, by a power of two.

Along an axis whose positions fall into classes (see `positions`) it holds one value a class.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import tensorflow as tf

from tf_synflow.flow import positions
from tf_synflow.flow.outside import take
from tf_synflow.flow.positions import Classes

# The scale of a tensor of zeros: below any other, so that a sum or a join takes the other's.
_OF_ZERO = -(2.0**30)


@dataclasses.dataclass(frozen=True)
class FlowTensor:
    """value · 2^log2_scale, of the representatives of classes of positions.

    Attributes:
      value: floating-point tensor, batch first.
      log2_scale: scalar tensor of the same dtype that holds a whole number.
      classes: for each axis of the value the class of each position, or None where the value has
        all positions; () where it has all of them along every axis.
    """

    value: tf.Tensor
    log2_scale: tf.Tensor
    classes: tuple[Classes, ...] = ()

    @classmethod
    def of(cls, value: tf.Tensor) -> "FlowTensor":
        """A tensor of true values."""
        return _normalised(value, tf.zeros([], value.dtype))

    @classmethod
    def uniform(cls, value: tf.Tensor, shape: Sequence[int]) -> "FlowTensor":
        """One true value, a scalar, at every position of a shape."""
        scale = cls.of(value)
        classes = tuple(positions.uniform(size) for size in shape)
        return FlowTensor(tf.reshape(scale.value, [1] * len(shape)), scale.log2_scale, classes)

    def linear(self, op: Callable[[tf.Tensor], tf.Tensor]) -> "FlowTensor":
        """Applies an op that is positively homogeneous of degree one: op(a·x) = a·op(x), a > 0.

        Where positions are in classes, an op that does the same at each.
        """
        return self.through(op, self.classes)

    def moved(self, op: Callable[[tf.Tensor], tf.Tensor]) -> "FlowTensor":
        """`linear` for an op that makes no value larger, as ReLU, a pooling, a transposition."""
        return FlowTensor(op(self.value), self.log2_scale, self.classes)

    def through(
        self, op: Callable[[tf.Tensor], tf.Tensor], classes: Sequence[Classes]
    ) -> "FlowTensor":
        """`linear` for an op behind which positions are in other classes."""
        return _normalised(op(self.value), self.log2_scale, tuple(classes))

    def plus(self, constant: tf.Tensor | None) -> "FlowTensor":
        """Adds a constant, given in true values, as a bias or β is; None adds nothing."""
        return self if constant is None else add([self, FlowTensor.of(constant)])

    def full(self, axes: Iterable[int] | None = None) -> "FlowTensor":
        """The same with all positions along some axes, by default along every one."""
        wanted = range(len(self.classes)) if axes is None else [a % len(self.shape) for a in axes]
        classes = list(self.classes)
        index = {a: classes[a] for a in wanted if classes and classes[a] is not None}
        if not index:
            return self
        for axis in index:
            classes[axis] = None
        value = take(self.value, index)
        return FlowTensor(value, self.log2_scale, tuple(classes) if any_of(classes) else ())

    def transposed(self, order: Sequence[int]) -> "FlowTensor":
        """The same with its axes in another order."""
        classes = tuple(self.classes[axis] for axis in order) if self.classes else ()
        return FlowTensor(tf.transpose(self.value, order), self.log2_scale, classes)

    def summed(self, axes: Sequence[int], keepdims: bool = False) -> "FlowTensor":
        """The sum over all positions along some axes."""
        axes = [axis % len(self.shape) for axis in axes]
        left = [
            None if i in axes else classes
            for i, classes in enumerate(self.classes)
            if keepdims or i not in axes
        ]

        def op(value: tf.Tensor) -> tf.Tensor:
            return tf.reduce_sum(self._weighted(value, axes), axes, keepdims=keepdims)

        return self.through(op, left if any_of(left) else ())

    def mean_size(self) -> tf.Tensor:
        """The mean absolute value over all positions, apart from the scale."""
        axes = range(len(self.shape))
        total = tf.reduce_sum(self._weighted(tf.abs(self.value), axes))
        return total / self.shape.num_elements()

    @property
    def shape(self) -> tf.TensorShape:
        """Of all positions."""
        sizes = list(self.value.shape)
        for axis, classes in enumerate(self.classes):
            sizes[axis] = sizes[axis] if classes is None else len(classes)
        return tf.TensorShape(sizes)

    def _weighted(self, value: tf.Tensor, axes: Iterable[int]) -> tf.Tensor:
        """Each representative times the number of positions that it stands for."""
        for axis in axes:
            if self.classes and self.classes[axis] is not None:
                along = [1] * len(self.shape)
                along[axis] = -1
                number = positions.counts(self.classes[axis])
                value *= tf.constant(number.reshape(along), value.dtype)
        return value


def any_of(classes: Iterable[Classes]) -> bool:
    """Whether positions are in classes along any axis."""
    return any(one is not None for one in classes)


def combine(
    op: Callable[[list[tf.Tensor]], tf.Tensor], tensors: Sequence[FlowTensor]
) -> FlowTensor:
    """Applies an op on several tensors, homogeneous of degree one in all of them together.

    The tensors are brought to the largest of their scales first. Where positions are in classes,
    the op does the same at each.
    """
    tensors = in_common_classes(tensors)
    log2_scale = tf.reduce_max(tf.stack([t.log2_scale for t in tensors]))
    aligned = [t.value * _power_of_two(t.log2_scale - log2_scale) for t in tensors]
    return _normalised(op(aligned), log2_scale, _joint(tensors))


def in_common_classes(tensors: Sequence[FlowTensor]) -> list[FlowTensor]:
    """The tensors with positions in the same classes, along axes that they share.

    An axis of size one, which broadcasts, stays as it is; axes are counted from the last.
    """
    if not any(t.classes for t in tensors):
        return list(tensors)
    taken: list[dict[int, np.ndarray]] = [{} for _ in tensors]
    classes = [list(t.classes or [None] * len(t.shape)) for t in tensors]
    for back in range(1, max(len(t.shape) for t in tensors) + 1):
        at = [i for i, t in enumerate(tensors) if len(t.shape) >= back and t.shape[-back] != 1]
        if not any_of(classes[i][-back] for i in at):
            continue
        size = tensors[at[0]].shape[-back]
        joint, representatives = positions.common([classes[i][-back] for i in at], size)
        for i, index in zip(at, representatives, strict=True):
            classes[i][-back] = joint
            if index is not None:
                taken[i][len(tensors[i].shape) - back] = index
    return [
        FlowTensor(
            take(t.value, index) if index else t.value,
            t.log2_scale,
            tuple(own) if any_of(own) else (),
        )
        for t, index, own in zip(tensors, taken, classes, strict=True)
    ]


def _joint(tensors: Sequence[FlowTensor]) -> tuple[Classes, ...]:
    """The classes behind an op that broadcasts tensors in common classes."""
    rank = max(len(t.shape) for t in tensors)
    joint: list[Classes] = [None] * rank
    for t in tensors:
        for back in range(1, len(t.classes) + 1):
            if t.classes[-back] is not None:
                joint[-back] = t.classes[-back]
    return tuple(joint) if any_of(joint) else ()


def add(tensors: Sequence[FlowTensor]) -> FlowTensor:
    """The sum, with broadcasting."""

    def total(values: list[tf.Tensor]) -> tf.Tensor:
        result = values[0]
        for value in values[1:]:
            result = result + value
        return result

    return combine(total, tensors)


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
    means = [t.mean_size() for t in tensors]
    tensors = in_common_classes(tensors)
    factors = []
    for i, t in enumerate(tensors):
        value = t.value if i == main else _over(t.value, means[i])
        factors.append(_shared(value, len(tensors)))
    return _normalised(
        (op or _elementwise)(factors), tensors[main].log2_scale, () if op else _joint(tensors)
    )


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
    value: tf.Tensor, log2_scale: tf.Tensor, classes: tuple[Classes, ...] = ()
) -> FlowTensor:
    factor, log2_scale = _normalisation(value.dtype)(tf.stop_gradient(value), log2_scale)
    return FlowTensor(value * factor, log2_scale, classes)


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
