"""The README's CIFAR-10 table: SynFlow against magnitude pruning at initialization.

Every cell is one run of `tf-synflow-train`; a cell that is done is left alone, one that was cut
short goes on after its last epoch. The CSV is written anew after each cell, the figure at the end.

    python benchmarks/cifar10_table.py --data_dir=<TFDS folder>
    python benchmarks/cifar10_table.py --collect_only
"""

import csv
import itertools
import json
import pathlib
import subprocess
import sys

from absl import app, flags

ROOT = pathlib.Path(__file__).resolve().parent.parent
MODELS = ("vgg11_bn", "resnet20")
SCORERS = ("synflow", "magnitude")
COMPRESSIONS = (1, 10, 100, 1000)
CHANCE = 0.1

_DATA_DIR = flags.DEFINE_string("data_dir", None, "Folder of TensorFlow Datasets.")
_RUNS = flags.DEFINE_string("runs", str(ROOT / "runs" / "cifar10"), "Folder of the runs.")
_OUT = flags.DEFINE_string("out", str(ROOT / "docs" / "results"), "Folder of CSV and figure.")
_COLLECT_ONLY = flags.DEFINE_bool("collect_only", False, "Train nothing; read what is there.")


def cells() -> list[tuple[str, str, int]]:
    """Model, scorer, compression; the dense network once a model."""
    return [
        cell
        for cell in itertools.product(MODELS, SCORERS, COMPRESSIONS)
        if cell[1:] != ("synflow", 1)
    ]


def command(model: str, scorer: str, compression: int) -> list[str]:
    """The flags of one cell, after `tf-synflow-train`."""
    return [
        f"--flagfile=configs/cifar10_{model}.cfg",
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
    model, scorer, compression = cell
    return {
        "model": model,
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


def write(rows: list[dict], out: pathlib.Path) -> None:
    """CSV, whole or not at all."""
    out.mkdir(parents=True, exist_ok=True)
    temporary = out / "cifar10.csv.tmp"
    with temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    temporary.replace(out / "cifar10.csv")


def draw(rows: list[dict], out: pathlib.Path) -> None:
    """Accuracy against compression, a panel a model."""
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, len(MODELS), figsize=(8, 3.2), sharey=True)
    for panel, model in zip(panels, MODELS, strict=True):
        of_model = [row for row in rows if row["model"] == model]
        for scorer, colour in zip(SCORERS, ("tab:blue", "tab:orange"), strict=True):
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
        width = of_model[0]["width"] if of_model else 1
        panel.set_title(model if width == 1 else f"{model}, width {width:g}")
        panel.set(xscale="log", xlabel="compression (1 = dense)", ylim=(0, 100))
    panels[0].set_ylabel("CIFAR-10 test accuracy, %")
    panels[0].legend()
    figure.tight_layout()
    figure.savefig(out / "cifar10.svg")
    figure.savefig(out / "cifar10.png", dpi=120)


def main(argv: list[str]) -> None:
    """Trains what is missing, then prints the table as Markdown."""
    del argv
    runs, out = pathlib.Path(_RUNS.value), pathlib.Path(_OUT.value)
    rows = []
    for cell in cells():
        folder = runs / "-".join(map(str, cell))
        if not _COLLECT_ONLY.value and not (folder / "report.json").exists():
            train(cell, folder)
        if (folder / "report.json").exists():
            rows.append(row(cell, folder))
            write(rows, out)
    if not rows:
        raise SystemExit(f"No finished run in {runs}; train first, without --collect_only.")
    draw(rows, out)
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
