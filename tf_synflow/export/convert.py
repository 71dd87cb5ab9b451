"""Keras model to TFLite bytes, in memory."""

import contextlib
import logging
import tempfile
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

from tf_synflow import errors
from tf_synflow.export.signature import Signature
from tf_synflow.flow import weights


class Converted(NamedTuple):
    """The bytes of both encodings, and the batch they take (None: any)."""

    dense: bytes
    sparse: bytes
    batch_size: int | None


def convert(signature: Signature, batch_size: int | None | Literal["auto"] = "auto") -> Converted:
    """Converts a model to float32 TFLite, dense and sparse-encoded.

    Both Kerases go the same way: one traced function that owns its variables, saved, and converted
    twice. (Keras 3 through `from_concrete_functions` alone gives a file of variable handles.)

    Args:
      signature: the model, by its named inputs and outputs.
      batch_size: the batch in the file; None leaves it free; "auto" leaves it free where the
          converter can, else 1 (a Keras 3 LSTM, for one, needs it fixed).

    Returns:
      The bytes of both files and the batch size.

    Raises:
      ExportError: the converter refused the model.
    """
    if batch_size == "auto":
        fixed = signature.inputs[0].shape[0]
        try:
            return convert(signature, fixed)
        except errors.ExportError:
            if fixed is not None:
                raise
            return convert(signature, 1)
    with _quiet(), tempfile.TemporaryDirectory(prefix="tf_synflow_") as folder:
        try:
            _save(signature, batch_size, folder)
            return Converted(_tflite(folder, False), _tflite(folder, True), batch_size)
        except OSError as error:
            raise errors.OutputError(
                f"Could not write the intermediate SavedModel to {folder} ({error}); expected room "
                "there. Free some, or point TMPDIR elsewhere."
            ) from error
        except Exception as error:  # the converter and SavedModel raise bare Exceptions
            raise errors.ExportError(
                f"TFLite could not convert the model with batch size {batch_size or 'free'}: "
                f"{_first_lines(error)}\nExpected ops that TFLite has as builtins. Try "
                "batch_size=1, or replace the op that is named."
            ) from error


def _save(signature: Signature, batch_size: int | None, folder: str) -> None:
    import tensorflow as tf

    specs = {
        item.name: tf.TensorSpec((batch_size, *item.shape[1:]), item.dtype, name=item.name)
        for item in signature.inputs
    }
    serve = tf.function(lambda **inputs: signature(**inputs), autograph=False)
    module = tf.Module()
    with _unfused(signature.model):
        module.serve = serve.get_concrete_function(**specs)
    module.held = module.serve.graph.variables  # what nobody holds would not be saved
    tf.saved_model.save(module, folder, signatures={"serving_default": module.serve})


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


def _tflite(folder: str, sparse: bool) -> bytes:
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_saved_model(folder)
    if sparse:
        converter.optimizations = [tf.lite.Optimize.EXPERIMENTAL_SPARSITY]
    return converter.convert()


def _first_lines(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:6])[:600] or type(error).__name__


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps the Python side of TensorFlow silent, and leaves the log levels as they were.

    The C++ side is set by TF_CPP_MIN_LOG_LEVEL, once, before TensorFlow is imported.
    """
    loggers = [logging.getLogger(name) for name in ("absl", "tensorflow")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
