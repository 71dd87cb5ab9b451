"""Attention: a product of query, key and value, made homogeneous of degree one.

Softmax makes the output a mean of the values, in which no flow passes through query and key: all
their weights would score zero and be the first to go. Here the attention of a query is its products
with the keys, divided by their sum (so that it adds up to one, as softmax's does), a constant to
the gradient; and query, key and value take a third of the gradient each, see `tensor.product`.
docs/gates.md compares this with the alternatives. A mask that the data make is left out; a causal
one stays.
"""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from tf_synflow.flow import tensor
from tf_synflow.flow.rules.registry import apply, flow_rule
from tf_synflow.flow.tensor import FlowTensor
from tf_synflow.flow.theta import Theta

Similarity = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
Mix = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


@flow_rule("MultiHeadAttention", "GroupQueryAttention", "GroupedQueryAttention")
def multi_head_attention(
    layer: Any,
    theta: Theta,
    query: FlowTensor,
    value: FlowTensor,
    key: FlowTensor | None = None,
    return_attention_scores: bool = False,
    use_causal_mask: bool = False,
    **keywords: Any,
) -> Any:
    """Attention by heads; in a grouped one, several of the query share one of keys and values."""
    q = apply(layer._query_dense, theta, query)
    k = apply(layer._key_dense, theta, value if key is None else key)
    v = apply(layer._value_dense, theta, value)
    grouped = hasattr(layer, "num_key_value_heads")
    if grouped:
        group = layer.num_query_heads // layer.num_key_value_heads
        k, v = (x.linear(lambda heads: tf.repeat(heads, group, axis=2)) for x in (k, v))

    def similarity(q: tf.Tensor, k: tf.Tensor) -> tf.Tensor:
        return tf.einsum(layer._dot_product_equation, *((q, k) if grouped else (k, q)))

    output, attention = _attend(
        q,
        k,
        v,
        similarity=similarity,
        mix=lambda attention, v: tf.einsum(layer._combine_equation, attention, v),
        axes=[-1] if grouped else list(range(-len(layer._attention_axes), 0)),
        causal=use_causal_mask,
    )
    if getattr(layer, "_gate_dense", None) is not None:
        output = tensor.product([output, apply(layer._gate_dense, theta, query)])
    output = apply(layer._output_dense, theta, output)
    return [output, attention()] if return_attention_scores else output


@flow_rule("Attention")
def dot_attention(
    layer: Any,
    theta: Theta,
    inputs: list[FlowTensor],
    return_attention_scores: bool = False,
    use_causal_mask: bool = False,
    **keywords: Any,
) -> Any:
    if getattr(layer, "score_mode", "dot") == "concat":
        return additive_attention(
            layer, theta, inputs, return_attention_scores, use_causal_mask, **keywords
        )
    query, value, *key = inputs
    scale = 1 if theta.scale is None else theta.scale
    output, attention = _attend(
        query,
        *(key or [value]),
        value,
        similarity=lambda q, k: scale * tf.matmul(q, k, transpose_b=True),
        mix=tf.matmul,
        axes=[-1],
        causal=use_causal_mask,
    )
    return [output, attention()] if return_attention_scores else output


@flow_rule("AdditiveAttention")
def additive_attention(
    layer: Any,
    theta: Theta,
    inputs: list[FlowTensor],
    return_attention_scores: bool = False,
    use_causal_mask: bool = False,
    **keywords: Any,
) -> Any:
    """Query plus key is one factor, the value is the other: half of the gradient each."""
    query, value, *key = inputs
    scale = 1 if theta.scale is None else theta.scale
    joined = tensor.combine(
        lambda both: tf.reduce_sum(
            scale * (both[0][:, :, tf.newaxis] + both[1][:, tf.newaxis]), -1
        ),
        [query, *(key or [value])],
    )

    def attention(joined: tf.Tensor) -> tf.Tensor:
        return _attention(joined, [-1], use_causal_mask)

    output = tensor.product(
        [value, joined], lambda both: tf.matmul(attention(both[1]), both[0]), main=0
    )
    return [output, FlowTensor.of(attention(joined.value))] if return_attention_scores else output


def _attend(
    query: FlowTensor,
    key: FlowTensor,
    value: FlowTensor,
    *,
    similarity: Similarity,
    mix: Mix,
    axes: list[int],
    causal: bool,
) -> tuple[FlowTensor, Callable[[], FlowTensor]]:
    """The mixed values, and what gives the attention that mixed them, if anyone asks."""

    def attention(q: tf.Tensor, k: tf.Tensor) -> tf.Tensor:
        return _attention(similarity(q, k), axes, causal)

    mixed = tensor.product(
        [value, query, key],
        lambda values: mix(attention(values[1], values[2]), values[0]),
        main=0,
    )
    return mixed, lambda: FlowTensor.of(attention(query.value, key.value))


def _attention(similarity: tf.Tensor, axes: list[int], causal: bool) -> tf.Tensor:
    """What adds up to one over the keys, and to the gradient is linear in the similarity."""
    return tensor.over_sum(tf.linalg.band_part(similarity, -1, 0) if causal else similarity, axes)
