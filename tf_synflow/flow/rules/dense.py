"""Dense layers."""

from typing import Any

import tensorflow as tf

from tf_synflow.flow.rules.activation import activation
from tf_synflow.flow.rules.registry import flow_rule
from tf_synflow.flow.tensor import FlowTensor
from tf_synflow.flow.theta import Theta


@flow_rule("Dense")
def dense(layer: Any, theta: Theta, x: FlowTensor) -> FlowTensor:
    contract = tf.matmul if len(x.shape) == 2 else lambda a, b: tf.tensordot(a, b, 1)
    x = x.linear(lambda value: contract(value, theta.kernel)).plus(theta.bias)
    return activation(layer.activation, theta, x)


@flow_rule("EinsumDense")
def einsum_dense(layer: Any, theta: Theta, x: FlowTensor) -> FlowTensor:
    x = x.linear(lambda value: tf.einsum(layer.equation, value, theta.kernel)).plus(theta.bias)
    return activation(layer.activation, theta, x)
