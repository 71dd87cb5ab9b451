"""export_tflite: a Keras model becomes a TFLite file that has been run and compared."""

import importlib.metadata
import os
import pathlib
import platform
import zlib
from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from tf_synflow import compat, errors, files, progress
from tf_synflow.export.convert import convert
from tf_synflow.export.prepare import prepared
from tf_synflow.export.probes import probes
from tf_synflow.export.report import ExportReport
from tf_synflow.export.signature import Signature
from tf_synflow.export.tensors import read_tensors
from tf_synflow.export.verify import FLOAT32_TOLERANCE, Agreement, verify


def export_tflite(
    model: Any,
    path: str | os.PathLike,
    *,
    sparse: Literal["auto"] | bool = "auto",
    batch_size: int | None | Literal["auto"] = "auto",
    samples: Any = None,
    seed: int = 0,
    tolerance: float | None = None,
    verbose: bool | str = "auto",
) -> ExportReport:
    """Writes a float32 TFLite file, after it has been run and compared with the model.

    The bytes are converted in memory, run in ai-edge-litert with its default delegate on zeros,
    ones, random inputs and `samples`, and compared with the Keras model's inference outputs. Only
    then is the file written, at once or not at all: a failed export leaves what was at `path`.

    Args:
      model: a built tf_keras or Keras 3 model: Sequential, Functional or nested; a model that is
          still wrapped for pruning is stripped first, and one that was trained in mixed
          precision is exported, and compared, in float32. The model itself is not changed.
      path: the file to write; its folder must exist. An older file there is replaced.
      sparse: True encodes sparsely what the converter can (constants with 30 % zeros or more);
          False nothing; "auto" takes the smaller of the two files, and the dense one where the
          sparse one does not compute the same.
      batch_size: the batch in the file: a number, None for any, or "auto": any where the
          converter can, else 1.
      samples: real inputs to compare on as well: an array with the samples along its first axis;
          for several inputs a list of such arrays, or a dictionary by input name.
      seed: of the random inputs.
      tolerance: largest accepted difference, relative to the largest magnitude of each output;
          1e-4 by default.
      verbose: True, False or "auto": a progress bar on what takes over two seconds.

    Returns:
      An `ExportReport`: print it, or take `to_dict()`.

    Raises:
      ExportError: the model cannot be converted; the file gives NaN or differs from the model;
          `sparse=True` and nothing in the model could be encoded.
      OutputError: the file cannot be written.
      ModelError: not a Keras model, not built, or inputs that TFLite cannot take.
      DataError: `samples` do not fit the model's inputs.

    Example:
      >>> report = tf_synflow.export_tflite(pruned, "model.tflite")
      >>> print(report)
    """
    path = _checked_path(path)
    tolerance = _checked_tolerance(tolerance)
    if sparse != "auto" and not isinstance(sparse, bool):
        raise errors.UnknownNameError("sparse", sparse, ("auto", "True", "False"))
    with progress.bar(
        total=2, desc="exporting", unit="step", verbose=verbose, leave=False
    ) as steps:
        plain, notes = prepared(model)
        signature = Signature(plain)
        converted = convert(signature, _checked_batch(batch_size, signature))
        steps.update()
        if (
            converted.batch_size == 1
            and signature.inputs[0].shape[0] is None
            and batch_size == "auto"
        ):
            notes.append("batch size fixed at 1: the converter cannot leave it free here")

        def verified(content: bytes) -> Agreement:
            batches = probes(signature, batch_size=converted.batch_size, samples=samples, seed=seed)
            return verify(content, signature, batches, tolerance)

        encoding, agreement = _choose(converted.dense, converted.sparse, sparse, verified, notes)
        steps.update()
    content = getattr(converted, encoding)
    report = ExportReport(
        path=str(path),
        encoding=encoding,
        file_bytes=len(content),
        dense_bytes=len(converted.dense),
        sparse_bytes=len(converted.sparse),
        zlib_bytes=len(zlib.compress(content, 9)),
        batch_size=converted.batch_size,
        tensors=tuple(read_tensors(content)),
        agreement=agreement,
        notes=tuple(notes),
        versions=_versions(plain),
    )
    with files.whole(path) as temporary:
        temporary.write_bytes(content)
    return report


def _choose(
    dense: bytes,
    sparse_encoded: bytes,
    sparse: Literal["auto"] | bool,
    verified: Callable[[bytes], Agreement],
    notes: list[str],
) -> tuple[Literal["dense", "sparse"], Agreement]:
    """Which of the two files to write, and how it agrees with the model."""
    if sparse is False:
        return "dense", verified(dense)
    if sparse is True:
        tensors = read_tensors(sparse_encoded)
        if all(tensor.encoding == "dense" for tensor in tensors):
            most = max((t.zeros / t.elements for t in tensors if t.is_weight), default=0.0)
            raise errors.ExportError(
                f"sparse=True, and no tensor was encoded: the emptiest has {most:.1%} zeros; "
                "expected a kernel of rank 2 or 4 with at least 30 %. Prune the model first, or "
                "use sparse='auto', which falls back to dense."
            )
        return "sparse", verified(sparse_encoded)
    if len(sparse_encoded) < len(dense):
        try:
            return "sparse", verified(sparse_encoded)
        except errors.ExportError as error:
            notes.append(f"stored dense, for the sparse file was wrong ({error})")
    return "dense", verified(dense)


def _checked_path(path: str | os.PathLike) -> pathlib.Path:
    """The path, found wanting before the minutes of a conversion rather than after them."""
    path = pathlib.Path(path)
    if path.is_dir():
        raise errors.OutputError(f"{path} is a folder; expected a file to write.")
    if not path.parent.is_dir():
        raise errors.OutputError(f"{path.parent} is no folder; expected one: create it first.")
    if not os.access(path.parent, os.W_OK):
        raise errors.OutputError(f"{path.parent} is not writable; expected a folder that is.")
    return path


def _checked_tolerance(tolerance: float | None) -> float:
    if tolerance is None:
        return FLOAT32_TOLERANCE
    if not 0 <= tolerance < np.inf:
        raise errors.QuantityError(f"tolerance is {tolerance}; expected a number of at least 0.")
    return float(tolerance)


def _checked_batch(batch_size: Any, signature: Signature) -> int | None | Literal["auto"]:
    fixed = signature.inputs[0].shape[0]
    if batch_size in ("auto", None):
        return fixed or batch_size
    if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
        raise errors.QuantityError(
            f"batch_size is {batch_size!r}; expected a whole number of at least 1, None or 'auto'."
        )
    if fixed not in (None, batch_size):
        raise errors.QuantityError(
            f"batch_size is {batch_size}; expected {fixed}, to which the model's input is fixed."
        )
    return batch_size


def _versions(model: Any) -> dict[str, str]:
    keras = compat.keras_of(model)
    versions = {"python": platform.python_version(), keras.__name__: keras.__version__}
    for package in ("tensorflow", "ai-edge-litert"):
        versions[package] = importlib.metadata.version(package)
    return versions
