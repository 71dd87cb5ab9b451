"""What a file that export has made holds, read from its bytes and not from the model."""

import contextlib
from collections.abc import Iterator

from tf_synflow import errors
from tf_synflow.tflite.contents import TensorContent, distinct, read_contents
from tf_synflow.tflite.graph import Graph, read_graphs


def graphs_of(content: bytes) -> tuple[Graph, ...]:
    """The tensors and ops of a file, as `read_graphs`.

    Args:
      content: the file's bytes.

    Raises:
      ExportError: not a TFLite file, or it contradicts itself.
    """
    with _own_fault():
        return read_graphs(content)


def read_tensors(content: bytes) -> tuple[TensorContent, ...]:
    """The constants of a file, in its order; those that share a buffer once, under the first.

    Args:
      content: the file's bytes.

    Raises:
      ExportError: as of `graphs_of`; values, shape and sparsity of a tensor must fit, too.

    Example:
      >>> tensors = read_tensors(pathlib.Path("model.tflite").read_bytes())
      >>> sum(tensor.zeros for tensor in tensors if tensor.is_weight)
    """
    with _own_fault():
        return distinct(read_contents(graphs_of(content)))


def float_ops(content: bytes) -> list[str]:
    """The kinds of ops of a file that compute in float32, sorted.

    Raises:
      ExportError: as of `graphs_of`.
    """
    return sorted(
        {
            op.kind
            for graph in graphs_of(content)
            for op in graph.ops
            for output in op.outputs[:1]
            if op.kind != "DEQUANTIZE" and graph.tensors[output].dtype == "float32"
        }
    )


def check_outputs(content: bytes, name: str) -> None:
    """`ExportError` where an output of a file is an input, with no op between them.

    CompiledModel of ai-edge-litert leaves the memory of such an output as it finds it.

    Args:
      content: the file's bytes.
      name: of the model.
    """
    graph = graphs_of(content)[0]
    if set(graph.inputs) & set(graph.outputs):
        only = "" if graph.ops else ", and the file would have no op at all"
        raise errors.ExportError(
            f"Model {name!r} returns an input as it came: of layers like Dropout nothing is left "
            f"in inference{only}. Expected outputs that are computed, for CompiledModel of "
            "ai-edge-litert writes no other. Leave that output off."
        )


@contextlib.contextmanager
def _own_fault() -> Iterator[None]:
    """A file that cannot be read is the user's model elsewhere; one of export's own is not."""
    try:
        yield
    except errors.ModelError as error:
        raise errors.ExportError(str(error)) from error
