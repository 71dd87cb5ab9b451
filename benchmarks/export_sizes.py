"""How near to the entropy floor are exported files? VGG-16-BN at 32x32, pruned by SynFlow at 100x.

    python benchmarks/export_sizes.py

Writes docs/results/export_sizes.csv and prints it. The floor is that of the kernels before
shrinking: `tf_synflow.entropy`; of int8 it is also given with 8 bits a value.
"""

import csv
import os
import pathlib
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from absl import app, flags

import tf_synflow
from tf_synflow import compat
from tf_synflow.entropy import floor_bytes
from tf_synflow.train import models

ROOT = pathlib.Path(__file__).resolve().parent.parent
_MODEL = flags.DEFINE_string("model", "vgg16_bn", "A model of tf_synflow.train.models.")
_COMPRESSION = flags.DEFINE_float("compression", 100, "Prunable over kept weights.")
_ROUNDS = flags.DEFINE_integer("rounds", 100, "Of SynFlow.")
_OUT = flags.DEFINE_string("out", str(ROOT / "docs" / "results" / "export_sizes.csv"), "The rows.")


def pruned() -> object:
    """The pruned model, its batch norms as if trained."""
    keras = compat.keras()
    model = models.build(_MODEL.value, input_shape=(32, 32, 3), num_classes=10, keras=keras)
    schedule = tf_synflow.SynFlowPruningSchedule(_COMPRESSION.value, rounds=_ROUNDS.value)
    model = tf_synflow.strip_pruning(tf_synflow.prune_at_init(model, schedule=schedule))
    rng = np.random.default_rng(0)
    for layer in model.layers:
        if "BatchNormalization" in type(layer).__name__:
            scale, shift, mean, variance = (value.shape for value in layer.get_weights())
            layer.set_weights(
                [
                    rng.uniform(0.8, 1.2, scale),
                    rng.normal(0, 0.05, shift),
                    rng.normal(0, 0.05, mean),
                    rng.uniform(0.8, 1.2, variance),
                ]
            )
    return model


def quantized(kernel: np.ndarray) -> np.ndarray:
    """A kernel in int8, a scale for each output channel, as the converter does."""
    largest = np.abs(kernel).max(axis=tuple(range(kernel.ndim - 1)), keepdims=True)
    return np.round(kernel / np.where(largest, largest, 1) * 127).astype(np.int8)


def main(argv: list[str]) -> None:
    """Exports in each format, sparse and dense, shrunk and not."""
    del argv
    model = pruned()
    kernels = [value for value in model.get_weights() if value.ndim > 1]
    kept = sum(int(np.count_nonzero(kernel)) for kernel in kernels)
    float32 = sum(floor_bytes(kernel) for kernel in kernels)
    floors = {
        "float32": float32,
        "float16": float32 - 2 * kept,
        "int8": sum(floor_bytes(quantized(kernel)) for kernel in kernels),
        "int8, 8 bits a value": float32 - 3 * kept,
    }
    images = np.random.default_rng(1).standard_normal((40, 32, 32, 3)).astype(np.float32)
    with open(_OUT.value, "w", newline="") as file, tempfile.TemporaryDirectory() as folder:
        writer = csv.writer(file)
        head = "format shrink sparse dense_file file zstd floor file/floor zstd/floor difference"
        writer.writerow(head.split())
        for quantize in ("float32", "float16", "int8"):
            for shrink, sparse in ((False, "auto"), (True, "auto"), (True, True)):
                report = tf_synflow.export_tflite(
                    model,
                    pathlib.Path(folder) / "model.tflite",
                    quantize=None if quantize == "float32" else quantize,
                    shrink=shrink,
                    sparse=sparse,
                    representative_data=images if quantize == "int8" else None,
                )
                for name in (key for key in floors if key.startswith(quantize)):
                    row = (
                        name, shrink, sparse, report.dense_bytes, report.file_bytes,
                        report.zstd_bytes, round(floors[name]),
                        f"{report.file_bytes / floors[name]:.3f}",
                        f"{report.zstd_bytes / floors[name]:.3f}",
                        f"{report.agreement.max_rel:.1e}",
                    )  # fmt: skip
                    writer.writerow(row)
                    print(*row, flush=True)


if __name__ == "__main__":
    app.run(main)
