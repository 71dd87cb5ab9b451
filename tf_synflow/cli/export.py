r"""Export a saved model, pruned or plain, to TFLite, run it and compare it.

    tf-synflow-export --model=model.keras --output=model.tflite
    tf-synflow-export --model=model.keras --output=model.tflite --quantize=int8 \
        --representative_data=inputs.npy

Writes the file, and beside it a report of what is in it and how it agrees with the model.
"""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

from tf_synflow import files
from tf_synflow.cli import common, model_files
from tf_synflow.errors import DataError, first_line
from tf_synflow.targets import TARGETS

_MODEL = flags.DEFINE_string(
    "model", None, "Saved model: a .keras or .h5 file or a SavedModel folder.", required=True
)
_OUTPUT = flags.DEFINE_string("output", None, "The .tflite file to write.", required=True)
_SPARSE = flags.DEFINE_enum(
    "sparse",
    "auto",
    ["auto", "true", "false"],
    "Encode zeros: 'auto' where that makes a weight faster, or smaller and no slower; 'true' "
    "wherever it makes it smaller.",
)
_QUANTIZE = flags.DEFINE_enum(
    "quantize",
    "float32",
    ["float32", "float16", "dynamic", "int8"],
    "Number format: 'dynamic' has int8 weights, 'int8' computes in int8 throughout.",
)
_TARGET = flags.DEFINE_enum(
    "target",
    "cpu-x86",
    TARGETS,
    "Where the file shall run; a microcontroller has no sparse kernels.",
)
_SHRINK = flags.DEFINE_bool("shrink", True, "Remove units first through which nothing flows.")
_REPRESENTATIVE = flags.DEFINE_string(
    "representative_data",
    None,
    "For --quantize=int8, a few hundred real inputs, prepared as in training, counted along the "
    "first axis: an .npy file, or an .npz file with an array for each input, by its name.",
)
_SAMPLES = flags.DEFINE_string(
    "samples", None, "Real inputs to compare on as well: an .npy or .npz file as above."
)
_TOLERANCE = flags.DEFINE_float(
    "tolerance",
    None,
    "Largest accepted difference, relative to the largest output; by default what the number "
    "format allows.",
)
_BATCH_SIZE = flags.DEFINE_integer(
    "batch_size", None, "Batch in the file; by default any, where the converter can."
)
_SEED = flags.DEFINE_integer("seed", 0, "Seed of the random inputs to compare on.")


def main() -> None:
    """Flags → a verified file and its report."""
    output = _OUTPUT.value
    report_path = str(Path(output).with_suffix(".report.json"))
    model_files.check_free(output, (".tflite",))
    model_files.check_free(report_path, (".json",))
    representative_data = _arrays("representative_data", _REPRESENTATIVE.value)
    samples = _arrays("samples", _SAMPLES.value)

    common.import_tensorflow()
    import tf_synflow

    report = tf_synflow.export_tflite(
        model_files.load(_MODEL.value),
        output,
        sparse={"auto": "auto", "true": True, "false": False}[_SPARSE.value],
        quantize=None if _QUANTIZE.value == "float32" else _QUANTIZE.value,
        target=_TARGET.value,
        shrink=_SHRINK.value,
        representative_data=representative_data,
        samples=samples,
        tolerance=_TOLERANCE.value,
        batch_size="auto" if _BATCH_SIZE.value is None else _BATCH_SIZE.value,
        seed=_SEED.value,
    )
    with files.whole(report_path) as temporary:
        temporary.write_text(report.to_json() + "\n")
    print(f"{report}\n\nReport: {report_path}")


def _arrays(flag: str, path: str | None) -> Any:
    """The array of an .npy file, or those of an .npz file by name; None without a path."""
    if path is None:
        return None
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return loaded
        arrays = dict(loaded)
        if any(isinstance(array, bytes) for array in arrays.values()):
            raise zipfile.BadZipFile  # of other things, as a .keras file is
        return arrays
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        # NumPy takes whatever it does not know for a pickle, and advises to load it unsafely.
        why = first_line(error) if isinstance(error, OSError) else "it is something else, or cut"
        raise DataError(
            f"--{flag}={path} could not be read ({why}); expected an .npy or .npz "
            "file of numbers, made with numpy.save or numpy.savez."
        ) from error


def run() -> None:
    """Entry point of the console script."""
    common.run(main, __name__)


if __name__ == "__main__":
    run()
