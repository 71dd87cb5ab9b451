"""The paper's algorithm in PyTorch beside ours: same weights, rounds, threads, in turns.

    python3 -m venv /tmp/torchenv
    /tmp/torchenv/bin/pip install -r benchmarks/paper/requirements.txt
    python benchmarks/paper_speed.py --torch_python=/tmp/torchenv/bin/python
    python benchmarks/paper_speed.py --models=vgg16_bn --rounds=3 --compression=1.148 --repeats=1

The last is about the first three of a hundred rounds: in three rounds to 100x networks collapse.
benchmarks/paper/reference.py is what the paper's code does, in float32 as it runs; ours is
`tf_synflow.compute_masks`, float64-exact, from the model to the masks. Each has a process of its
own that loads a network once, is warmed up and then waits while the other runs. A row says:

- seconds a round, the median over --repeats, and how many times faster ours is, the median of the
  ratios within a repeat. Ours is timed over all rounds. Of a large network the reference is timed
  over --reference_rounds only, which go down to the same density in larger steps and so stand for
  all; that its cost hardly depends on the density, the fastest and the slowest of them show;
- how far ours is above the floor (benchmarks/paper/floor.py), which is measured in every repeat;
- the peak of memory above the process with the network loaded, in multiples of the bytes of its
  weights: ours after a tenth of the rounds and after all of them;
- whether the masks of --check_rounds rounds equal those of the reference in float64, bit for bit,
  and what share of them the reference keeps in float32.

Writes docs/results/paper_speed.csv; rows of other networks and threads stay.
"""

import csv
import json
import pathlib
import statistics
import sys
import tempfile
from typing import Any

import numpy as np
from absl import app, flags
from paper import floor
from paper.networks import NETWORKS
from paper.worker import ROOT, Worker
from where import processor_line, versions_line

from tf_synflow.densities import densities

_MODELS = flags.DEFINE_list("models", list(NETWORKS), "Which networks.")
_THREADS = flags.DEFINE_list("threads", ["1", "2"], "Of both sides.")
_ROUNDS = flags.DEFINE_integer("rounds", 100, "Of ours.")
_COMPRESSION = flags.DEFINE_float("compression", 100, "Prunable over kept weights.")
_REPEATS = flags.DEFINE_integer("repeats", 3, "How often each takes its turn.")
_REFERENCE_ROUNDS = flags.DEFINE_integer(
    "reference_rounds", 0, "Of the reference; 0: all, of a large network 10."
)
_CHECK_ROUNDS = flags.DEFINE_integer(
    "check_rounds", 0, "Of the comparison of masks; 0: all, of a large network 10; -1: none."
)
_TORCH_PYTHON = flags.DEFINE_string(
    "torch_python", "/tmp/torchenv/bin/python", "Python with benchmarks/paper/requirements.txt."
)
_REFERENCE_DTYPE = flags.DEFINE_enum(
    "reference_dtype", "float32", ["float32", "float64"], "In which the reference is timed."
)
_OUT = flags.DEFINE_string("out", str(ROOT / "docs" / "results" / "paper_speed.csv"), "The rows.")
COLUMNS = (
    "model pixels weights threads rounds compression reference_dtype reference_rounds "
    "reference_seconds reference_fastest reference_slowest reference_processor "
    "seconds processor times_faster floor_seconds times_floor "
    "reference_memory memory memory_tenth check_rounds masks_differ float32_agreement where"
).split()

# What the reference and ours replied, and the rates of the machine just then.
Turn = tuple[dict[str, Any], dict[str, Any], floor.Rates]


class Pair:
    """Both workers with one network loaded, and the masks that they have made so far."""

    def __init__(self, ours: Worker, reference: Worker, network: str, folder: pathlib.Path):
        self._ours, self._reference, self._folder = ours, reference, folder
        self._weights = folder / "network.npz"
        size = NETWORKS[network].size
        self.loaded = ours("load", network=network, size=size, path=str(self._weights))
        self.reference_loaded = self.load_reference(_REFERENCE_DTYPE.value)
        self._masks: dict[tuple[str, int], pathlib.Path] = {}

    def load_reference(self, dtype: str) -> dict[str, Any]:
        self._dtype = dtype
        return self._reference("load", path=str(self._weights), dtype=dtype)

    def prune(self, rounds: int) -> dict[str, Any]:
        path = self._path("ours", rounds)
        return self._ours("prune", compression=_COMPRESSION.value, rounds=rounds, masks=str(path))

    def prune_reference(self, rounds: int) -> dict[str, Any]:
        plan = densities(_COMPRESSION.value, rounds, "exponential")
        path = self._path(self._dtype, rounds)
        return self._reference("prune", densities=plan, masks=str(path))

    def rates(self) -> floor.Rates:
        return floor.Rates(**self._ours("rates"))

    def nodes(self) -> list[dict[str, Any]]:
        with np.load(self._weights) as file:
            return json.loads(str(file["nodes"]))

    def masks(self, who: str, rounds: int) -> dict[str, np.ndarray]:
        """Bits of the masks after so many rounds of `"ours"` or of the reference in a dtype."""
        if (who, rounds) not in self._masks:
            if who == "ours":
                self.prune(rounds)
            else:
                if who != self._dtype:
                    self.load_reference(who)
                self.prune_reference(rounds)
        with np.load(self._masks[who, rounds]) as file:
            return {name: file[name] for name in file.files}

    def _path(self, who: str, rounds: int) -> pathlib.Path:
        self._masks[who, rounds] = self._folder / f"{who}_{rounds}.npz"
        return self._masks[who, rounds]


