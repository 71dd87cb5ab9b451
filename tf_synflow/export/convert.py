"""Keras model to TFLite bytes, in memory."""

import contextlib
import errno
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from typing import Any, Literal

from tf_synflow import errors
from tf_synflow.export.samples import Batch, in_batches
from tf_synflow.export.signature import Signature
from tf_synflow.flow import weights
from tf_synflow.process import quiet

Quantize = Literal["float16", "dynamic", "int8"] | None
_CONTROL_FLOW = {"While", "StatelessWhile", "If", "StatelessIf"}
QUANTIZATIONS = (None, "float16", "dynamic", "int8")


def convert(
    signature: Signature,
    batch_size: int | None = None,
    *,
    quantize: Quantize = None,
    representative: Batch | None = None,
) -> bytes:
    """Converts a model to TFLite, dense.

    Both Kerases go the same way: one traced function that owns its variables, saved and converted.
    (Keras 3 through `from_concrete_functions` alone gives a file of variable handles.)

    Args:
      signature: the model, by its named inputs and outputs.
      batch_size: the batch in the file; None leaves it free.
      quantize: None for float32; "float16" for the constants; "dynamic" for int8 weights with
          float activations; "int8" for both in int8 where there is a kernel, inputs and outputs
          in float32.
      representative: for "int8", arrays by input name with the samples along the first axis; None
          for a model that knows its ranges from quantization-aware training.

    Returns:
      The bytes of the file.

    Raises:
      ExportError: the converter refused the model.
    """
    with quiet(), tempfile.TemporaryDirectory(prefix="tf_synflow_") as folder:
        try:
            ops = _save(signature, batch_size, folder)
            if representative is not None and ops & _CONTROL_FLOW:
                raise errors.ExportError(
                    "The model has a loop or a branch (an LSTM, GRU or RNN has), on which TFLite's "
                    "calibration for int8 crashes; expected none. Build such layers with "
                    "unroll=True, or use quantize='dynamic'."
                )
            return _tflite(folder, quantize, representative, batch_size or 1)
        except errors.TfSynflowError:
            raise
        except Exception as error:  # the converter and SavedModel raise bare Exceptions
            raise _refusal(error, signature, batch_size, folder) from error


def _refusal(
    error: Exception, signature: Signature, batch_size: int | None, folder: str
) -> errors.TfSynflowError:
    """What the converter, or saving for it, raised, with what to do about it."""
    full = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    if isinstance(error, OSError) or any(os.strerror(code) in str(error) for code in full):
        return errors.OutputError(
            f"Could not write the intermediate SavedModel to {folder} "
            f"({errors.first_line(error)}); expected room there. Free some, or point "
            "TMPDIR elsewhere."
        )
    hint = ""
    if any(None in item.shape[1:] for item in signature.inputs):
        hint = (
            " The sizes that the model leaves open may be the reason: build it with those that it "
            "will be used with."
        )
    if missing := _NO_BUILTIN.findall(str(error)):
        return errors.ExportError(
            f"TFLite has no builtin for {_ops(missing)}; expected a model of builtin ops "
            "alone, which run in every runtime without TensorFlow's own. Replace what is "
            f"named, or leave it out of the model and compute it beside the file.{hint}"
        )
    return errors.ExportError(
        f"TFLite could not convert the model with batch size {batch_size or 'free'}: "
        f"{_first_lines(error)}\nExpected ops that TFLite has as builtins. Try "
        f"batch_size=1, or replace the op that is named.{hint}"
    )


def _save(signature: Signature, batch_size: int | None, folder: str) -> set[str]:
    """Saves the model as a SavedModel; the kinds of the ops in it."""
    import tensorflow as tf

    specs = {
        item.name: tf.TensorSpec((batch_size, *item.shape[1:]), item.dtype, name=item.name)
        for item in signature.inputs
    }
    serve = tf.function(lambda **inputs: signature(**inputs), autograph=False)
    module = tf.Module()
    with _unfused(signature.model), _scoped_once(signature.model):
        module.serve = serve.get_concrete_function(**specs)
    module.held = module.serve.graph.variables  # what nobody holds would not be saved
    tf.saved_model.save(module, folder, signatures={"serving_default": module.serve})
    graph = module.serve.graph.as_graph_def()
    functions = [graph.node, *(function.node_def for function in graph.library.function)]
    return {node.op for nodes in functions for node in nodes}


@contextlib.contextmanager
def _unfused(model: Any) -> Iterator[None]:
    """Keeps tf_keras' LSTM and GRU from the form that the converter fuses.

    TFLite's fused LSTM carries its state from one run to the next, so that the second run of a
    stateless model is wrong unless the caller resets all variables.
    """
    found = (layer for _, layer in weights.layers_of(model))
    layers = [layer for layer in found if hasattr(layer, "_could_use_gpu_kernel")]
    before = [layer._could_use_gpu_kernel for layer in layers]
    try:
        for layer in layers:
            layer._could_use_gpu_kernel = False
        yield
    finally:
        for layer, value in zip(layers, before, strict=True):
            layer._could_use_gpu_kernel = value


@contextlib.contextmanager
def _scoped_once(model: Any) -> Iterator[None]:
    """Gives the tensors of Keras 3 the names of their layers.

    Keras 3 opens a layer's name scope twice, to build it and to call it, and TensorFlow numbers
    the second: the tensors of layer `conv2d` were called `conv2d_1`, which is another layer.
    """
    import tensorflow as tf

    found = [model, *(layer for _, layer in weights.layers_of(model))]
    layers = list({id(item): item for item in found if hasattr(item, "_open_name_scope")}.values())

    def opens(layer: Any) -> Callable[[], Any]:
        # A name that ends in a slash is taken as it is, also for the second time.
        return lambda: tf.name_scope("/".join([*_scopes(), layer.name, ""]))

    for layer in layers:
        layer._open_name_scope = opens(layer)
    try:
        yield
    finally:
        for layer in layers:
            del layer._open_name_scope


def _scopes() -> list[str]:
    """The name scopes that are open, outer first."""
    import tensorflow as tf

    return list(filter(None, tf.get_current_name_scope().split("/")))


def _tflite(
    folder: str, quantize: Quantize, representative: Batch | None, batch_size: int
) -> bytes:
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_saved_model(folder)
    if quantize is not None:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if quantize == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if representative is not None:
        converter.representative_dataset = lambda: in_batches(representative, batch_size)
    return converter.convert()


# As MLIR says it: loc(... "name of the op@function" ...): 'tf.Kind' op is neither a custom op ...
_NO_BUILTIN = re.compile(r"""error: (.*)'tf\.(\w+)' op is neither a custom op nor a flex op""")
_SAID = re.compile(r"""error: .*?: ('tf\.\w+' op [^\n]+)""")


def _ops(missing: list[tuple[str, str]]) -> str:
    """Each kind of op, and where the first of it is: `Erfinv (model/layer/erfinv/Erfinv)`."""
    found = {}
    for location, kind in missing:
        named = re.search(rf"""(\w[^"@]*{kind}[^"@]*)@""", location)
        found.setdefault(kind, f"{kind} ({named[1]})" if named else kind)
    return ", ".join(found.values())


def _first_lines(error: Exception) -> str:
    if said := _SAID.findall(str(error)):  # MLIR puts where it was in front, in many lines
        return "; ".join(dict.fromkeys(said))[:600]
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:6])[:600] or type(error).__name__
