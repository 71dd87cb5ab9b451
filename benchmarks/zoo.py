"""The zoo: every constructor of keras.applications, pruned, trained for 20 steps and exported.

    python benchmarks/zoo.py
    python benchmarks/zoo.py --models=MobileNetV2,ResNet50 --keras=keras --rounds=100
    python benchmarks/zoo.py --docs_only

Each row (model × Keras × compression) is made in a process of its own, under a limit of time and of
memory, so that what cannot be done is a row with the reason. Rows are appended as they come; a row
that is there is not made again, unless it has a reason and --retry is given. docs/zoo.md is written
from the rows.
"""

import csv
import importlib
import inspect
import itertools
import json
import math
import os
import pathlib
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import rows as table
from absl import app, flags
from where import processor_line, versions_line
from zoo_page import page

ROOT = pathlib.Path(__file__).resolve().parent.parent
CLASSES = 10
TOLERANCE = 1e-4
STEPS, BATCH = 20, 4
# The smallest input that a constructor takes with a classifier on top; 32 where none is said.
PIXELS = {"InceptionV3": 75, "InceptionResNetV2": 75, "Xception": 71}
# One of each family, the cheapest, in both Kerases where both have it.
SMALLEST = (
    "MobileNet MobileNetV2 MobileNetV3Small EfficientNetB0 EfficientNetV2B0 NASNetMobile "
    "DenseNet121 ResNet50 ResNet50V2 Xception InceptionV3 ConvNeXtTiny VGG16 InceptionResNetV2 "
    "RegNetX002 RegNetY002 ResNetRS50"
).split()
DEEPEST = "ResNet152V2 DenseNet201 EfficientNetB7 NASNetLarge".split()
# Above this number of weights a scoring in float64 takes more memory than --memory_gb.
FLOAT32_ABOVE = 100e6
COLUMNS = (
    "model keras pixels compression rounds dtype weights tensors kept exact flow_left empty "
    "seconds_rounds steps loss masks_intact rounding tflite_difference tflite_encoding "
    "tflite_bytes other_keras_difference peak_mb seconds reason empty_names where"
).split()

_MODELS = flags.DEFINE_list("models", [], "Constructors; all by default.")
_KERAS = flags.DEFINE_list("keras", ["keras", "tf_keras"], "Which Kerases.")
_COMPRESSIONS = flags.DEFINE_list("compressions", ["10", "100"], "Prunable over kept weights.")
_ROUNDS = flags.DEFINE_integer(
    "rounds", 0, "Rounds of SynFlow; 0: 100 for the smallest of a family, 10 for all others."
)
_MINUTES = flags.DEFINE_float("minutes", 30, "Time limit of one row.")
_MEMORY = flags.DEFINE_float("memory_gb", 8, "Memory limit of one row.")
_FOR = flags.DEFINE_float("for_minutes", math.inf, "Start no row after so long.")
_RETRY = flags.DEFINE_bool("retry", False, "Make rows anew that ended with a reason.")
_OUT = flags.DEFINE_string("out", str(ROOT / "docs" / "results" / "zoo.csv"), "The rows.")
_DOCS = flags.DEFINE_string("docs", str(ROOT / "docs" / "zoo.md"), "The page.")
_DOCS_ONLY = flags.DEFINE_bool("docs_only", False, "Make no row; write the page.")
_ONE = flags.DEFINE_string("one", "", "Of a row's own process: where it writes what it finds.")


# --- what there is to do --------------------------------------------------------------------------


def constructors(keras: str) -> list[str]:
    """Names of all constructors of a Keras."""
    applications = importlib.import_module(keras).applications
    return [name for name in dir(applications) if inspect.isfunction(getattr(applications, name))]


def cells(
    models: list[str], kerases: list[str], compressions: list[str]
) -> Iterator[tuple[str, str, str]]:
    """Model, Keras, compression: what matters most comes first; without models, all of them."""
    names = {keras: constructors(keras) for keras in ("keras", "tf_keras")}
    both = sorted({name for keras in names for name in names[keras]}, key=_size_in_name)
    unknown = set(models) - set(both)
    if unknown:
        raise SystemExit(f"--models: no constructor {', '.join(sorted(unknown))}.")
    rest = [name for name in both if name not in SMALLEST and name not in DEEPEST]
    first = [(SMALLEST, "keras"), (DEEPEST, "keras"), (SMALLEST, "tf_keras")]
    then = [(rest, "keras"), ([*DEEPEST, *rest], "tf_keras")]
    for groups, compression in itertools.product((first, then), compressions):
        for group, keras in groups:
            for name in group:
                if name in names[keras] and keras in kerases and (name in models or not models):
                    yield name, keras, compression


def _size_in_name(name: str) -> tuple[int, str]:
    """ResNet101 before ResNet152, but B5 after B4 and Large after Small."""
    words = ["Tiny", "Small", "Mobile", "Base", "M", "Large", "L", "XLarge"]
    number = re.findall(r"\d+$", name)
    word = [i for i, word in enumerate(words) if name.endswith(word)]
    return (int(number[0]) if number else 10 * max(word, default=0), name)


