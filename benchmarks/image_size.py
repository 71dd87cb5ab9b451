"""Seconds of one scoring of ResNet-50 against the side of its image, beside the paper's algorithm.

    OPENBLAS_NUM_THREADS=1 taskset -c 1 python benchmarks/image_size.py
    python benchmarks/image_size.py --reference_up_to=512
    python benchmarks/image_size.py --check

Each side has a process of its own (benchmarks/paper) and they take turns. A scoring ends with every
score in an array: ours reads the weights, runs the flow and multiplies, in float64 (more than a
round does, which makes scores a tile at a time and float32 where that decides); the paper's code
takes absolute values, runs forward and backward, and multiplies, in float32, as it runs.
Median of --repeats after a warm-up, on the clock and of the processor; where others use the machine
the processor's seconds are the ones to look at, and they are drawn. **Tracing is excluded** from
ours: it happens once a model, whatever the rounds, and has a column of its own (with reading the
Keras model).

--check compares our scores at --check_pixels with those of a plain tf.GradientTape over the Keras
layers, all of whose weights are made positive, in float64, and writes nothing.

Writes docs/results/image_size.csv row by row; rows that are there are not measured again, delete
the file to start anew. Draws docs/results/image_size.png where matplotlib is installed.
"""

import importlib.util
import pathlib
import statistics
import sys
import tempfile
from typing import Any

import numpy as np
import rows as table
from absl import app, flags
from paper import networks
from paper.worker import ROOT, Worker
from where import processor_line, versions_line

NETWORK = "resnet50"

_PIXELS = flags.DEFINE_list("pixels", ["32", "64", "128", "224", "512", "1024"], "Sides of images.")
_REFERENCE_UP_TO = flags.DEFINE_integer(
    "reference_up_to", 224, "The largest side at which the reference is timed."
)
_REPEATS = flags.DEFINE_integer("repeats", 3, "How often each takes its turn.")
_THREADS = flags.DEFINE_integer("threads", 1, "Of both sides.")
_TORCH_PYTHON = flags.DEFINE_string(
    "torch_python", "/tmp/torchenv/bin/python", "Python with benchmarks/paper/requirements.txt."
)
_CHECK = flags.DEFINE_bool("check", False, "Compare with a plain gradient instead.")
_CHECK_PIXELS = flags.DEFINE_integer("check_pixels", 64, "The side at which --check compares.")
_OUT = flags.DEFINE_string("out", str(ROOT / "docs" / "results" / "image_size.csv"), "The rows.")


def row_of(pixels: int, folder: pathlib.Path) -> dict[str, Any]:
    """Times both at one size."""
    threads, with_reference = _THREADS.value, pixels <= _REFERENCE_UP_TO.value
    weights = str(folder / "network.npz")
    turns, others = [], []
    with (
        Worker("paper.our_worker", sys.executable, threads) as ours,
        Worker("paper.reference_worker", _TORCH_PYTHON.value, threads) as reference,
    ):
        loaded = ours("load", network=NETWORK, size=pixels, path=weights)
        traced = ours("trace")
        ours("score_traced")
        if with_reference:
            torch = reference("load", path=weights, dtype="float32")["torch"]
            reference("score")
        for _ in range(_REPEATS.value):
            turns.append(ours("score_traced"))
            if with_reference:
                others.append(reference("score"))
    row = {
        "model": NETWORK,
        "pixels": pixels,
        "weights": loaded["weights"],
        "threads": threads,
        "repeats": _REPEATS.value,
        "trace_seconds": f"{traced['seconds']:.4g}",
        "seconds": _median(turns, "seconds"),
        "processor": _median(turns, "processor"),
        "reference_seconds": "",
        "reference_processor": "",
        "times_faster": "",
        "where": f"{processor_line(threads)}; {versions_line()}",
    }
    if with_reference:
        ratios = [b["seconds"] / a["seconds"] for a, b in zip(turns, others, strict=True)]
        row |= {
            "reference_seconds": _median(others, "seconds"),
            "reference_processor": _median(others, "processor"),
            "times_faster": f"{statistics.median(ratios):.4g}",
            "where": f"{processor_line(threads)}; {versions_line(torch=torch)}",
        }
    return row


def _median(turns: list[dict[str, Any]], what: str) -> str:
    return f"{statistics.median(turn[what] for turn in turns):.4g}"


