"""What pruning costs against the number of weights, and against the number of rounds.

    OPENBLAS_NUM_THREADS=1 taskset -c 1 python benchmarks/scaling.py
    OPENBLAS_NUM_THREADS=1 taskset -c 1 python benchmarks/scaling.py --largest

An MLP of three hidden layers, as wide as its input, is pruned by `compute_masks` at --compression:
of 1 M, 4 M, 16 M and 64 M weights (--largest: 256 M and 512 M too) in 10 rounds, and of 4 M weights
in 1, 10, 100 and 1000 rounds. Every cell has a process of its own, which has pruned a network of
10,000 weights before. A row says:

- seconds on the clock and of the processor, the median of --repeats (of 1000 rounds: one), with all
  that `compute_masks` does, reading the model and tracing its graph too. Where others use the
  machine the processor's seconds are the ones to look at, and they are drawn;
- the peak of memory of the first time above the process with the model built, in multiples of the
  weights' bytes; what libraries load once is there before.

Writes docs/results/scaling.csv row by row; rows that are there are not measured again, delete the
file to start anew. Draws docs/results/scaling.png where matplotlib is installed.
"""

import concurrent.futures
import importlib.util
import math
import multiprocessing
import os
import pathlib
import statistics
from typing import Any

import rows as table
from absl import app, flags
from paper import worker
from where import processor_line, versions_line

MILLION = 10**6
SIZES = (1, 4, 16, 64)
LARGEST = (256, 512)
ROUNDS_OF_SIZES = 10
ROUNDS = (1, 10, 100, 1000)
SIZE_OF_ROUNDS = 4
CLASSES = 10
BYTES = 4
WARM_UP = 10**4  # weights

_LARGEST = flags.DEFINE_bool("largest", False, "Measure 256 M and 512 M weights too.")
_COMPRESSION = flags.DEFINE_float("compression", 10, "Prunable over kept weights.")
_REPEATS = flags.DEFINE_integer("repeats", 3, "How often a cell is timed.")
_THREADS = flags.DEFINE_integer("threads", 1, "Of everything.")
_OUT = flags.DEFINE_string("out", str(worker.ROOT / "docs" / "results" / "scaling.csv"), "Rows.")


def mlp(keras: Any, weights: int) -> Any:
    """Three hidden layers, as wide as the input; its kernels have as many weights as can be."""
    width = (math.isqrt(CLASSES**2 + 12 * weights) - CLASSES) // 6  # 3·width² + classes·width
    hidden = [keras.layers.Dense(width, activation="relu") for _ in range(3)]
    return keras.Sequential([keras.Input((width,)), *hidden, keras.layers.Dense(CLASSES)])


def measure(millions: int, rounds: int, compression: float, repeats: int) -> dict[str, Any]:
    """Prunes one network in this process."""
    import keras

    import tf_synflow

    keras.utils.set_random_seed(0)
    model = mlp(keras, millions * MILLION)

    def prune(model: Any, rounds: int) -> tuple[int, int]:
        schedule = tf_synflow.SynFlowPruningSchedule(compression, rounds)
        masks = tf_synflow.compute_masks(model, compression, schedule=schedule, verbose=False)
        return masks.size, masks.kept

    prune(mlp(keras, WARM_UP), 1)
    idle = worker.start_of_peak()
    turns = [worker.seconds_of(lambda: prune(model, rounds))]
    peak = worker.peak() - idle  # of the first: what it freed may lie in pieces for the next
    turns += [worker.seconds_of(lambda: prune(model, rounds)) for _ in range(repeats - 1)]
    seconds, processor = (statistics.median(turn[i] for turn in turns) for i in range(2))
    weights, kept = turns[-1][2]
    return {
        "millions": millions,
        "rounds": rounds,
        "repeats": repeats,
        "weights": weights,
        "kept": kept,
        "seconds": f"{seconds:.4g}",
        "processor": f"{processor:.4g}",
        "seconds_a_round": f"{seconds / rounds:.4g}",
        "processor_a_round": f"{processor / rounds:.4g}",
        "memory": f"{peak / (BYTES * weights):.2f}",
    }


def draw(rows: list[dict[str, str]], path: pathlib.Path) -> None:
    """Seconds against weights, memory against weights, seconds against rounds."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    by_size = [row for row in rows if int(row["rounds"]) == ROUNDS_OF_SIZES]
    by_rounds = [row for row in rows if int(row["millions"]) == SIZE_OF_ROUNDS]
    figure, (time, memory, total) = plt.subplots(1, 3, figsize=(11, 3.6))
    _line(time, by_size, "weights", "processor_a_round")
    time.set(
        xlabel="weights", ylabel="processor seconds a round", title=f"{ROUNDS_OF_SIZES} rounds"
    )
    weights = [int(row["weights"]) for row in by_size]
    memory.plot(weights, [float(row["memory"]) for row in by_size], "o-")
    memory.set(xscale="log", ylim=(0, None), xlabel="weights", title=f"{ROUNDS_OF_SIZES} rounds")
    memory.set_ylabel("peak over idle, × bytes of the weights")
    _line(total, by_rounds, "rounds", "processor")
    total.set(
        xlabel="rounds", ylabel="processor seconds in all", title=f"{SIZE_OF_ROUNDS} M weights"
    )
    for panel in (time, memory, total):
        panel.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def _line(panel: Any, rows: list[dict[str, str]], across: str, up: str) -> None:
    """Both axes logarithmic, and proportionality through the last point."""
    points = sorted((float(row[across]), float(row[up])) for row in rows)
    x, y = zip(*points, strict=True)
    panel.loglog(x, y, "o-", label="measured")
    panel.loglog(x, [y[-1] * each / x[-1] for each in x], ":", color="grey", label="proportional")
    panel.legend()


def main(argv: list[str]) -> None:
    """Measures the cells that are missing."""
    del argv
    # The processes that are spawned take these over before they import a library.
    os.environ.update(dict.fromkeys(worker.THREADS, str(_THREADS.value)))
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: _THREADS.value])
    path = pathlib.Path(_OUT.value)
    rows = table.read(path)
    cells = [(size, ROUNDS_OF_SIZES) for size in SIZES + LARGEST * _LARGEST.value]
    cells += [(SIZE_OF_ROUNDS, rounds) for rounds in ROUNDS if rounds != ROUNDS_OF_SIZES]
    context = multiprocessing.get_context("spawn")
    kind = {"compression": f"{_COMPRESSION.value:g}", "threads": str(_THREADS.value)}
    shown = [row for row in rows if {name: row[name] for name in kind} == kind]
    for cell in cells:
        if any((int(row["millions"]), int(row["rounds"])) == cell for row in shown):
            continue
        with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
            repeats = 1 if cell[1] == max(ROUNDS) else _REPEATS.value
            row = pool.submit(measure, *cell, _COMPRESSION.value, repeats).result()
        row |= {**kind, "where": f"{processor_line(_THREADS.value)}; {versions_line()}"}
        print(" ".join(f"{name}={value}" for name, value in row.items()), flush=True)
        shown.append({name: str(value) for name, value in row.items()})
        rows.append(shown[-1])
        rows.sort(key=lambda each: (int(each["millions"]), int(each["rounds"])))
        table.write(path, rows)
    if importlib.util.find_spec("matplotlib"):
        draw(shown, path.with_suffix(".png"))
    else:
        print("No plot: `pip install matplotlib`, then run this again.")


if __name__ == "__main__":
    app.run(main)