def rounds_of(model: str) -> int:
    return _ROUNDS.value or (100 if model in SMALLEST else 10)


# --- a row: in its own process --------------------------------------------------------------------


def make_row(model: str, keras: str, compression: float, note: Callable[..., None]) -> None:
    """Prunes, trains and exports one model.

    Args:
      model, keras, compression: the cell.
      note: called with the columns that are known, and with the stage that begins.
    """
    import numpy as np

    import tf_synflow
    from tf_synflow.flow import weights
    from tf_synflow.flow.network import Network

    module = importlib.import_module(keras)
    pixels, rounds = PIXELS.get(model, 32), rounds_of(model)
    note("building", pixels=pixels, rounds=rounds, steps=STEPS)
    module.utils.set_random_seed(0)
    plain = build(module, model, pixels)
    network = Network(plain)
    dtype = "float32" if network.size > FLOAT32_ABOVE else "float64"
    scorer = tf_synflow.scores.SynFlow(dtype=dtype)
    note("pruning", weights=network.size, tensors=len(network.prunable), dtype=dtype)

    start = time.perf_counter()
    schedule = tf_synflow.SynFlowPruningSchedule(compression, rounds)
    masks = tf_synflow.compute_masks(
        plain, compression, schedule=schedule, scorer=scorer, verbose=False
    )
    empty = [name for name, mask in masks.items() if not mask.any()]
    note(
        "looking for flow",
        seconds_rounds=round(time.perf_counter() - start, 1),
        kept=masks.kept,
        exact=masks.kept == network.size - int((1 - 1 / compression) * network.size),
        empty=len(empty),
        empty_names=" ".join(empty),
    )
    note("freezing the masks in", flow_left=network.has_flow(masks))
    del network
    pruned = tf_synflow.apply_masks(plain, masks, allow_collapse=True)
    del plain

    note("training")
    rng = np.random.default_rng(0)
    images = rng.random((STEPS * BATCH, pixels, pixels, 3), np.float32)
    labels = rng.integers(0, CLASSES, STEPS * BATCH)
    pruned.compile(
        module.optimizers.SGD(1e-3, 0.9, global_clipnorm=1.0), "sparse_categorical_crossentropy"
    )
    history = pruned.fit(images, labels, batch_size=BATCH, verbose=0)
    trained = weights.all_weights(pruned)
    frozen = tf_synflow.masks_of(pruned)
    intact = all(
        np.array_equal(frozen[name], mask) and not trained[name].variable.numpy()[~mask].any()
        for name, mask in masks.items()
    )
    note("exporting", loss=round(history.history["loss"][0], 4), masks_intact=intact)
    del trained

    final = tf_synflow.strip_pruning(pruned)
    # A saturated softmax gives the same ones and zeros for any difference: compare the logits.
    final.layers[-1].activation = module.activations.linear
    rounding = effect_of_rounding(final, images[:BATCH])
    note("exporting", rounding=f"{rounding:.1e}")
    with tempfile.TemporaryDirectory() as folder:
        report = tf_synflow.export_tflite(
            final,
            pathlib.Path(folder) / "model.tflite",
            batch_size=1,
            tolerance=max(TOLERANCE, 10 * rounding),
            verbose=False,
        )
    note(
        "comparing the Kerases",
        tflite_difference=f"{report.agreement.max_rel:.1e}",
        tflite_encoding=report.encoding,
        tflite_bytes=report.file_bytes,
    )
    del pruned, final
    if keras == "keras" and compression == 10 and model in SMALLEST:
        difference = other_keras_difference(model, pixels)
        note("done", other_keras_difference="" if difference is None else f"{difference:.1e}")
    note("done")


def effect_of_rounding(model: Any, images: Any) -> float:
    """How far Keras' own logits move when its input moves by what float32 rounds off, relative.

    A network that was trained for 20 steps can magnify that ten-thousandfold: its batch
    normalizations still divide by statistics that do not fit.
    """
    import numpy as np

    noise = np.random.default_rng(1).standard_normal(images.shape)
    moved = images * (1 + np.finfo(np.float32).eps * noise).astype(np.float32)
    first, second = (np.asarray(model(x, training=False), np.float64) for x in (images, moved))
    return float(np.abs(first - second).max() / np.abs(first).max())


def build(keras: Any, model: str, pixels: int) -> Any:
    return getattr(keras.applications, model)(
        weights=None, input_shape=(pixels, pixels, 3), classes=CLASSES
    )


def other_keras_difference(model: str, pixels: int) -> float | None:
    """Largest difference of a score between the Kerases, of the largest score of its tensor.

    Both models hold the same weights. None for a model that one of them does not have.
    """
    import keras
    import numpy as np
    import tf_keras

    import tf_synflow
    from tf_synflow.flow import weights

    if not all(hasattr(one.applications, model) for one in (keras, tf_keras)):
        return None
    pair = []
    for one in (keras, tf_keras):
        one.backend.clear_session()
        pair.append(build(one, model, pixels))
    source, target = (weights.all_weights(one) for one in pair)
    if [w.shape for w in source.values()] != [w.shape for w in target.values()]:
        raise RuntimeError("the two Kerases build different weights")
    for a, b in zip(source.values(), target.values(), strict=True):
        b.variable.assign(a.variable.numpy())
    first, second = (tf_synflow.score(one) for one in pair)
    if first.log2_scale != second.log2_scale:
        raise RuntimeError(f"scales {first.log2_scale} and {second.log2_scale}")
    return max(
        float(np.abs(first[a] - second[b]).max() / np.abs(first[a]).max())
        for a, b in zip(first, second, strict=True)
    )


