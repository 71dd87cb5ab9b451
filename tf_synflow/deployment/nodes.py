"""What XNNPACK's sparse inference makes of a single op: a part of a chain, or what is amiss.

XNNPACK computes sparsely only in whole chains of ops, whose activations it turns to NCHW at a stem
and back at a global mean. The rules are those of `xnn_check_nchw_compatibility` in its subgraph.c
and, for what becomes of a TFLite op, of the delegate's xnnpack_delegate.cc.
"""

import dataclasses
from collections.abc import Iterator
from typing import Literal

from tf_synflow.tflite.graph import SAME, Graph, Op

_FLOATS = frozenset(("float32", "float16"))
_UNARY = frozenset(
    "ABS CEIL ELU EXP FLOOR GELU HARD_SWISH LEAKY_RELU LOG LOGISTIC NEG RELU RELU6 RELU_N1_TO_1 "
    "ROUND RSQRT SQRT SQUARE TANH".split()
)
_BINARY = frozenset(("ADD", "MUL"))
# Of these only the first operand is an activation or a weight; the rest are axes and sizes.
_FIRST_ONLY = frozenset(("MEAN", "RESIZE_BILINEAR", "DEPTH_TO_SPACE"))

Padding = tuple[int, int, int, int]


@dataclasses.dataclass(frozen=True)
class Node:
    """An op as XNNPACK sees it.

    Attributes:
      role: `enters` NCHW (a stem), `stays` in it, `leaves` it (a global mean); None for an op that
          cannot be part of a chain.
      fault: why it cannot.
      inputs: the tensors it takes that are not constants, in front of a fused PAD.
    """

    role: Literal["enters", "stays", "leaves"] | None
    fault: str
    inputs: tuple[int, ...]


def nodes_of(graph: Graph) -> dict[int, Node]:
    """The ops that XNNPACK looks at, by their number in the graph.

    Ops that are gone by then are left out: DENSIFY and DEQUANTIZE of constants, and a PAD that is
    fused into the convolution behind it.

    Example:
      >>> [node.fault for node in nodes_of(graph).values() if node.fault]
      ["it is a 3×3 stem padded 'same', not by 1 on each side: ZeroPadding2D(1)"]
    """
    paddings = dict(_fused_paddings(graph))
    gone = {pad for pad, _ in paddings.values()} | {
        number
        for number, op in enumerate(graph.ops)
        if op.kind in ("DENSIFY", "DEQUANTIZE") and graph.constant(op.outputs[0])
    }
    nodes = {}
    for number, op in enumerate(graph.ops):
        if number not in gone:
            pad, amounts = paddings.get(number, (None, (0, 0, 0, 0)))
            role, fault = _judge(graph, op, amounts)
            taken = op.inputs if pad is None else (graph.ops[pad].inputs[0], *op.inputs[1:])
            inputs = [i for i in taken if i >= 0 and graph.constant(i) is None]
            nodes[number] = Node(role, fault, tuple(inputs))
    return nodes


def is_pointwise(graph: Graph, op: Op) -> bool:
    """Whether an op is a convolution with a constant 1×1 kernel."""
    kernel = _kernel(graph, op) if op.kind == "CONV_2D" else None
    return kernel is not None and kernel[1:3] == (1, 1)


def _judge(graph: Graph, op: Op, fused: Padding) -> tuple[str | None, str]:
    """Role and fault of an op."""
    operands = [i for i in op.inputs if i >= 0]
    operands = operands[:1] if op.kind in _FIRST_ONLY else operands
    others = {graph.tensors[i].dtype for i in (*operands, *op.outputs)} - _FLOATS
    if others:
        said = ", ".join(sorted(others - {"int32"} or others))  # int32 is an int8 op's bias
        return None, f"it computes with {said}; float is needed"
    if op.kind in ("CONV_2D", "DEPTHWISE_CONV_2D"):
        return _judge_convolution(graph, op, fused)
    if op.kind == "DEPTH_TO_SPACE":
        return "leaves", ""
    rank = len(graph.tensors[operands[0]].shape) if operands else 0
    if op.kind == "MEAN":
        axes = _integers(graph, op.inputs[1])
        if rank == 4 and sorted(axes) == [1, 2]:
            return "leaves", ""
        return None, f"it is a mean over axes {axes} of rank {rank}, not over rows and columns"
    if op.kind in _BINARY:
        if {len(graph.tensors[i].shape) for i in operands} != {4}:
            return None, "not both of its inputs have rank 4"
        constants = [graph.tensors[i].shape for i in operands if graph.constant(i)]
        if any(sum(size > 1 for size in shape) > 1 for shape in constants):
            return None, "its constant is neither a scalar nor a vector"
        return "stays", ""
    if op.kind in _UNARY or op.kind == "RESIZE_BILINEAR":
        return ("stays", "") if rank == 4 else (None, f"its input has rank {rank}, not 4")
    return None, "it has no NCHW kernel"