def row_of(model: str, threads: int, folder: pathlib.Path) -> dict[str, Any]:
    """Times and compares one network."""
    rounds = _ROUNDS.value
    few = min(10, rounds) if NETWORKS[model].large else rounds
    reference_rounds = _REFERENCE_ROUNDS.value or few
    check_rounds = _CHECK_ROUNDS.value or few
    with (
        Worker("paper.our_worker", sys.executable, threads) as ours,
        Worker("paper.reference_worker", _TORCH_PYTHON.value, threads) as reference,
    ):
        pair = Pair(ours, reference, model, folder)
        weights = pair.loaded["weights"]
        tenth = pair.prune(max(1, rounds // 10))
        pair.prune_reference(1)
        turns = []
        for _ in range(_REPEATS.value):
            turns.append((pair.prune_reference(reference_rounds), pair.prune(rounds), pair.rates()))
            print(f"{model}, {threads} threads: {_said(turns[-1], rounds)}", flush=True)
        row = {
            "model": model,
            "pixels": NETWORKS[model].size,
            "weights": weights,
            "threads": threads,
            "rounds": rounds,
            "compression": f"{_COMPRESSION.value:g}",
            "reference_dtype": _REFERENCE_DTYPE.value,
            "reference_rounds": reference_rounds,
            **_times(pair, turns, rounds),
            "where": f"{processor_line(threads)}; "
            + versions_line(torch=pair.reference_loaded["torch"]),
        }
        peaks = {
            # Of the first turn: no rates, whose arrays are larger, have been measured before.
            "reference_memory": turns[0][0]["peak"] - pair.reference_loaded["idle"],
            "memory": turns[0][1]["peak"] - pair.loaded["idle"],
            "memory_tenth": tenth["peak"] - pair.loaded["idle"],
        }
        row |= {name: f"{peak / (4 * weights):.2f}" for name, peak in peaks.items()}
        if check_rounds > 0:
            row |= _compared(pair, check_rounds)
    return row


def _said(turn: Turn, rounds: int) -> str:
    theirs, ours, rates = turn
    each = " ".join(f"{seconds:.3f}" for seconds in theirs["seconds"][:: -(-rounds // 10)])
    return (
        f"reference {each} s, ours {ours['seconds'] / rounds:.3f} s a round; "
        f"{rates.multiplications:.3g} multiplications, {rates.bytes:.3g} bytes, "
        f"{rates.partitioned:.3g} partitioned a second"
    )


def _times(pair: Pair, turns: list[Turn], rounds: int) -> dict[str, str]:
    """Seconds a round of both, their ratio, and the floor: medians over the turns."""
    positions = floor.positions_of(pair.nodes())
    theirs = [statistics.fmean(reference["seconds"]) for reference, _, _ in turns]
    ours = [one["seconds"] / rounds for _, one, _ in turns]
    by_round = [
        statistics.median(times)
        for times in zip(*(reference["seconds"] for reference, _, _ in turns), strict=True)
    ]
    least = [
        floor.seconds_a_round(_alive(pair, reference, rounds), positions, rates)
        for reference, _, rates in turns
    ]
    found = {
        "reference_seconds": statistics.median(theirs),
        "reference_fastest": min(by_round),
        "reference_slowest": max(by_round),
        "reference_processor": statistics.median(
            statistics.fmean(reference["processor"]) for reference, _, _ in turns
        ),
        "seconds": statistics.median(ours),
        "processor": statistics.median(one["processor"] / rounds for _, one, _ in turns),
        "times_faster": statistics.median(a / b for a, b in zip(theirs, ours, strict=True)),
        "floor_seconds": statistics.median(least),
        "times_floor": statistics.median(a / b for a, b in zip(ours, least, strict=True)),
    }
    return {name: f"{value:.4g}" for name, value in found.items()}


def _alive(pair: Pair, reference: dict[str, Any], rounds: int) -> list[dict[str, float]]:
    """Weights of each layer that each of our rounds finds, from those the reference left."""
    plan = densities(_COMPRESSION.value, len(reference["kept"]), "exponential")
    known = {1.0: pair.reference_loaded["sizes"], **dict(zip(plan, reference["kept"], strict=True))}
    found = [1.0, *densities(_COMPRESSION.value, rounds, "exponential")[:-1]]
    return floor.alive_at(found, known)


def _compared(pair: Pair, rounds: int) -> dict[str, Any]:
    """Our masks and the reference's in float64 and float32."""
    ours, exact, single = (pair.masks(who, rounds) for who in ("ours", "float64", "float32"))
    if list(ours) != list(exact):
        raise RuntimeError(f"received masks of {list(exact)}; expected {list(ours)}")
    both = {name: ours[name] & single[name] for name in ours}
    return {
        "check_rounds": rounds,
        "masks_differ": _ones({name: ours[name] ^ exact[name] for name in ours}),
        "float32_agreement": f"{_ones(both) / max(_ones(ours), _ones(single)):.4f}",
    }


def _ones(bits: dict[str, np.ndarray]) -> int:
    return sum(int(np.bitwise_count(each).sum()) for each in bits.values())


def main(argv: list[str]) -> None:
    """Measures the cells that were asked for; the rows of others stay."""
    del argv
    path = pathlib.Path(_OUT.value)
    cells = [(model, threads) for model in _MODELS.value for threads in _THREADS.value]
    rows = []
    if path.exists():
        with path.open(newline="") as file:
            rows = [
                row for row in csv.DictReader(file) if (row["model"], row["threads"]) not in cells
            ]
    for model, threads in cells:
        with tempfile.TemporaryDirectory() as folder:
            row = row_of(model, int(threads), pathlib.Path(folder))
        print("\n".join(f"  {name}: {value}" for name, value in row.items()), flush=True)
        rows.append(row)
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    app.run(main)