def run_one(arguments: list[str]) -> None:
    """The row's own process: writes what it knows after each stage."""
    model, keras, compression = arguments
    path, row = pathlib.Path(_ONE.value), {}

    def note(stage: str, **columns: Any) -> None:
        row.update(columns, stage=stage)
        row["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        temporary = path.with_suffix(".part")
        temporary.write_text(json.dumps(row))
        temporary.replace(path)

    try:
        make_row(model, keras, float(compression), note)
    except Exception as error:  # whatever it is, it is the row's reason
        note(row.get("stage", "starting"), reason=f"{type(error).__name__}: {error}")
        raise


# --- a row: from outside --------------------------------------------------------------------------


def row_of(model: str, keras: str, compression: str) -> dict[str, Any]:
    """Makes one row in a process of its own, which may not last."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "row.json"
        command = [sys.executable, __file__, f"--one={path}", f"--rounds={_ROUNDS.value}"]
        start = time.monotonic()
        with (pathlib.Path(folder) / "log").open("w+") as log:
            process = subprocess.Popen(
                [*command, model, keras, compression],
                env={**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"},
                stdout=log,
                stderr=subprocess.STDOUT,
            )
            stopped = _watch(process, start)
            log.seek(0)
            last = (log.read().strip().splitlines() or [""])[-1]
        row = json.loads(path.read_text()) if path.exists() else {}
        stage = row.pop("stage", "starting")
        if stage != "done":
            if not stopped and process.returncode < 0:
                stopped = signal.Signals(-process.returncode).name
            why = row.get("reason") or stopped or f"exit {process.returncode}: {last}"
            row["reason"] = " ".join(f"{stage}: {why}".split())[:400]
        row.update(model=model, keras=keras, compression=compression, where=where(keras))
        return {**row, "seconds": round(time.monotonic() - start)}


def _watch(process: subprocess.Popen, start: float) -> str:
    """Waits for a row's process; kills it at a limit, and says which."""
    while process.poll() is None:
        time.sleep(0.5)
        why = ""
        if time.monotonic() - start > 60 * _MINUTES.value:
            why = f"over the time limit of {_MINUTES.value:g} minutes"
        elif _resident_bytes(process.pid) > 1e9 * _MEMORY.value:
            why = f"over the memory limit of {_MEMORY.value:g} GB"
        if why:
            process.kill()
            process.wait()
            return why
    return ""


def _resident_bytes(pid: int) -> int:
    try:
        pages = pathlib.Path(f"/proc/{pid}/statm").read_text().split()[1]
    except (OSError, IndexError):  # it has just ended
        return 0
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def where(keras: str) -> str:
    """Machine, threads and versions."""
    threads = int(os.environ.get("TF_NUM_INTRAOP_THREADS") or 0) or None
    packages = ("tensorflow", keras.replace("_", "-"), "ai-edge-litert")
    return f"{processor_line(threads)}; {versions_line(packages)}"


# --- the table ------------------------------------------------------------------------------------


def key(row: dict[str, Any]) -> tuple[str, str, str]:
    return row["model"], row["keras"], str(row["compression"])


def main(argv: list[str]) -> None:
    """Makes the rows that are missing, then the page."""
    if _ONE.value:
        run_one(argv[1:])
        return
    path, start = pathlib.Path(_OUT.value), time.monotonic()
    rows = table.read(path)
    if _RETRY.value:
        wanted = set(cells(_MODELS.value, _KERAS.value, _COMPRESSIONS.value))
        rows = [row for row in rows if not row["reason"] or key(row) not in wanted]
    if not _DOCS_ONLY.value:
        table.write(path, rows, COLUMNS)
        there = {key(row) for row in rows}
        for cell in cells(_MODELS.value, _KERAS.value, _COMPRESSIONS.value):
            if cell in there:
                continue
            if time.monotonic() - start > 60 * _FOR.value:
                print(f"{_FOR.value:g} minutes are over: no more rows.", flush=True)
                break
            row = row_of(*cell)
            with path.open("a", newline="") as file:
                csv.DictWriter(file, COLUMNS, lineterminator="\n").writerow(row)
            print(*cell, f"{row['seconds']} s", row.get("reason", "done"), flush=True)
    docs = pathlib.Path(_DOCS.value)
    docs.parent.mkdir(parents=True, exist_ok=True)
    every = list(cells([], ["keras", "tf_keras"], ["10", "100"]))
    docs.write_text(
        page(
            table.read(path),
            every,
            classes=CLASSES,
            steps=STEPS,
            batch=BATCH,
            float32=FLOAT32_ABOVE / 1e6,
        ),
        encoding="utf-8",
    )


if __name__ == "__main__":
    app.run(main)
