"""Is what is exported right? Number formats × shares of zeros × models × runtimes.

    python benchmarks/export_matrix.py
    python benchmarks/export_matrix.py --models=mlp --zeros=90,99 --quantize=int8
    python benchmarks/export_matrix.py --docs_only

Each export is one row for each runtime: how far the file was from the Keras model there, or why it
was refused. Each cell is exported twice: pruned by SynFlow, encoded as is best (sparse="auto"); and
with zeros at random, each weight encoded sparsely that can be (sparse=True). Rows are appended as
they come, and not made again. The table in docs/export.md is written from them.
"""

import csv
import itertools
import os
import pathlib
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from absl import app, flags

import tf_synflow
from tf_synflow import compat, errors

ROOT = pathlib.Path(__file__).resolve().parent.parent
FORMATS = ("float32", "float16", "dynamic", "int8")
ZEROS = ("50", "80", "90", "96", "97", "99", "99.9")
# The product's own way; and unstructured zeros with all encoded that can be.
WAYS = (("synflow", "auto"), ("random", "True"))
RUNTIMES = ("Interpreter", "CompiledModel", "tf.lite")
KEY = ("model", "masks", "zeros", "quantize", "sparse")
COLUMNS = (
    *KEY, "runtime", "difference", "argmax", "encodings", "bytes", "dense_bytes", "zstd_bytes",
    "reason", "seconds",
)  # fmt: skip
START, END = "<!-- matrix -->", "<!-- end of matrix -->"


# --- the models -----------------------------------------------------------------------------------


def _conv(layers: Any, x: Any, width: int, size: int = 3, strides: int = 1) -> Any:
    x = layers.Conv2D(width, size, strides, padding="same", use_bias=False)(x)
    return layers.ReLU()(layers.BatchNormalization()(x))


def mlp(k: Any) -> Any:
    x = inputs = k.Input((256,))
    for _ in range(3):
        x = k.layers.Dense(256, activation="relu")(x)
    return k.Model(inputs, k.layers.Dense(10)(x))


def cnn(k: Any) -> Any:
    x = inputs = k.Input((16, 16, 3))
    for width in (32, 64, 64):
        x = k.layers.MaxPooling2D()(_conv(k.layers, x, width))
    return k.Model(inputs, k.layers.Dense(10)(k.layers.Flatten()(x)))


def mobilenet(k: Any) -> Any:
    inputs = k.Input((16, 16, 3))
    x = _conv(k.layers, inputs, 32, strides=2)
    for width in (64, 128, 128):
        x = k.layers.DepthwiseConv2D(3, padding="same", use_bias=False)(x)
        x = k.layers.ReLU(6.0)(k.layers.BatchNormalization()(x))
        x = _conv(k.layers, x, width, size=1)
    x = k.layers.GlobalAveragePooling2D()(x)
    return k.Model(inputs, k.layers.Dense(10)(x))


def resnet(k: Any) -> Any:
    inputs = k.Input((16, 16, 3))
    x = _conv(k.layers, inputs, 32)
    for width, strides in ((32, 1), (64, 2)):
        y = _conv(k.layers, _conv(k.layers, x, width, strides=strides), width)
        x = x if strides == 1 else _conv(k.layers, x, width, size=1, strides=strides)
        x = k.layers.Add()([x, y])
    x = k.layers.GlobalAveragePooling2D()(x)
    return k.Model(inputs, k.layers.Dense(10)(x))


def lstm(k: Any, unroll: bool = False) -> Any:
    inputs = k.Input((8, 32))
    x = k.layers.LSTM(128, unroll=unroll)(inputs)
    return k.Model(inputs, k.layers.Dense(10)(x))


def lstm_unrolled(k: Any) -> Any:
    return lstm(k, unroll=True)


MODELS: dict[str, Callable[[Any], Any]] = {
    made.__name__: made for made in (mlp, cnn, mobilenet, resnet, lstm, lstm_unrolled)
}

_MODELS = flags.DEFINE_multi_enum("models", list(MODELS), list(MODELS), "Which models.")
_ZEROS = flags.DEFINE_list("zeros", list(ZEROS), "Per cent.")
_QUANTIZE = flags.DEFINE_list("quantize", list(FORMATS), "Number formats.")
_OUT = flags.DEFINE_string("out", str(ROOT / "docs" / "results" / "export_matrix.csv"), "The rows.")
_DOCS = flags.DEFINE_string("docs", str(ROOT / "docs" / "export.md"), "The page.")
_DOCS_ONLY = flags.DEFINE_bool("docs_only", False, "Make no row; write the table.")


def pruned(name: str, masks: str, zeros: str) -> Any:
    """A model with that share of zeros in its kernels, and other values as if trained."""
    k = compat.keras()
    k.utils.set_random_seed(0)
    model = MODELS[name](k)
    rng = np.random.default_rng(0)
    share = float(zeros) / 100
    if masks == "synflow":
        schedule = tf_synflow.SynFlowPruningSchedule(1 / (1 - share), rounds=100)
        injected = tf_synflow.prune_at_init(model, schedule=schedule, verbose=False)
        model = tf_synflow.strip_pruning(injected)
    else:
        values = model.get_weights()
        model.set_weights(
            [np.where(rng.random(v.shape) < share, 0, v) if v.ndim > 1 else v for v in values]
        )
    for layer in model.layers:
        values = layer.get_weights()
        if "BatchNormalization" in type(layer).__name__:
            layer.set_weights([rng.uniform(0.5, 1.5, value.shape) for value in values])
            layer.momentum = 0.0
        else:
            layer.set_weights([v if v.ndim > 1 else rng.normal(0, 0.1, v.shape) for v in values])
    # Statistics of data, or the signal vanishes among the biases and the outputs hardly vary.
    model(rng.standard_normal((64, *model.inputs[0].shape[1:])).astype(np.float32), training=True)
    return model


