"""One real model the whole way: CIFAR-10, pruned at 100x, shrunk, trained, int8, over the test set.

    python benchmarks/edge_end_to_end.py --data_dir=<TFDS folder>
    python benchmarks/edge_end_to_end.py --data_dir=<TFDS folder> --networks=pruned --out=pruned.csv

The dense network and the pruned and shrunk ones, weight by weight and over whole channels, are
trained equally long with the same recipe (SGD with Nesterov momentum, cosine from 0.05, weight
decay 1e-4). All are exported in float32 and int8, each file is run in ai-edge-litert over the whole
test set, and all files are timed in one interleaved run. Training goes on where it stopped;
docs/results/edge_end_to_end.csv gets a row a file.
"""

import csv
import functools
import os
import pathlib
import time
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf
from absl import app, flags

import tf_synflow
from tf_synflow import compat
from tf_synflow.train import data as data_sets
from tf_synflow.train import models

ROOT = pathlib.Path(__file__).resolve().parent.parent
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Folder of TensorFlow Datasets.")
_MODEL = flags.DEFINE_string("model", "vgg11_bn", "A model of tf_synflow.train.models.")
_COMPRESSION = flags.DEFINE_float("compression", 100, "Prunable over kept weights.")
_EPOCHS = flags.DEFINE_integer("epochs", 5, "Of training, for all.")
_NETWORKS = flags.DEFINE_list(
    "networks", ["dense", "pruned", "pruned in whole channels"], "Which of them."
)
_DTYPE = flags.DEFINE_string(
    "dtype", "float32", "A dtype policy; mixed_bfloat16 pays where the CPU has it in AVX-512."
)
_RUN = flags.DEFINE_string("run", "runs/edge_end_to_end", "Checkpoints and files.")
_OUT = flags.DEFINE_string(
    "out", str(ROOT / "docs" / "results" / "edge_end_to_end.csv"), "The rows."
)
BATCH = 128


def pruned(dense: Any, structure: str | None) -> Any:
    """The dense network, pruned and shrunk."""
    model = tf_synflow.prune_at_init(dense, _COMPRESSION.value, structure=structure)
    return tf_synflow.shrink(model)


def trained(model: Any, data: data_sets.Data, folder: pathlib.Path) -> tuple[Any, float]:
    """The model after training, plain and in float32, and the seconds of an epoch."""
    keras = compat.keras()
    steps = _EPOCHS.value * data.steps_per_epoch
    model.compile(
        keras.optimizers.SGD(
            keras.optimizers.schedules.CosineDecay(
                0.0, steps, warmup_target=0.05, warmup_steps=steps // (2 * _EPOCHS.value)
            ),
            momentum=0.9,
            nesterov=True,
            weight_decay=1e-4,
        ),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    began = time.monotonic()
    history = model.fit(
        data.train_batches(),
        steps_per_epoch=data.steps_per_epoch,
        epochs=_EPOCHS.value,
        callbacks=[keras.callbacks.BackupAndRestore(str(folder))],
        verbose=2,
    )
    return tf_synflow.strip_pruning(model), (time.monotonic() - began) / len(history.epoch)


def accuracy_of_file(path: pathlib.Path, images: np.ndarray, labels: np.ndarray) -> float:
    """Share of the images that the file, in ai-edge-litert, gives their label."""
    from ai_edge_litert.interpreter import Interpreter

    run = Interpreter(str(path), num_threads=1).get_signature_runner()
    name = next(iter(run.get_input_details()))
    guesses = [int(next(iter(run(**{name: i[None]}).values())).argmax()) for i in images]
    return float(np.mean(np.array(guesses) == labels))


def main(argv: list[str]) -> None:
    """Trains all, exports, evaluates, times."""
    del argv
    keras = compat.keras()
    run = pathlib.Path(_RUN.value)
    run.mkdir(parents=True, exist_ok=True)
    data = data_sets.load("cifar10", data_dir=_DATA_DIR.value, batch_size=BATCH, seed=0)
    test = list(data.test_batches())
    images = np.concatenate([x for x, _ in test])
    labels = np.concatenate([y for _, y in test])
    known, _ = next(iter(data.train_batches()))

    dense = models.build(
        _MODEL.value, input_shape=data.input_shape, num_classes=10, keras=keras, seed=0,
        dtype=_DTYPE.value,
    )  # fmt: skip
    networks = {"dense": lambda: dense}
    for name, structure in (
        ("pruned", None),
        ("pruned in whole channels", "channel"),
        ("pruned in 16 channels", "channel:16"),
    ):
        networks[name] = functools.partial(pruned, dense, structure)
    rows, paths = [], []
    for what in _NETWORKS.value:
        model, name = networks[what](), what.replace(" ", "_")
        weights = sum(int(tf.size(v)) for v in model.trainable_variables)
        final, seconds = trained(model, data, run / f"{name}_backup")
        logits = final.predict(images, batch_size=256, verbose=0)
        accuracy = float(np.mean(logits.argmax(-1) == labels))
        for quantize in (None, "int8"):
            path = run / f"{name}_{quantize or 'float32'}.tflite"
            report = tf_synflow.export_tflite(
                final,
                path,
                batch_size=1,
                quantize=quantize,
                representative_data=known if quantize else None,
                samples=images[:64],
            )
            rows.append(
                {
                    "model": _MODEL.value,
                    "what": what,
                    "compression": 1 if what == "dense" else _COMPRESSION.value,
                    "format": quantize or "float32",
                    "epochs": _EPOCHS.value,
                    "variables": weights,
                    "seconds_per_epoch": f"{seconds:.0f}",
                    "keras_accuracy": f"{accuracy:.4f}",
                    "file_accuracy": f"{accuracy_of_file(path, images, labels):.4f}",
                    "bytes": report.file_bytes,
                }
            )
            paths.append(path)
            print(rows[-1], flush=True)
    found = tf_synflow.benchmark(paths, threads=[1])
    print(found)
    for row, path in zip(rows, paths, strict=True):
        one = found.of(path)
        row |= {"latency_ms": f"{one.latency_ms:.4g}", "times_faster": f"{one.times_faster:.2f}"}
    with open(_OUT.value, "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    app.run(main)
