"""What a target makes of each op that holds weights: sparse, dense, or not at all, and why."""

import dataclasses
from collections.abc import Mapping
from typing import Literal

from tf_synflow.deployment.chains import Chain, chains_of
from tf_synflow.deployment.nodes import is_pointwise
from tf_synflow.targets import check_target
from tf_synflow.tflite.contents import TensorContent
from tf_synflow.tflite.graph import Graph, Op, Tensor

NO_ZEROS = "there are no zeros to skip"
_X86_OFF = "XNNPACK switches sparse inference off on an x86 CPU with AVX"
# Of FULLY_CONNECTED.
_KERNELS = (("float32", "block 1x4"), ("float32", "csr"), ("int8", "block 1x16"))
_HYBRID = "sparse int8 weights under float activations (dynamic range)"


@dataclasses.dataclass(frozen=True)
class OpVerdict:
    """What becomes of one op that holds weights.

    Attributes:
      graph, number: which op.
      kind: its name in the schema.
      layer: the layer it belongs to, as far as names tell; else its kind and number.
      runs: `sparse` (its zeros are skipped), `dense`, or `refused` (it does not load, or computes
          wrongly).
      why: the reason, as a sentence's end.
      content: its weights.
    """

    graph: int
    number: int
    kind: str
    layer: str
    runs: Literal["sparse", "dense", "refused"]
    why: str
    content: TensorContent


def verdicts(
    graphs: tuple[Graph, ...], contents: Mapping[Tensor, TensorContent], target: str
) -> tuple[OpVerdict, ...]:
    """A verdict on every op with a constant of rank 2 or more, in the order they run in.

    Args:
      graphs: of `read_graphs`.
      contents: of `read_contents`.
      target: one of `TARGETS`.

    Raises:
      UnknownNameError: another target.
    """
    check_target(target)
    found = []
    for place, graph in enumerate(graphs):
        chains = {number: c for c in chains_of(graph, contents) for number in c.ops}
        for number, op in enumerate(graph.ops):
            weights = _weights(graph, op, contents)
            if weights is not None:
                tensor, densified = weights
                content = dataclasses.replace(contents[tensor], densified=densified)
                runs, why = _verdict(graph, op, content, target, chains.get(number))
                layer = content.layer or f"{op.kind} {number}"
                found.append(OpVerdict(place, number, op.kind, layer, runs, why, content))
    return tuple(found)


def _weights(
    graph: Graph, op: Op, contents: Mapping[Tensor, TensorContent]
) -> tuple[Tensor, bool] | None:
    """The largest weight that an op takes, and whether it comes through DENSIFY."""
    if op.kind in ("DENSIFY", "DEQUANTIZE"):
        return None
    found = [pair for i in op.inputs if (pair := graph.constant(i)) and contents[pair[0]].is_weight]
    return max(found, key=lambda pair: pair[0].elements, default=None)


def _verdict(
    graph: Graph, op: Op, content: TensorContent, target: str, chain: Chain | None
) -> tuple[str, str]:
    sparse = content.encoding != "dense"
    if target == "microcontroller":
        if content.densified:
            return "refused", "LiteRT Micro has no DENSIFY: export with sparse=False"
        if sparse:
            return "refused", "LiteRT Micro reads no sparse tensors: export with sparse=False"
        if content.dtype == "float16":
            return "refused", "LiteRT Micro unpacks no float16: export in float32 or int8"
        if _is_hybrid(graph, op):
            return "refused", (
                "LiteRT Micro has no kernel for int8 weights under float activations (dynamic "
                "range): export in float32 or int8"
            )
        return "dense", "LiteRT Micro has no sparse kernels"
    if sparse and not content.densified:
        return _packed(graph, op, content)
    if sparse and content.dtype == "int8":
        if _is_float(graph, op):
            return "refused", f"the default delegate cannot prepare {_HYBRID}: use sparse=False"
        if op.kind == "FULLY_CONNECTED":
            return "refused", "the default delegate fails on an int8 Dense layer behind DENSIFY"
    if not content.zeros:
        return "dense", NO_ZEROS
    if is_pointwise(graph, op) and chain is not None:
        if target == "cpu-x86":
            return "dense", _X86_OFF
        return ("dense", chain.broken) if chain.broken else ("sparse", "XNNPACK's sparse kernel")
    stored = "unpacked at load: a smaller file, no speed" if sparse else "stored dense"
    return "dense", f"{stored}; {_blocks_hint(op, content)}"


def _packed(graph: Graph, op: Op, content: TensorContent) -> tuple[str, str]:
    """An op that takes a sparse tensor as it is stored, without DENSIFY."""
    if op.kind != "FULLY_CONNECTED":
        return "refused", f"{op.kind} takes no sparse tensor, and no DENSIFY op unpacks it"
    if (content.dtype, content.encoding) in _KERNELS and (
        _is_float(graph, op) == content.dtype.startswith("float")
    ):
        return "sparse", f"TFLite's sparse kernel for {content.encoding} of {content.dtype}"
    if content.dtype == "int8" and _is_float(graph, op):
        return "refused", f"the default delegate computes wrongly with {_HYBRID}: use sparse=False"
    if content.dtype == "float16":
        return "refused", "sparse float16 weights give NaN: export with sparse=False, or float32"
    return "refused", f"no kernel takes {content.encoding} of {content.dtype}"


def _is_float(graph: Graph, op: Op) -> bool:
    """Whether an op takes float activations."""
    return graph.tensors[op.inputs[0]].dtype.startswith("float")


def _is_hybrid(graph: Graph, op: Op) -> bool:
    """Whether a convolution or dense layer takes int8 weights as they are, and floats beside."""
    taken = [graph.tensors[i] for i in op.inputs if i >= 0]
    return (
        (op.kind == "FULLY_CONNECTED" or "CONV" in op.kind)
        and _is_float(graph, op)
        and any(tensor.constant and tensor.dtype == "int8" for tensor in taken)
    )


def _blocks_hint(op: Op, content: TensorContent) -> str:
    if op.kind == "FULLY_CONNECTED":
        block = {"int8": "1x16", "float32": "1x4"}.get(content.dtype)
        if block:
            return f"a Dense layer runs sparse with zeros in blocks of {block} along its input"
    if op.kind == "CONV_2D":
        kernel = "×".join(map(str, content.shape[1:3]))
        return f"a {kernel} convolution has no sparse kernel; shrink() removes its dead channels"
    return f"{op.kind} has no sparse kernel"
