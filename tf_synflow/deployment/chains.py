"""Which chains of ops XNNPACK computes sparsely, and what breaks the others.

The rules are those of `xnn_subgraph_rewrite_for_nchw` in XNNPACK's subgraph.c; docs/deployment.md
says which were also seen to hold in LiteRT.js. Where that function lets a chain end in the middle
of nowhere, this one calls the chain broken. Later versions of it count the weights of a Dense layer
behind the mean among those that must be two thirds zero; LiteRT.js 2.5.3 does not.
"""

import dataclasses
from collections.abc import Iterator, Mapping

from tf_synflow.deployment.nodes import Node, is_pointwise, nodes_of
from tf_synflow.tflite.contents import TensorContent
from tf_synflow.tflite.graph import Graph, Tensor


@dataclasses.dataclass(frozen=True)
class Chain:
    """Ops with 1×1 convolutions among them, which turn sparse together or not at all.

    Attributes:
      ops: their numbers in the graph.
      weights: number of weights in its 1×1 convolutions.
      zeros: how many of them are zero.
      broken: why it does not run sparse; empty if it does where XNNPACK has the kernels.
    """

    ops: frozenset[int]
    weights: int
    zeros: int
    broken: str


def chains_of(graph: Graph, contents: Mapping[Tensor, TensorContent]) -> tuple[Chain, ...]:
    """The chains of a graph, in its order.

    Args:
      graph: one of a file's.
      contents: the file's constants, of `read_contents`.

    Example:
      >>> [(len(chain.ops), chain.broken) for chain in chains_of(graph, contents)]
      [(12, '')]
    """
    nodes = nodes_of(graph)
    found = []
    for ops, cause in _connected(graph, nodes):
        pointwise = [number for number in ops if is_pointwise(graph, graph.ops[number])]
        if pointwise:
            counted = [
                contents[graph.constant(graph.ops[number].inputs[1])[0]] for number in pointwise
            ]
            weights = sum(content.elements for content in counted)
            zeros = sum(content.zeros or 0 for content in counted)
            broken = cause or _leak(graph, nodes, ops) or _unprofitable(graph, weights, zeros)
            found.append(Chain(frozenset(ops), weights, zeros, broken))
    # A convolution that is no node of a chain is a chain of its own, and broken.
    for number, node in nodes.items():
        if node.role is None and is_pointwise(graph, graph.ops[number]):
            content = contents[graph.constant(graph.ops[number].inputs[1])[0]]
            weights, zeros = content.elements, content.zeros or 0
            found.append(Chain(frozenset([number]), weights, zeros, node.fault))
    return tuple(sorted(found, key=lambda chain: min(chain.ops)))


def _connected(graph: Graph, nodes: Mapping[int, Node]) -> Iterator[tuple[set[int], str]]:
    """Sets of connected nodes, each with what broke it first; empty if nothing did."""
    producer = {index: n for n in nodes for index in graph.ops[n].outputs}
    leader = {number: number for number, node in nodes.items() if node.role}
    causes: dict[int, str] = {}

    def find(number: int) -> int:
        while leader[number] != number:
            leader[number] = number = leader[leader[number]]
        return number

    for number in leader:
        # A stem takes its input as it is.
        for index in nodes[number].inputs if nodes[number].role != "enters" else ():
            source = producer.get(index)
            if source in leader:
                first, later = sorted((find(source), find(number)))
                leader[later] = first
                if later in causes:
                    causes.setdefault(first, causes.pop(later))
            elif source is None:
                causes.setdefault(find(number), "the chain begins at the input, not at a 3×3 stem")
            else:
                causes.setdefault(find(number), _break_at(graph, nodes, source))
    members: dict[int, set[int]] = {}
    for number in leader:
        members.setdefault(find(number), set()).add(number)
    for first, ops in members.items():
        yield ops, causes.get(first, "")


def _leak(graph: Graph, nodes: Mapping[int, Node], ops: set[int]) -> str:
    """Where an activation in NCHW gets out of a chain; empty if only behind its global mean."""
    behind = {number for number in ops if nodes[number].role == "leaves"}
    inner = {index: n for n in ops - behind for index in graph.ops[n].outputs}
    for number, node in nodes.items():
        if number not in ops and inner.keys() & set(node.inputs):
            return _break_at(graph, nodes, number)
    for index in graph.outputs:
        if index in inner:
            return f"the output of op {inner[index]}, {graph.ops[inner[index]].kind}, leaves it"
    if not behind:
        return "the chain does not end at a global mean"
    return ""


def _unprofitable(graph: Graph, weights: int, zeros: int) -> str:
    """Why XNNPACK leaves a whole chain dense all the same."""
    if zeros * 3 <= weights * 2:
        share = zeros / weights if weights else 0
        return f"{share:.1%} of the chain's weights are zero; more than 66.7 % are needed"
    if not any(op.kind == "DENSIFY" and graph.constant(op.outputs[0]) for op in graph.ops):
        return "no tensor is stored sparse, and then the delegate does not ask for it"
    return ""


def _break_at(graph: Graph, nodes: Mapping[int, Node], number: int) -> str:
    fault = nodes[number].fault or "it is no part of it"
    return f"the chain breaks at op {number}, {graph.ops[number].kind}: {fault}"
