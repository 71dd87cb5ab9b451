"""A tensor of flow that carries its own scale, so that no depth overflows or underflows.

The flow of a deep network leaves every floating-point range (R = 1e139 for ResNet-110, 1e224 for
ResNet-152). A `FlowTensor` stands for value · 2^log2_scale and keeps its largest value near one.
The scale is a constant to the gradient; hence all scores of a network share one factor, and their
ranking is exact, as is the scaling itself, by a power of two.
"""

import dataclasses
from collections.abc import Callable, Sequence

import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class FlowTensor:
    """value · 2^log2_scale.

    Attributes:
      value: floating-point tensor, batch first.
      log2_scale: scalar tensor of the same dtype that holds a whole number.
    """

    value: tf.Tensor
    log2_scale: tf.Tensor

    @classmethod
    def of(cls, value: tf.Tensor) -> "FlowTensor":
        """A tensor of true values."""
        return _normalised(value, tf.zeros([], value.dtype))

    def linear(self, op: Callable[[tf.Tensor], tf.Tensor]) -> "FlowTensor":
        """Applies an op that is positively homogeneous of degree one: op(a·x) = a·op(x), a > 0."""
        return _normalised(op(self.value), self.log2_scale)

    def plus(self, constant: tf.Tensor | None) -> "FlowTensor":
        """Adds a constant, given in true values, as a bias or β is; None adds nothing."""
        return self if constant is None else add([self, FlowTensor.of(constant)])

    @property
    def shape(self) -> tf.TensorShape:
        return self.value.shape


def combine(
    op: Callable[[list[tf.Tensor]], tf.Tensor], tensors: Sequence[FlowTensor]
) -> FlowTensor:
    """Applies an op on several tensors, homogeneous of degree one in all of them together.

    The tensors are brought to the largest of their scales first.
    """
    log2_scale = tf.reduce_max(tf.stack([t.log2_scale for t in tensors]))
    aligned = [t.value * _power_of_two(t.log2_scale - log2_scale) for t in tensors]
    return _normalised(op(aligned), log2_scale)


def add(tensors: Sequence[FlowTensor]) -> FlowTensor:
    """The sum, with broadcasting."""

    def total(values: list[tf.Tensor]) -> tf.Tensor:
        result = values[0]
        for value in values[1:]:
            result = result + value
        return result

    return combine(total, tensors)


def _normalised(value: tf.Tensor, log2_scale: tf.Tensor) -> FlowTensor:
    largest = tf.stop_gradient(tf.reduce_max(tf.abs(value)))
    exponent = tf.floor(tf.math.log(largest) / tf.math.log(tf.constant(2, value.dtype)))
    # Zero has no exponent; infinity and NaN stay as they are, to be found in the scores.
    exponent = tf.where(tf.math.is_finite(exponent), exponent, tf.zeros_like(exponent))
    return FlowTensor(value * _power_of_two(-exponent), log2_scale + exponent)


def _power_of_two(exponent: tf.Tensor) -> tf.Tensor:
    return tf.stop_gradient(tf.pow(tf.constant(2, exponent.dtype), exponent))