def _judge_convolution(graph: Graph, op: Op, fused: Padding) -> tuple[str | None, str]:
    kernel = _kernel(graph, op)
    if kernel is None:
        return None, "its kernel is no constant"
    if (op.options["dilation_h"], op.options["dilation_w"]) != (1, 1):
        return None, "it is dilated"
    size, strides = kernel[1:3], (op.options["stride_h"], op.options["stride_w"])
    padding = _padding(op, size, strides, fused)
    channels = (graph.tensors[op.inputs[0]].shape or (0,))[-1]
    if op.kind == "DEPTHWISE_CONV_2D":
        if kernel[3] != channels:
            return None, "its depth multiplier is not 1"
        if size not in ((3, 3), (5, 5)):
            return None, f"it is {_times(size)}, not 3×3 or 5×5"
        if strides not in ((1, 1), (2, 2)):
            return None, f"its stride is {_times(strides)}, not 1 or 2"
        return _judge_padding("stays", "", padding, size[0] // 2)
    if kernel[3] != channels:
        return None, "it is grouped"
    if size == (1, 1):
        if strides != (1, 1):
            return None, f"it is 1×1 with stride {_times(strides)}, not 1"
        return ("stays", "") if padding == (0, 0, 0, 0) else (None, "it is 1×1 and padded")
    if (size, channels) != ((3, 3), 3):
        return None, f"it is {_times(size)} from {channels} channels, not 1×1 or a 3×3 stem from 3"
    if strides != (2, 2):
        return None, f"it is a 3×3 stem with stride {_times(strides)}, not 2"
    return _judge_padding("enters", "a 3×3 stem ", padding, 1)


def _judge_padding(
    role: str, what: str, padding: Padding | None, wanted: int
) -> tuple[str | None, str]:
    if padding == (wanted,) * 4:
        return role, ""
    found = "'same'" if padding is None else "by {} above, {} right, {} below, {} left"
    found = found.format(*padding or ())
    return None, (
        f"it is {what}padded {found}, not by {wanted} on each side: ZeroPadding2D({wanted}) and "
        "padding='valid'"
    )


def _kernel(graph: Graph, op: Op) -> tuple[int, ...] | None:
    found = graph.constant(op.inputs[1])
    return found[0].shape if found and len(found[0].shape) == 4 else None


def _padding(
    op: Op, kernel: tuple[int, int], strides: tuple[int, int], fused: Padding
) -> Padding | None:
    """Top, right, bottom, left; None where only TensorFlow's 'same' says it."""
    if op.options["padding"] != SAME:
        return fused
    if strides != (1, 1):
        return (0, 0, 0, 0) if kernel == (1, 1) else None
    rows, columns = kernel[0] - 1, kernel[1] - 1
    own = (rows // 2, columns - columns // 2, rows - rows // 2, columns // 2)
    return tuple(a + b for a, b in zip(own, fused, strict=True))


def _fused_paddings(graph: Graph) -> Iterator[tuple[int, tuple[int, Padding]]]:
    """For a convolution behind a PAD of its own: the PAD's number, and top, right, bottom, left."""
    users: dict[int, list[int]] = {}
    for number, op in enumerate(graph.ops):
        for index in set(op.inputs):
            users.setdefault(index, []).append(number)
    for pad, op in enumerate(graph.ops):
        taken = users.get(op.outputs[0], []) if op.kind == "PAD" else []
        if len(taken) != 1 or op.outputs[0] in graph.outputs:
            continue
        amounts, user = _integers(graph, op.inputs[1]), graph.ops[taken[0]]
        if user.kind not in ("CONV_2D", "DEPTHWISE_CONV_2D") or len(amounts) != 8:
            continue
        same = user.options["padding"] == SAME
        if same and (user.options["stride_h"], user.options["stride_w"]) != (1, 1):
            continue
        *front, top, bottom, left, right, channels_before, channels_after = amounts
        if not any((*front, channels_before, channels_after)):
            yield taken[0], (pad, (top, right, bottom, left))


def _integers(graph: Graph, index: int) -> tuple[int, ...]:
    """The values of a constant of whole numbers; empty for anything else."""
    found = graph.constant(index)
    size = {"int32": 4, "int64": 8}.get(found[0].dtype) if found else None
    if size is None or len(found[0].data) % size:
        return ()
    return tuple(found[0].data.view(f"<i{size}").tolist())


def _times(sizes: tuple[int, int]) -> str:
    return "×".join(map(str, sizes))
