"""Dense layers."""

from typing import Any

import tensorflow as tf

from tf_synflow.flow.rules.activation import activation
from tf_synflow.flow.rules.registry import by_class, flow_rule
from tf_synflow.flow.tensor import FlowTensor
from tf_synflow.flow.theta import Theta


@flow_rule("Dense")
@by_class
def dense(layer: Any, theta: Theta, x: FlowTensor) -> FlowTensor:
    x = x.full([-1]).linear(theta.product, x.axes[:-1]).plus(theta.bias)
    return activation(layer.activation, theta, x)


@flow_rule("EinsumDense")
def einsum_dense(layer: Any, theta: Theta, x: FlowTensor) -> FlowTensor:
    x = x.linear(lambda value: tf.einsum(layer.equation, value, theta.kernel)).plus(theta.bias)
    return activation(layer.activation, theta, x)
