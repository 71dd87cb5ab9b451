"""Tables of test accuracy: SynFlow against another scorer at the same compressions.

`cifar10` is the README's, against magnitude; `modern` is an LSTM and a vision transformer, against
random pruning.

Every cell is one run of `tf-synflow-train`; a cell that is done is left alone, one that was cut
short goes on after its last epoch. The CSV is written anew after each cell, the figure at the end.

    python benchmarks/accuracy_table.py --table=cifar10 --data_dir=<TFDS folder>
    python benchmarks/accuracy_table.py --table=modern --collect_only
"""

import csv
import itertools
import json
import pathlib
import subprocess
import sys
from typing import NamedTuple

from absl import app, flags

ROOT = pathlib.Path(__file__).resolve().parent.parent
CHANCE = 0.1


class Table(NamedTuple):
    """Flagfiles in configs/, the scorers to compare, and at which compressions (1 is dense)."""

    configs: tuple[str, ...]
    scorers: tuple[str, ...]
    compressions: tuple[int, ...]


TABLES = {
    "cifar10": Table(
        ("cifar10_vgg11_bn", "cifar10_resnet20"), ("synflow", "magnitude"), (1, 10, 100, 1000)
    ),
    "modern": Table(("mnist_lstm", "cifar10_vit"), ("synflow", "random"), (1, 10)),
}

_TABLE = flags.DEFINE_enum("table", "cifar10", sorted(TABLES), "Which table.")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Folder of TensorFlow Datasets.")
_RUNS = flags.DEFINE_string("runs", str(ROOT / "runs"), "Folder of the runs, one inside a table.")
_OUT = flags.DEFINE_string("out", str(ROOT / "docs" / "results"), "Folder of CSV and figure.")
_COLLECT_ONLY = flags.DEFINE_bool("collect_only", False, "Train nothing; read what is there.")


def cells(table: Table) -> list[tuple[str, str, int]]:
    """Config, scorer, compression; the dense network once a config."""
    return [cell for cell in itertools.product(*table) if cell[1:] != ("synflow", 1)]


def command(config: str, scorer: str, compression: int) -> list[str]:
    """The flags of one cell, after `tf-synflow-train`."""
    return [
        f"--flagfile=configs/{config}.cfg",
        f"--scorer={scorer}",
        f"--compression={compression}",
        "--allow_collapse",
    ]


def train(cell: tuple[str, str, int], folder: pathlib.Path) -> None:
    """Runs, or takes up, one cell."""
    arguments = [*command(*cell), f"--output_dir={folder}"]
    if _DATA_DIR.value:
        arguments.append(f"--data_dir={pathlib.Path(_DATA_DIR.value).resolve()}")
    if (folder / "config.json").exists():
        arguments.append("--resume")
    subprocess.run([sys.executable, "-m", "tf_synflow.cli.train", *arguments], cwd=ROOT, check=True)


def row(cell: tuple[str, str, int], folder: pathlib.Path) -> dict:
    """What a finished run found."""
    import tf_synflow

    report = json.loads((folder / "report.json").read_text())
    network = report.get("pruned") or report["dense"]
    left = tf_synflow.summary(tf_synflow.load_model(folder / "model.keras", compile=False))
    _, scorer, compression = cell
    return {
        "model": report["config"]["model"],
        "width": report["config"]["width"],
        "scorer": scorer if compression > 1 else "dense",
        "compression": compression,
        "kept": left.kept if compression > 1 else left.size,
        "prunable": left.size,
        "flow_left": left.flow_left,
        "test_accuracy": round(network["accuracy"], 4),
        "best_epoch": round(network["best_accuracy"], 4),
        "epochs": network["epochs"],
        "command": " ".join(["tf-synflow-train", *command(*cell)]),
    }


def write(rows: list[dict], path: pathlib.Path) -> None:
    """CSV, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".csv.tmp")
    with temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    temporary.replace(path)


def draw(rows: list[dict], table: Table, path: pathlib.Path) -> None:
    """Accuracy against compression, a panel a model."""
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    models = list(dict.fromkeys(row["model"] for row in rows))
    figure, panels = plt.subplots(1, len(models), figsize=(8, 3.2), sharey=True, squeeze=False)
    for panel, model in zip(panels[0], models, strict=True):
        of_model = [row for row in rows if row["model"] == model]
        for scorer, colour in zip(table.scorers, ("tab:blue", "tab:orange"), strict=True):
            points = [r for r in of_model if r["scorer"] in (scorer, "dense")]
            points.sort(key=lambda r: r["compression"])
            panel.plot(
                [r["compression"] for r in points],
                [100 * r["test_accuracy"] for r in points],
                "o-",
                color=colour,
                label=scorer,
            )
        panel.axhline(100 * CHANCE, color="grey", linestyle=":", label="chance")
        width = of_model[0]["width"]
        panel.set_title(model if width == 1 else f"{model}, width {width:g}")
        panel.set(xscale="log", xlabel="compression (1 = dense)", ylim=(0, 100))
    panels[0][0].set_ylabel("test accuracy, %")
    panels[0][0].legend()
    figure.tight_layout()
    figure.savefig(path.with_suffix(".svg"))
    figure.savefig(path.with_suffix(".png"), dpi=120)


def main(argv: list[str]) -> None:
    """Trains what is missing, then prints the table as Markdown."""
    del argv
    table = TABLES[_TABLE.value]
    runs = pathlib.Path(_RUNS.value) / _TABLE.value
    out = pathlib.Path(_OUT.value) / f"{_TABLE.value}.csv"
    rows = []
    for cell in cells(table):
        folder = runs / "-".join(map(str, cell))
        if not _COLLECT_ONLY.value and not (folder / "report.json").exists():
            train(cell, folder)
        if (folder / "report.json").exists():
            rows.append(row(cell, folder))
            write(rows, out)
    if not rows:
        raise SystemExit(f"No finished run in {runs}; train first, without --collect_only.")
    if len(table.compressions) > 2:  # two points are no curve
        draw(rows, table, out)
    print("| model | scorer | compression | kept | flow left | test accuracy |")
    print("| --- | --- | --- | --- | --- | --- |")
    for r in rows:
        print(
            f"| {r['model']} ×{r['width']:g} | {r['scorer']} | {r['compression']} | "
            f"{r['kept']:,} of {r['prunable']:,} | {'yes' if r['flow_left'] else 'no'} | "
            f"{r['test_accuracy']:.1%} |"
        )


if __name__ == "__main__":
    app.run(main)
