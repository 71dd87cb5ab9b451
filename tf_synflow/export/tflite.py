"""export_tflite: a Keras model becomes a TFLite file that has been run and compared."""

import importlib.metadata
import os
import platform
from typing import Any, Literal

from tf_synflow import compat, errors, files, progress, quantities
from tf_synflow.export import arguments
from tf_synflow.export import samples as sample_data
from tf_synflow.export.convert import Quantize
from tf_synflow.export.emitted import read_tensors
from tf_synflow.export.formats import Formats
from tf_synflow.export.prepare import check_model, prepared
from tf_synflow.export.report import ExportReport
from tf_synflow.export.signature import Signature
from tf_synflow.flow import graph
from tf_synflow.masks.acceleration import OF_TARGET
from tf_synflow.targets import Target
from tf_synflow.tflite.downloads import zlib_bytes, zstd_bytes


def export_tflite(
    model: Any,
    path: str | os.PathLike,
    *,
    sparse: Literal["auto"] | bool = "auto",
    quantize: Quantize = None,
    target: Target = "cpu-x86",
    shrink: bool = True,
    representative_data: Any = None,
    batch_size: int | None | Literal["auto"] = "auto",
    samples: Any = None,
    seed: int = 0,
    tolerance: float | None = None,
    verbose: bool | str = "auto",
) -> ExportReport:
    """Writes a TFLite file, after it has been run and compared with the model.

    The model is converted in memory, each weight encoded as suits the target, and the bytes are run
    in ai-edge-litert (Interpreter and CompiledModel) and tf.lite, with their default delegates, on
    zeros, ones, random inputs and `samples`; the outputs are compared with those of the Keras
    model. A sparse file is also compared with the dense file of the same format, far more closely.
    Only then is the file written, at once or not at all: a failed export leaves what was at `path`.

    Args:
      model: a built tf_keras or Keras 3 model: Sequential, Functional or nested; a model that is
          still wrapped for pruning is stripped first, and one that was trained in mixed
          precision is exported, and compared, in float32. The model itself is not changed.
      path: the file to write; its folder must exist. An older file there is replaced.
      sparse: "auto" encodes a weight sparsely where that makes it faster on the target, or smaller
          and no slower, and falls back to dense where the sparse file does not compute the same;
          True takes the smallest encoding of each; False leaves all dense.
      quantize: None for float32; "float16" halves the constants, which are unpacked to float32 at
          load; "dynamic" stores the larger weights in int8 and quantizes activations as they come;
          "int8" computes in int8 wherever TFLite can, with float32 inputs and outputs, and needs
          `representative_data`.
      target: where the file shall run: "cpu-x86", "cpu-arm", "wasm" or "microcontroller". The last
          has no sparse kernels: all is dense.
      shrink: remove channels and units first through which nothing flows (`tf_synflow.shrink`);
          the file is compared with the model as it was.
      representative_data: for "int8", a few hundred real inputs: an array, a list of arrays for
          several inputs, a dictionary by input name, or a tf.data.Dataset or other iterable of
          batches (of which a tuple's first entry is the inputs). At most 1,024 samples are used,
          of an array from all over it.
          A model after TFMOT's quantization-aware training knows its ranges and takes none.
      batch_size: the batch in the file: a number, None for any, or "auto": any where the
          converter and the runtimes can, else 1.
      samples: real inputs to compare on as well: an array with the samples along its first axis;
          for several inputs a list of such arrays, or a dictionary by input name. An int8 file is
          compared on these and the representative ones alone: it is right in their range only.
      seed: of the random inputs.
      tolerance: largest accepted difference, relative to the largest magnitude of each output; by
          default what the number format allows: `export.verify.TOLERANCES`. Below 1 an int8 file
          is also refused that follows an output no better than a constant would.
      verbose: True, False or "auto": a progress bar on what takes over two seconds.

    Returns:
      An `ExportReport`: print it, or take `to_dict()`.

    Raises:
      ExportError: the model cannot be converted; the file gives NaN or differs from the model;
          `sparse=True` and nothing in the model can be encoded.
      OutputError: the file cannot be written.
      ModelError: not a Keras model, not built, or inputs that TFLite cannot take.
      DataError: `samples` or `representative_data` do not fit the model's inputs, or the latter is
          missing.
      UnknownNameError: another `quantize`, `target` or `sparse`.

    Example:
      >>> report = tf_synflow.export_tflite(pruned, "model.tflite")
      >>> print(report)
      >>> tf_synflow.export_tflite(
      ...     pruned, "int8.tflite", quantize="int8", representative_data=x_train[:500])
    """
    check_model(model)
    arguments.check_names(sparse, quantize, target, shrink)
    quantities.check_seed(seed)
    path = arguments.checked_path(path)
    tolerance = arguments.checked_tolerance(tolerance, quantize, model)
    with progress.bar(
        total=3, desc="exporting", unit="step", verbose=verbose, leave=False
    ) as steps:
        by_zeros = OF_TARGET[target] if quantize is None else None
        reference, plain, notes = prepared(model, shrink, by_zeros)
        # Keras 3 gives inputs without a name another one when it rebuilds the model.
        given = getattr(model, "inputs", None) if graph.is_graph(model) else None
        signature = Signature(reference, [tensor.name for tensor in given or ()] or None)
        known = arguments.representative(signature, quantize, representative_data)
        if samples is not None:
            samples = sample_data.by_name(signature.inputs, samples, "samples")
        formats = Formats(
            signature, plain, quantize, known, target, sparse, samples, seed, tolerance
        )
        wanted = arguments.checked_batch(batch_size, signature)
        try:
            file = formats.file(None if wanted == "auto" else wanted, steps)
        except errors.ExportError as error:
            if wanted != "auto":
                raise
            # The converter cannot always leave the batch free, as in an LSTM of Keras 3; and
            # CompiledModel computes garbage, or nothing, where an output of such a file comes from
            # a Reshape, or in Keras 3 a Flatten.
            steps.n = 0  # reset() would draw a bar
            file = formats.file(1, steps)
            reason = error.reason.partition("\n")[0]
            file.notes.insert(0, f"batch size fixed at 1, for with a free one: {reason}")
    report = ExportReport(
        path=str(path),
        quantize=quantize or "float32",
        target=target,
        encoding="dense" if file.content is file.dense else "sparse",
        file_bytes=len(file.content),
        dense_bytes=len(file.dense),
        sparse_bytes=len(file.encoded),
        zlib_bytes=zlib_bytes(file.content),
        zstd_bytes=zstd_bytes(file.content),
        batch_size=file.batch_size,
        tensors=read_tensors(file.content),
        dense_because=file.reasons,
        agreement=file.agreement,
        notes=(*notes, *file.notes),
        versions=_versions(reference),
    )
    with files.whole(path) as temporary:
        temporary.write_bytes(file.content)
    return report


def _versions(model: Any) -> dict[str, str]:
    keras = compat.keras_of(model)
    versions = {"python": platform.python_version(), keras.__name__: keras.__version__}
    for package in ("tensorflow", "ai-edge-litert"):
        versions[package] = importlib.metadata.version(package)
    return versions
