"""The arguments of export_tflite, found wanting before the minutes of a conversion."""

import numbers
import os
import pathlib
from typing import Any, Literal

import numpy as np

from tf_synflow import errors, files
from tf_synflow.export import samples
from tf_synflow.export.convert import QUANTIZATIONS, Quantize
from tf_synflow.export.signature import Signature
from tf_synflow.export.verify import TOLERANCES
from tf_synflow.flow.weights import is_quantization_aware
from tf_synflow.targets import check_target

# Read in tflite-micro's kernels: dequantize_common.cc, conv_common.cc, fully_connected.cc.
_NOT_ON_A_MICROCONTROLLER = {
    "float16": "tflite-micro unpacks no float16, its DEQUANTIZE takes int8 and int16",
    "dynamic": "tflite-micro has no kernels for int8 weights under float activations",
}


def check_names(sparse: Any, quantize: Any, target: Any, shrink: Any = True) -> None:
    """`UnknownNameError` for a value that is none of those documented.

    `ExportError` for a number format that the target does not run.
    """
    if sparse != "auto" and not isinstance(sparse, bool):
        raise errors.UnknownNameError("sparse", sparse, ("auto", "True", "False"))
    if quantize not in QUANTIZATIONS:
        names = (name or "None (float32)" for name in QUANTIZATIONS)
        raise errors.UnknownNameError("quantize", quantize, names)
    if not isinstance(shrink, bool):
        raise errors.UnknownNameError("shrink", shrink, ("True", "False"))
    check_target(target)
    if target == "microcontroller" and quantize in _NOT_ON_A_MICROCONTROLLER:
        raise errors.ExportError(
            f"quantize={quantize!r} for target='microcontroller': "
            f"{_NOT_ON_A_MICROCONTROLLER[quantize]}; expected None or 'int8', which run there."
        )


def representative(signature: Signature, quantize: Quantize, data: Any) -> samples.Batch | None:
    """The calibration data of an int8 export, checked; None where no ranges are to be measured."""
    knows_ranges = is_quantization_aware(signature.model)
    if knows_ranges and quantize in ("float16", "dynamic"):
        raise errors.ExportError(
            f"quantize={quantize!r} for a model after quantization-aware training: TFLite makes it "
            "int8 all the same; expected 'int8', or None for float32."
        )
    if quantize == "int8" and not knows_ranges:
        return samples.representative(signature.inputs, data)
    if data is not None:
        why = "a model that learnt its ranges" if knows_ranges else f"quantize={quantize!r}"
        raise errors.DataError(
            f"representative_data was given with {why}, where no ranges are measured; expected it "
            "with quantize='int8' only, and not after quantization-aware training. Pass samples= "
            "to compare on real inputs."
        )
    return None


def checked_path(path: str | os.PathLike) -> pathlib.Path:
    """The path, if a file can be written there."""
    if not isinstance(path, str | os.PathLike):
        raise errors.OutputError(
            f"path: received {path!r}; expected the name of a file to write, 'model.tflite'."
        )
    path = pathlib.Path(path)
    files.check_name(path)
    if path.is_dir():
        raise errors.OutputError(f"{path} is a folder; expected a file to write.")
    if not path.parent.is_dir():
        raise errors.OutputError(f"{path.parent} is no folder; expected one: create it first.")
    if not os.access(path.parent, os.W_OK):
        raise errors.OutputError(f"{path.parent} is not writable; expected a folder that is.")
    return path


def checked_tolerance(tolerance: float | None, quantize: Quantize, model: Any) -> float:
    """The largest accepted difference: the one given, or that of the number format."""
    if tolerance is None:  # a quantization-aware model computes in steps, whatever its file does
        return TOLERANCES["int8" if is_quantization_aware(model) else quantize]
    if not isinstance(tolerance, numbers.Real) or not 0 <= tolerance < np.inf:
        raise errors.QuantityError(f"tolerance is {tolerance!r}; expected a number of at least 0.")
    return float(tolerance)


def checked_batch(batch_size: Any, signature: Signature) -> int | None | Literal["auto"]:
    """The batch to convert with: the one that the model fixes, or what was asked for."""
    fixed = signature.inputs[0].shape[0]
    if batch_size in ("auto", None):
        return fixed or batch_size
    whole = isinstance(batch_size, numbers.Integral) and not isinstance(batch_size, bool)
    if not whole or batch_size < 1:
        raise errors.QuantityError(
            f"batch_size is {batch_size!r}; expected a whole number of at least 1, None or 'auto'."
        )
    if fixed not in (None, batch_size):
        raise errors.QuantityError(
            f"batch_size is {batch_size}; expected {fixed}, to which the model's input is fixed."
        )
    return int(batch_size)
