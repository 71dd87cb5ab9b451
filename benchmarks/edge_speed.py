"""Does pruning pay on the device? Dense and pruned files side by side, in one interleaved run.

    python benchmarks/edge_speed.py
    python benchmarks/edge_speed.py --models=mlp --seconds=5
    python benchmarks/edge_speed.py --models=mobilenet_v1 --keep=runs/edge
    node benchmarks/wasm/benchmark.mjs runs/edge/mobilenet_v1*.tflite

- `vgg16_*` (32x32, by initializer): SynFlow at 100x and 1000x, weight by weight and over whole
  channels, also in multiples of 16, as many weights kept; dead channels removed (`shrink=True`),
  float32 and int8, against the dense float32 file;
- `mlp` (784-2048-2048-2048-10): SynFlow over blocks of 1x4 at 90 % and 95 % zeros, which
  ai-edge-litert computes with a sparse kernel;
- `mobilenet_v1` (224x224, shaped for XNNPACK): SynFlow on the 1x1 convolutions, 90 % zeros, for
  WASM; on x86 with AVX it gains nothing, which is shown here too.

Writes docs/results/edge_speed.csv and prints it. Every file is compared with its Keras model before
it is timed. Ratios are medians over rounds in which all files take turns.
"""

import csv
import itertools
import os
import pathlib
import tempfile
from collections.abc import Iterator
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from absl import app, flags
from vgg16 import vgg16

import tf_synflow
from tf_synflow import compat
from tf_synflow.tflite.downloads import zstd_bytes
from tf_synflow.train import models

ROOT = pathlib.Path(__file__).resolve().parent.parent
_MODELS = flags.DEFINE_list(
    "models",
    ["vgg16_he_normal", "vgg16_glorot_uniform", "mlp", "mobilenet_v1"],
    "Which networks.",
)
_THREADS = flags.DEFINE_integer("threads", 1, "Of the runtime.")
_KEEP = flags.DEFINE_string("keep", None, "Folder in which the files stay.")
_SECONDS = flags.DEFINE_float("seconds", 3, "Of timed running for each file.")
_OUT = flags.DEFINE_string("out", str(ROOT / "docs" / "results" / "edge_speed.csv"), "The rows.")
COLUMNS = (
    "model what bytes zstd latency_ms low_ms high_ms times_faster load_ms peak_mb where".split()
)

# What a file is called, its model, and the arguments of export_tflite.
File = tuple[str, Any, dict[str, Any]]


def vgg16_he_normal() -> Iterator[File]:
    yield from vgg16_files("he_normal")


def vgg16_glorot_uniform() -> Iterator[File]:
    yield from vgg16_files("glorot_uniform")


def vgg16_files(initializer: str) -> Iterator[File]:
    """Dense and pruned, float32 and int8."""
    dense = vgg16(compat.keras(), initializer)
    images = np.random.default_rng(0).standard_normal((64, 32, 32, 3)).astype(np.float32)
    settle(dense, images)
    int8 = {"quantize": "int8", "representative_data": images}
    yield "dense float32", dense, {"shrink": False, "sparse": False}
    yield "dense int8", dense, {"shrink": False, "sparse": False, **int8}
    how_else = {None: "", "channel": " in whole channels", "channel:16": " in 16 channels"}
    for compression, (structure, how) in itertools.product((100, 1000), how_else.items()):
        pruned = tf_synflow.prune_at_init(dense, compression, structure=structure)
        pruned = tf_synflow.shrink(pruned)
        settle(pruned, images)
        yield f"{compression}x{how} float32", pruned, {}
        yield f"{compression}x{how} int8", pruned, int8


def settle(model: Any, images: np.ndarray) -> None:
    """Lets batch normalization see its data: at 1000x an untrained network's outputs are 1e-11."""
    for _ in range(30):
        model(images, training=True)


def mlp() -> Iterator[File]:
    keras = compat.keras()
    layers = [keras.layers.Dense(2048, activation="relu", name=f"d{i}") for i in range(3)]
    dense = keras.Sequential([keras.Input((784,)), *layers, keras.layers.Dense(10, name="head")])
    yield "dense float32", dense, {"shrink": False, "sparse": False}
    for compression in (10, 20):
        pruned = tf_synflow.prune_at_init(dense, compression, structure={"d*": "1x4"})
        yield f"{compression}x in blocks of 1x4", pruned, {"shrink": False}
        yield f"{compression}x in blocks of 1x4, shrunk", pruned, {}


def mobilenet_v1() -> Iterator[File]:
    keras = compat.keras()
    dense = models.build("mobilenet_v1", input_shape=(224, 224, 3), num_classes=1000, keras=keras)
    yield "dense float32", dense, {"shrink": False, "sparse": False}
    pruned = tf_synflow.prune_at_init(dense, 10, target="wasm")
    yield "10x 1x1 kernels", pruned, {"shrink": False, "target": "wasm"}


def rows_of(model: str, folder: pathlib.Path) -> list[dict[str, Any]]:
    """Exports, measures; one row a file."""
    paths = {}
    for what, pruned, arguments in NETWORKS[model]():
        path = folder / f"{model} {what}.tflite".replace(" ", "_")
        report = tf_synflow.export_tflite(pruned, path, batch_size=1, **arguments)
        print(f"{path.name}: {report.file_bytes:,} bytes", flush=True)
        paths[what] = path
    found = tf_synflow.benchmark(
        list(paths.values()), threads=[_THREADS.value], seconds=_SECONDS.value
    )
    print(found)
    rows = []
    for what, path in paths.items():
        one = found.of(path)
        rows.append(
            {
                "model": model,
                "what": what,
                "bytes": path.stat().st_size,
                "zstd": zstd_bytes(path.read_bytes()),
                "latency_ms": f"{one.latency_ms:.4g}",
                "low_ms": f"{one.latency_low_ms:.4g}",
                "high_ms": f"{one.latency_high_ms:.4g}",
                "times_faster": f"{one.times_faster:.2f}",
                "load_ms": f"{one.load_ms:.3g}",
                "peak_mb": "" if one.peak_bytes is None else f"{one.peak_bytes / 1e6:.1f}",
                "where": f"{found.machine['processor']}, {_THREADS.value} threads; "
                + ", ".join(f"{name} {version}" for name, version in found.versions.items()),
            }
        )
    return rows


NETWORKS = {one.__name__: one for one in (vgg16_he_normal, vgg16_glorot_uniform, mlp, mobilenet_v1)}


def main(argv: list[str]) -> None:
    """Measures the models that were asked for; the rows of others stay."""
    del argv
    out = pathlib.Path(_OUT.value)
    rows = []
    if out.exists():
        with out.open(newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["model"] not in _MODELS.value]
    for model in _MODELS.value:
        with tempfile.TemporaryDirectory() as scratch:
            folder = pathlib.Path(_KEEP.value or scratch)
            folder.mkdir(parents=True, exist_ok=True)
            rows += rows_of(model, folder)
    with out.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    print(out.read_text())


if __name__ == "__main__":
    app.run(main)
