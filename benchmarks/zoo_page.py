"""docs/zoo.md, written from the rows of `zoo.py`."""

from typing import Any

PAGE = """# The zoo: every constructor of keras.applications

Written by `benchmarks/zoo.py` from [results/zoo.csv](results/zoo.csv); the CSV has more columns.

Each model is built with `weights=None`, {classes} classes and the smallest input that its family
takes with a classifier on top (32×32; 71 for Xception, 75 for the Inceptions). Its prunable
weights, by default the kernels, are pruned by SynFlow: in 100 rounds for the smallest model of a
family, in 10 for all others; in float64 (float32 above {float32:g} M weights, for memory). Then it
trains for {steps} steps of {batch} random images (SGD with momentum), is stripped, and is exported
to TFLite, which is run and compared with Keras. Every row is made in a process of its own.

- **rounds s**: seconds for all rounds, tracing included. The machine was shared: read ratios.
- **kept**: exactly N − int((1 − 1/c)·N) of the N prunable weights, or the row says *not exact*.
- **flow**: whether a path of kept weights leads from input to output.
- **empty**: tensors without a kept weight, named in the CSV. Where flow is left they are branches
  beside others: residual branches, shortcuts, gates.
- **masks**: after training, every removed weight is exactly 0.
- **TFLite**: largest difference from Keras, relative to the largest logit (a softmax, taken off
  here, would hide it); over 1e-4 would be a failure, except for a network that itself moves by more
  than a tenth of that when its input moves by a rounding of float32 (`rounding` in the CSV).

{where}

## Rows

| model | Keras | weights | c | rounds | rounds s | kept | flow | empty | masks | TFLite | peak MB |
| --- | --- | ---: | ---: | ---: | ---: | ---: | --- | ---: | --- | ---: | ---: |
{done}

## Rows with a reason

A limit here is one of the machine that made the table, unless the reason says otherwise.

{reasons}

## The same scores in both Kerases

Largest difference of a score, of the largest of its tensor, with the same weights in both: {other}.

MobileNetV3 differs because its graph does: Keras 3 has hard-swish as an activation, which SynFlow
leaves out; tf_keras writes it out as x · gate(x), which is a product of flows like any other.

## Not made

Every family stands above in at least one size, in each Keras that has it. Other sizes:

{missing}
"""


def page(rows: list[dict[str, str]], wanted: list[tuple[str, str, str]], **settings: Any) -> str:
    """docs/zoo.md.

    Args:
      rows: of the CSV.
      wanted: model, Keras and compression of every row there could be.
      **settings: what the rows were made with: classes, steps, batch, and float32, the millions of
        weights above which a model is scored in it.
    """
    models = [model for model, _, _ in wanted]
    rows = sorted(
        rows,
        key=lambda row: (models.index(row["model"]), row["keras"], float(row["compression"])),
    )
    done = [_line(row) for row in rows if not row["reason"]]
    reasons = [
        f"- `{row['keras']}` {row['model']}, {row['compression']}×"
        f"{' (' + _pruned(row) + ')' if row['kept'] else ''}: {row['reason']}"
        for row in rows
        if row["reason"]
    ]
    other = [row for row in rows if row["other_keras_difference"]]
    made = {(row["model"], row["keras"], row["compression"]) for row in rows}
    absent: dict[tuple[str, str], list[str]] = {}
    for model, keras, compression in wanted:
        if (model, keras, compression) not in made:
            absent.setdefault((keras, f"{compression}×"), []).append(model)
    missing = [
        f"- `{keras}` at {compression}: {', '.join(models)}."
        for (keras, compression), models in absent.items()
    ]
    return PAGE.format(
        **settings,
        where="\n".join(f"- {text}" for text in sorted({row["where"] for row in rows})),
        done="\n".join(done),
        reasons="\n".join(reasons) or "None.",
        other=", ".join(f"{row['model']} {row['other_keras_difference']}" for row in other)
        or "not compared",
        missing="\n".join(missing) or "Nothing: every constructor of both Kerases is above.",
    )


def _pruned(row: dict[str, str]) -> str:
    exact = "" if row["exact"] == "True" else ", not exact"
    flow = {"True": "flow left", "False": "no flow left"}.get(row["flow_left"], "flow not known")
    return f"pruned: {int(row['kept']):,} kept{exact}, {flow}, {row['empty']} empty"


def _line(row: dict[str, str]) -> str:
    exact = "" if row["exact"] == "True" else " not exact"
    cells = [
        row["model"],
        row["keras"],
        f"{int(row['weights']):,}",
        row["compression"],
        row["rounds"] + (" float32" if row["dtype"] == "float32" else ""),
        row["seconds_rounds"],
        f"{int(row['kept']):,}{exact}",
        "yes" if row["flow_left"] == "True" else "**no**",
        f"{row['empty']} of {row['tensors']}",
        "intact" if row["masks_intact"] == "True" else "**broken**",
        row["tflite_difference"],
        row["peak_mb"],
    ]
    return f"| {' | '.join(cells)} |"