# --- one export -----------------------------------------------------------------------------------


def cell(model: Any, quantize: str, sparse: str) -> dict[str, Any]:
    """What an export found, in the columns that do not depend on the runtime, and those that do."""
    shape = tuple(model.inputs[0].shape[1:])
    data = np.random.default_rng(1).standard_normal((64, *shape)).astype(np.float32)
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "model.tflite"
        try:
            report = tf_synflow.export_tflite(
                model,
                path,
                sparse=True if sparse == "True" else sparse,
                quantize=None if quantize == "float32" else quantize,
                shrink=False,
                representative_data=data if quantize == "int8" else None,
                samples=data[:16],
                verbose=False,
            )
        except errors.ExportError as error:
            assert not path.exists()
            return {"reason": " ".join(str(error).split()), "seconds": _since(start)}
    kinds = {tensor.encoding for tensor in report.weights if len(tensor.shape) > 1}
    return {
        "difference": report.agreement.runtimes,
        "argmax": f"{report.agreement.argmax:.3f}",
        "encodings": " ".join(sorted(kind.replace(" ", "-") for kind in kinds)),
        "bytes": report.file_bytes,
        "dense_bytes": report.dense_bytes,
        "zstd_bytes": report.zstd_bytes,
        "reason": "; ".join(note for note in report.notes if "wrong" in note),
        "seconds": _since(start),
    }


def rows(key: tuple[str, ...], found: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The rows of one export, one for each runtime."""
    differences = found.pop("difference", {})
    for runtime in RUNTIMES:
        difference = f"{differences[runtime]:.1e}" if runtime in differences else ""
        yield (
            dict(zip(KEY, key, strict=True))
            | found
            | {
                "runtime": runtime,
                "difference": difference,
            }
        )


def _since(start: float) -> str:
    return f"{time.perf_counter() - start:.1f}"


# --- the table ------------------------------------------------------------------------------------


def table(found: list[dict[str, str]]) -> str:
    """The worst difference of each model, share of zeros and format; or why it was refused."""
    reasons: dict[str, int] = {}

    def text(model: str, zeros: str, quantize: str) -> str:
        here = [
            row
            for row in found
            if (row["model"], row["zeros"], row["quantize"]) == (model, zeros, quantize)
        ]
        differences = [float(row["difference"]) for row in here if row["difference"]]
        refused = {row["reason"] for row in here if not row["difference"]}
        marks = sorted({reasons.setdefault(_short(why), len(reasons) + 1) for why in refused})
        worst = [f"{max(differences):.0e}"] if differences else ["refused"] if here else ["-"]
        return " ".join(worst + [f"[{mark}]" for mark in marks])

    names = list(dict.fromkeys(row["model"] for row in found))
    shares = sorted({row["zeros"] for row in found}, key=float)
    lines = [
        f"| model | zeros | {' | '.join(FORMATS)} |",
        "| --- | --- |" + " --- |" * len(FORMATS),
    ]
    for name, zeros in itertools.product(names, shares):
        cells = " | ".join(text(name, zeros, quantize) for quantize in FORMATS)
        lines.append(f"| {name} | {zeros} % | {cells} |")
    notes = [f"[{number}] {why}" for why, number in reasons.items()]
    return "\n".join([*lines, "", *itertools.chain.from_iterable((note, "") for note in notes)])


def _short(reason: str) -> str:
    reason = reason.split(". Expected a kernel")[0].split("; expected")[0].split(" in output ")[0]
    return reason.rstrip(".") + "."


def write_table(page: pathlib.Path, found: list[dict[str, str]]) -> None:
    """Puts the table between its marks in the page."""
    text = page.read_text()
    before, after = text.split(START)[0], text.split(END)[1]
    page.write_text(f"{before}{START}\n\n{table(found)}\n{END}{after}")


def main(argv: list[str]) -> None:
    """Makes the rows that are not there yet, and the table."""
    del argv
    out = pathlib.Path(_OUT.value)
    found = list(csv.DictReader(out.open())) if out.exists() else []
    done = {tuple(row[column] for column in KEY) for row in found}
    if not _DOCS_ONLY.value:
        with out.open("a", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            if not found:
                writer.writeheader()
            for name, zeros, way in itertools.product(_MODELS.value, _ZEROS.value, WAYS):
                masks, sparse = way
                keys = [(name, masks, zeros, quantize, sparse) for quantize in _QUANTIZE.value]
                missing = [key for key in keys if key not in done]
                model = pruned(name, masks, zeros) if missing else None
                for key in missing:
                    made = list(rows(key, cell(model, key[3], sparse)))
                    writer.writerows(made)
                    file.flush()
                    print(*key, made[0]["difference"], made[0]["reason"][:100])
        found = list(csv.DictReader(out.open()))
    write_table(pathlib.Path(_DOCS.value), found)


if __name__ == "__main__":
    app.run(main)
