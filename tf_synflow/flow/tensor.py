"""A tensor of flow that carries its own scale, so that no depth overflows or underflows.

The flow of a deep network leaves every floating-point range (R = 1e139 for ResNet-110, 1e224 for
ResNet-152). A `FlowTensor` stands for value · 2^log2_scale and keeps its largest value near one.
The scale is a constant to the gradient; hence all scores of a network share one factor, and their
ranking is exact, as is the scaling itself, by a power of two.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence

import tensorflow as tf

# The scale of a tensor of zeros: below any other, so that a sum or a join takes the other's.
_OF_ZERO = -(2.0**30)


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

    def moved(self, op: Callable[[tf.Tensor], tf.Tensor]) -> "FlowTensor":
        """`linear` for an op that makes no value larger, as ReLU, a pooling, a transposition."""
        return FlowTensor(op(self.value), self.log2_scale)

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
      op: the product of the values, linear in each; by default elementwise, with broadcasting.
      main: which factor is not divided; by default the largest.
    """
    if main is None:
        sizes = [t.shape.num_elements() for t in tensors]
        main = sizes.index(max(sizes))
    factors = []
    for i, t in enumerate(tensors):
        value = t.value if i == main else _over(t.value, tf.reduce_mean(tf.abs(t.value)))
        factors.append(_shared(value, len(tensors)))
    return _normalised((op or _elementwise)(factors), tensors[main].log2_scale)


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


def _normalised(value: tf.Tensor, log2_scale: tf.Tensor) -> FlowTensor:
    exponent, is_zero = _exponent_function(value.dtype)(tf.stop_gradient(value))
    log2_scale = tf.where(is_zero, tf.constant(_OF_ZERO, value.dtype), log2_scale + exponent)
    return FlowTensor(value * _power_of_two(-exponent), log2_scale)


@functools.cache
def _exponent_function(dtype: tf.DType) -> Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]:
    """The exponent of the largest value, and whether that is zero.

    A function of its own in the graph, for it stands behind every op, and tracing a network of
    hundreds of layers is mostly making nodes.
    """

    @tf.function(input_signature=[tf.TensorSpec(None, dtype)], autograph=False)
    def exponent_of(value: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        largest = tf.reduce_max(tf.abs(value))
        exponent = tf.floor(tf.math.log(largest) / tf.math.log(tf.constant(2, dtype)))
        # Infinity and NaN stay as they are, to be found in the scores.
        exponent = tf.where(tf.math.is_finite(exponent), exponent, tf.zeros_like(exponent))
        return exponent, largest == 0

    return exponent_of


def _power_of_two(exponent: tf.Tensor) -> tf.Tensor:
    return tf.stop_gradient(tf.pow(tf.constant(2, exponent.dtype), exponent))
