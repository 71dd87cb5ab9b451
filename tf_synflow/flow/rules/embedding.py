"""Embeddings."""

from typing import Any

import tensorflow as tf

from tf_synflow.flow.rules.registry import flow_rule
from tf_synflow.flow.tensor import FlowTensor
from tf_synflow.flow.theta import Theta


@flow_rule("Embedding", "ReversibleEmbedding")
def embedding(layer: Any, theta: Theta, x: FlowTensor, reverse: bool = False) -> FlowTensor:
    """Each token as the mean over all rows: an all-ones input would only ever see row one.

    The reverse of a `ReversibleEmbedding`, from features to tokens, is the dense layer it is.
    """
    if reverse:
        kernel = theta.reverse_embeddings
        if kernel is None:
            kernel = tf.transpose(theta.first("embeddings", "_embeddings"))
        return x.linear(lambda value: tf.tensordot(value, kernel, 1))
    row = tf.reduce_mean(theta.first("embeddings", "_embeddings"), axis=0)
    return x.linear(lambda value: value[..., tf.newaxis] * row)
