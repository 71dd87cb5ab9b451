"""Export a saved model, pruned or plain, to TFLite, run it and compare it.

    tf-synflow-export --model=model.keras --output=model.tflite

Writes the file, and beside it a report of what is in it and how it agrees with the model.
"""

from pathlib import Path

from absl import flags

from tf_synflow.cli import common, model_files

_MODEL = flags.DEFINE_string(
    "model", None, "Saved model: a .keras or .h5 file or a SavedModel folder.", required=True
)
_OUTPUT = flags.DEFINE_string("output", None, "The .tflite file to write.", required=True)
_SPARSE = flags.DEFINE_enum(
    "sparse",
    "auto",
    ["auto", "true", "false"],
    "Encode zeros: 'auto' takes the smaller of both files.",
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

    common.import_tensorflow()
    import tf_synflow

    report = tf_synflow.export_tflite(
        model_files.load(_MODEL.value),
        output,
        sparse={"auto": "auto", "true": True, "false": False}[_SPARSE.value],
        batch_size="auto" if _BATCH_SIZE.value is None else _BATCH_SIZE.value,
        seed=_SEED.value,
    )
    Path(report_path).write_text(report.to_json() + "\n")
    print(f"{report}\n\nReport: {report_path}")


def run() -> None:
    """Entry point of the console script."""
    common.run(main, __name__)


if __name__ == "__main__":
    run()