def is_measured(row: dict[str, str], pixels: int) -> bool:
    """Whether a row of an earlier run holds what is asked for."""
    same = (row["pixels"], row["threads"]) == (str(pixels), str(_THREADS.value))
    return same and bool(row["reference_seconds"] or pixels > _REFERENCE_UP_TO.value)


def draw(rows: list[dict[str, Any]], path: pathlib.Path) -> None:
    """Seconds against pixels, both axes logarithmic."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    figure, panel = plt.subplots(figsize=(6, 4))
    for column, label, style in (
        ("reference_processor", "the paper's algorithm, PyTorch, float32", "s-"),
        ("processor", "tf_synflow, float64", "o-"),
    ):
        points = [(int(row["pixels"]), float(row[column])) for row in rows if row[column]]
        if points:
            panel.plot(*zip(*points, strict=True), style, label=label)
    ticks = [int(row["pixels"]) for row in rows]
    panel.set(xscale="log", yscale="log", xlabel="side of the image, pixels")
    panel.set_xticks(ticks, labels=map(str, ticks))
    panel.yaxis.set_major_formatter("{x:g}")
    panel.yaxis.set_minor_formatter("{x:g}")  # less than a decade
    panel.set_xticks([], minor=True)
    panel.set(
        ylabel="processor seconds a scoring", title=f"ResNet-50, threads: {rows[0]['threads']}"
    )
    panel.grid(alpha=0.3)
    panel.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def check(pixels: int) -> float:
    """The worst relative difference between our scores and those of a plain gradient.

    Raises:
      RuntimeError: a score is zero on one side only.
    """
    import keras
    import tensorflow as tf

    import tf_synflow

    keras.utils.set_random_seed(0)
    model = networks.NETWORKS[NETWORK].build(keras, pixels)
    scores = tf_synflow.score(model)
    keras.config.set_dtype_policy("float64")
    plain = networks.NETWORKS[NETWORK].build(keras, pixels)
    plain.set_weights([np.abs(value.astype(np.float64)) for value in model.get_weights()])
    kernels = {weight.path: weight for weight in plain.weights if weight.path in scores}
    if len(kernels) != len(scores):
        raise RuntimeError(f"received scores of {list(scores)}; found only {list(kernels)}")
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(plain(tf.ones((1, pixels, pixels, 3), tf.float64), training=False))
    values = {name: kernel.value for name, kernel in kernels.items()}
    gradients = tape.gradient(total, values)
    worst = 0.0
    for name, score in scores.items():
        expected = (gradients[name] * values[name]).numpy()
        received = np.ldexp(score, int(scores.log2_scale))
        if ((expected == 0) != (received == 0)).any():
            raise RuntimeError(f"{name}: a score is zero on one side only")
        some = expected != 0
        worst = max(worst, float(np.max(np.abs(received[some] / expected[some] - 1), initial=0)))
    return worst


def main(argv: list[str]) -> None:
    """Measures the sizes that are missing, or checks the scores."""
    del argv
    if _CHECK.value:
        pixels = _CHECK_PIXELS.value
        print(f"{NETWORK}, {pixels} pixels: worst relative difference {check(pixels):.3g}")
        return
    path = pathlib.Path(_OUT.value)
    rows = table.read(path)
    for pixels in map(int, _PIXELS.value):
        if any(is_measured(row, pixels) for row in rows):
            continue
        with tempfile.TemporaryDirectory() as folder:
            row = row_of(pixels, pathlib.Path(folder))
        print(" ".join(f"{name}={value}" for name, value in row.items()), flush=True)
        key = (str(pixels), str(_THREADS.value))
        rows = [other for other in rows if (other["pixels"], other["threads"]) != key] + [row]
        rows = [{name: str(value) for name, value in each.items()} for each in rows]
        rows.sort(key=lambda each: (int(each["threads"]), int(each["pixels"])))
        table.write(path, rows)
    shown = [row for row in rows if row["threads"] == str(_THREADS.value)]
    for clock in ("seconds", "processor"):
        seconds = [float(row[clock]) for row in shown]
        print(f"{clock}: slowest over fastest size {max(seconds) / min(seconds):.2f}")
    if importlib.util.find_spec("matplotlib"):
        draw(shown, path.with_suffix(".png"))
    else:
        print(
            "No plot: matplotlib is not installed; `pip install matplotlib`, then run this again."
        )


if __name__ == "__main__":
    app.run(main)
