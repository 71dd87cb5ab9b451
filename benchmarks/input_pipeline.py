"""Images a second that the input pipeline gives, and that the fastest CIFAR recipe takes.

    python benchmarks/input_pipeline.py --data_dir=/data/tfds
    python benchmarks/input_pipeline.py --data_dir=/data/tfds --rounds=50

Batches of CIFAR-10, cropped and mirrored, from the pipeline alone, and training steps of
configs/cifar10_vgg11_bn.cfg, pruned 100×, masked and shrunk, on one batch that is there already, so
that no step waits; all take turns. A pipeline that gives more images a second than the steps take
starves nobody; what it costs them is its share of the processor's time. Writes
docs/results/input_pipeline.csv.
"""

import csv
import itertools
import os
import pathlib
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from absl import app, flags
from where import processor_line, versions_line

ROOT = pathlib.Path(__file__).resolve().parent.parent
BATCH, STEPS = 128, 8  # images in a step, steps in a turn

_DATA_DIR = flags.DEFINE_string("data_dir", None, "Folder of the TFDS sets.", required=True)
_PRECISION = flags.DEFINE_string(
    "mixed_precision", "float32", "Of the steps; mixed_bfloat16 needs such a processor."
)
_ROUNDS = flags.DEFINE_integer("rounds", 20, "Turns of each.")
_OUT = flags.DEFINE_string("out", str(ROOT / "docs" / "results" / "input_pipeline.csv"), "Table.")


def training(model: Any, config: Any, data: Any) -> Callable[[], Any]:
    """One step of `fit` on a batch that is there already."""
    import tensorflow as tf

    from tf_synflow import compat
    from tf_synflow.train import optimizers

    loss = compat.tf_keras().losses.SparseCategoricalCrossentropy(from_logits=True)
    optimizer = optimizers.make_optimizer(config, data.steps_per_epoch)
    model.compile(optimizer, loss, metrics=["accuracy"], jit_compile=False)
    batch = next(iter(data.train_batches()))
    function = model.make_train_function()
    batches = iter(tf.data.Dataset.from_tensors(batch).repeat())
    return lambda: function(batches)


def turns(parts: dict[str, Callable[[], Any]], rounds: int) -> dict[str, np.ndarray]:
    """Median seconds of one call, on the clock and of the processor; all take turns."""
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in parts}
    for name, call in itertools.chain(parts.items(), *[parts.items()] * rounds):  # the first warms
        clock, processor = time.perf_counter(), time.process_time()
        for _ in range(STEPS):
            call()
        taken = time.perf_counter() - clock, time.process_time() - processor
        seconds[name].append((taken[0] / STEPS, taken[1] / STEPS))
    return {name: np.median(values[1:], axis=0) for name, values in seconds.items()}


def main(argv: list[str]) -> None:
    """Measures and writes one row for the pipeline and one for each way of training."""
    del argv
    import tf_synflow
    from tf_synflow import compat
    from tf_synflow.train import data as data_sets
    from tf_synflow.train import models
    from tf_synflow.train.config import TrainConfig

    config = TrainConfig(
        data="cifar10",
        model="vgg11_bn",
        width=0.25,
        weight_decay=1e-4,
        lr_schedule="cosine",
        mixed_precision=_PRECISION.value,
    )
    data = data_sets.load("cifar10", data_dir=_DATA_DIR.value, batch_size=BATCH)
    model = models.build(
        config.model,
        input_shape=data.input_shape,
        num_classes=data.num_classes,
        width=config.width,
        keras=compat.tf_keras(),
        dtype=config.mixed_precision,
    )
    masked = tf_synflow.prune_at_init(model, 100)
    shrunk = tf_synflow.shrink(masked, verbose=False)
    batches = iter(data.train_batches())
    parts = {
        "pipeline": lambda: next(batches),
        "step, masked": training(masked, config, data),
        "step, shrunk": training(shrunk, config, data),
    }
    found = turns(parts, _ROUNDS.value)
    where = f"{processor_line()}; {versions_line(['tensorflow'])}"
    rows = [
        {
            "what": name,
            "precision": config.mixed_precision if name != "pipeline" else "float32",
            "images_a_second": round(BATCH / clock),
            "processor_us_an_image": f"{processor / BATCH * 1e6:.1f}",
            "times_the_step": f"{clock / found['pipeline'][0]:.2f}",
            "pipelines_share": f"{found['pipeline'][1] / processor:.3f}",
            "rounds": _ROUNDS.value,
            "where": where,
        }
        for name, (clock, processor) in found.items()
    ]
    with open(_OUT.value, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    for row in rows:
        print(" ".join(f"{key}={value}" for key, value in row.items()))


if __name__ == "__main__":
    app.run(main)
