"""The runtimes that an exported file is run in."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tf_synflow import errors
from tf_synflow.process import quiet

Arrays = Mapping[str, np.ndarray]
Run = Callable[[Arrays], dict[str, np.ndarray]]
"""From named inputs to named outputs."""

SIGNATURE = "serving_default"


class NotRunError(Exception):
    """This runtime cannot be used here, which says nothing about the file."""


def interpreter(content: bytes, *, delegate: bool = True) -> Run:
    """Loads a file in ai-edge-litert's Interpreter, with its default delegate or without any.

    Raises:
      DependencyError: ai-edge-litert cannot be imported.
      ExportError: the file does not load; the function returned raises it if it does not run.
    """
    try:
        from ai_edge_litert import interpreter as litert
    except ImportError as error:
        raise errors.DependencyError(
            f"ai-edge-litert could not be imported ({error}); the exported file is run in it "
            "before it is written: pip install ai-edge-litert"
        ) from error
    kinds = litert.OpResolverType
    kind = kinds.AUTO if delegate else kinds.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    return _by_signature("ai-edge-litert", litert.Interpreter, content, kind)


def tf_lite(content: bytes) -> Run:
    """Loads a file in tf.lite.Interpreter, which TensorFlow still brings."""
    import tensorflow as tf

    if not hasattr(getattr(tf, "lite", None), "Interpreter"):
        raise NotRunError(f"TensorFlow {tf.__version__} has no tf.lite.Interpreter")
    kind = tf.lite.experimental.OpResolverType.AUTO
    return _by_signature("tf.lite", tf.lite.Interpreter, content, kind)


def compiled_model(content: bytes) -> Run:
    """Loads a file in ai-edge-litert's CompiledModel, on the CPU.

    A file that takes any batch is run item by item: resizing a CompiledModel (2.3.0) writes beyond
    its buffers.
    """
    try:
        from ai_edge_litert.compiled_model import CompiledModel
    except ImportError as error:
        raise NotRunError(f"no CompiledModel on this platform ({error})") from error
    _check_compiled(content)
    with quiet():
        try:
            model = CompiledModel.from_buffer(content)
            names = model.get_signature_list()[SIGNATURE]
            inputs = model.get_input_tensor_details(SIGNATURE)
            buffers = [
                {name: create(SIGNATURE, name) for name in names[kind]}
                for kind, create in (
                    ("inputs", model.create_input_buffer_by_name),
                    ("outputs", model.create_output_buffer_by_name),
                )
            ]
        except (ValueError, RuntimeError) as error:
            raise errors.ExportError(
                f"CompiledModel cannot load the file: {_flat(error)}"
            ) from error
    size = next(iter(inputs.values()))["shape"][0]

    def run(batch: Arrays) -> dict[str, np.ndarray]:
        count = len(next(iter(batch.values())))
        parts = [
            _run_buffers(model, buffers, {n: v[i : i + size] for n, v in batch.items()})
            for i in range(0, count, size)
        ]
        if len(parts) == 1:
            return parts[0]  # also an output without a batch
        return {
            name: np.concatenate([np.atleast_1d(part[name]) for part in parts]) for name in parts[0]
        }

    return run


RUNTIMES: dict[str, Callable[[bytes], Run]] = {
    "Interpreter": interpreter,
    "CompiledModel": compiled_model,
    "tf.lite": tf_lite,
}


# What ai-edge-litert's TensorBuffer (2.3.0) reads and writes.
_BUFFERED = ("float32", "float16", "int32", "int8", "uint8", "bool")


def _check_compiled(content: bytes) -> None:
    """`NotRunError` for what CompiledModel's Python interface does not take, in a file that may
    well run: a free dimension besides the batch, int64 and the like.
    """
    from ai_edge_litert.interpreter import Interpreter

    try:
        file = Interpreter(model_content=content)
        inputs, outputs = file.get_input_details(), file.get_output_details()
    except (ValueError, RuntimeError) as error:
        raise errors.ExportError(f"ai-edge-litert cannot load the file: {_flat(error)}") from error
    if any(np.any(item["shape_signature"][1:] < 0) for item in inputs):
        raise NotRunError("it has a free dimension, and a CompiledModel cannot be resized")
    for item in (*inputs, *outputs):
        if (dtype := np.dtype(item["dtype"]).name) not in _BUFFERED:
            raise NotRunError(f"its Python interface has no buffers of {dtype}")


def _run_buffers(model: Any, buffers: list[dict[str, Any]], batch: Arrays) -> dict[str, np.ndarray]:
    inputs, outputs = buffers
    try:
        with quiet():
            for name, value in batch.items():
                inputs[name].write(value)
            model.run_by_name(SIGNATURE, inputs, outputs)
        details = model.get_output_tensor_details(SIGNATURE)
        found = {}
        for name, buffer in outputs.items():
            shape = tuple(details[name]["shape"])
            flat = buffer.read(int(np.prod(shape)), np.dtype(details[name]["dtype"]))
            found[name] = flat.reshape(shape)
        return found
    except (ValueError, RuntimeError) as error:
        raise errors.ExportError(
            f"CompiledModel cannot run the file: {_flat(error)}.\nOf a file with a free batch, try "
            "batch_size=1."
        ) from error


_FAR_APART = (
    "XNNPACK takes no int8 ranges that lie too far apart, like those of a network that was pruned "
    "and not trained yet, in which signals vanish: train it before it is quantized, or try another "
    "quantize."
)


def _by_signature(name: str, kind: type, content: bytes, resolver: Any) -> Run:
    try:
        with quiet():  # tf.lite announces its end at every start
            loaded = kind(model_content=content, experimental_op_resolver_type=resolver)
        runner = loaded.get_signature_runner(SIGNATURE)
    except (ValueError, RuntimeError) as error:
        raise errors.ExportError(f"{name} cannot load the file: {_flat(error)}") from error

    def run(batch: Arrays) -> dict[str, np.ndarray]:
        try:
            return runner(**batch)
        except (ValueError, RuntimeError) as error:
            shapes = ", ".join(f"{key} {v.dtype}{v.shape}" for key, v in batch.items())
            reason = f"{name} cannot run the file on {shapes}: {_flat(error)}"
            raise errors.ExportError(reason, _FAR_APART if "XNNPACK" in reason else "") from error

    return run


def _flat(error: Exception) -> str:
    return " ".join(str(error).split())[:400]
