"""Times a training step of a masked model against that of its dense twin, in turns.

    python benchmarks/masked_step.py
    python benchmarks/masked_step.py --models=mlp --wrappers=keras --rounds=200

Dense and masked models of one Keras take turns step by step, and change who begins, so that
whatever else the machine does meets both alike: read the median of the ratios of neighbouring
steps, on the clock and, on a busy machine steadier, of the processor. A step is what `fit` runs for
each batch, or with --on_batch a `train_on_batch`: SGD with momentum, random images, float32.
Writes docs/results/masked_step.csv.
"""

import csv
import os
import pathlib
import statistics
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from absl import app, flags
from where import processor_line, versions_line

ROOT = pathlib.Path(__file__).resolve().parent.parent
SHAPE, CLASSES = (32, 32, 3), 10
WRAPPERS = {"keras": "keras", "tfmot": "tf_keras"}  # and the Keras of its models

_MODELS = flags.DEFINE_list("models", ["resnet20", "vgg11_bn", "mlp"], "Which of them.")
_WRAPPERS = flags.DEFINE_list("wrappers", list(WRAPPERS), "Which of them.")
_COMPRESSION = flags.DEFINE_float("compression", 10.0, "Prunable weights / kept weights.")
_BATCH = flags.DEFINE_integer("batch", 128, "Images in a step.")
_ROUNDS = flags.DEFINE_integer("rounds", 60, "Turns of each model.")
_THREADS = flags.DEFINE_integer("threads", 2, "Threads of an operation.")
_JIT = flags.DEFINE_bool("jit", False, "Compile the steps with XLA.")
_ON_BATCH = flags.DEFINE_bool("on_batch", False, "Steps of train_on_batch instead of fit's.")
_OUT = flags.DEFINE_string("out", str(ROOT / "docs" / "results" / "masked_step.csv"), "The table.")


def build(name: str, keras: Any) -> Any:
    """A model of the recipes, VGG-11 at a quarter of its width; or 14.7 M dense weights."""
    if name == "mlp":
        wide = [keras.layers.Dense(2048, activation="relu", name=f"dense{i}") for i in range(3)]
        head = keras.layers.Dense(CLASSES, name="head")
        return keras.Sequential([keras.Input(SHAPE), keras.layers.Flatten(), *wide, head])
    from tf_synflow.train import models

    width = 0.25 if name == "vgg11_bn" else 1.0
    return models.build(name, input_shape=SHAPE, num_classes=CLASSES, width=width, keras=keras)


def step_of(keras: Any, model: Any, images: np.ndarray, labels: np.ndarray) -> Callable[[], Any]:
    """A training step of a model, compiled and warmed up."""
    import tensorflow as tf

    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9), loss, jit_compile=_JIT.value)
    # What fit has made before its first batch; Keras 3 hands it over the second time only.
    function = model.make_train_function() or model.train_function
    batches = iter(tf.data.Dataset.from_tensors((images, labels)).repeat())

    def step() -> None:
        if _ON_BATCH.value:
            model.train_on_batch(images, labels)
        else:
            function(batches)

    step()
    step()
    return step


def in_turns(steps: list[Callable[[], Any]], rounds: int) -> np.ndarray:
    """Seconds of each step in each round, on the clock and of the processor: (rounds, steps, 2)."""
    seconds = np.zeros((rounds, len(steps), 2))
    for turn in range(rounds):
        for index in range(len(steps))[:: 1 if turn % 2 else -1]:
            clock, processor = time.perf_counter(), time.process_time()
            steps[index]()
            seconds[turn, index] = time.perf_counter() - clock, time.process_time() - processor
    return seconds


def measure(name: str, wrapper: str) -> dict[str, Any]:
    """One row: a model, dense and masked, in one Keras."""
    import tf_synflow
    from tf_synflow import compat

    keras = compat.keras() if WRAPPERS[wrapper] == "keras" else compat.tf_keras()
    keras.utils.set_random_seed(0)
    dense = build(name, keras)
    masks = tf_synflow.compute_masks(dense, _COMPRESSION.value, scorer="magnitude", scope="layer")
    masked = tf_synflow.apply_masks(dense, masks, wrapper)
    random = np.random.RandomState(0)
    images = random.standard_normal((_BATCH.value, *SHAPE)).astype("float32")
    labels = random.randint(0, CLASSES, _BATCH.value)
    steps = [step_of(keras, model, images, labels) for model in (dense, masked)]
    seconds = in_turns(steps, _ROUNDS.value)
    (dense_ms, _), (masked_ms, _) = np.median(seconds, axis=0) * 1e3
    clock, processor = (seconds[:, 1] / seconds[:, 0]).T
    low, ratio, high = statistics.quantiles(clock, n=4)
    used = ("tensorflow", WRAPPERS[wrapper].replace("_", "-"))
    return {
        "model": name,
        "wrapper": wrapper,
        "weights": masks.size,
        "batch": _BATCH.value,
        "step": "train_on_batch" if _ON_BATCH.value else "fit",
        "xla": _JIT.value,
        "dense_ms": f"{dense_ms:.1f}",
        "masked_ms": f"{masked_ms:.1f}",
        "ratio": f"{ratio:.3f}",
        "ratio_low": f"{low:.3f}",
        "ratio_high": f"{high:.3f}",
        "processor_ratio": f"{np.median(processor):.3f}",
        "rounds": _ROUNDS.value,
        "where": f"{processor_line(_THREADS.value)}; {versions_line(used)}",
    }


def main(argv: list[str]) -> None:
    """Measures every model in every wrapper; the table is written as it grows."""
    del argv
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(_THREADS.value)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    rows = []
    for name in _MODELS.value:
        for wrapper in _WRAPPERS.value:
            rows.append(measure(name, wrapper))
            print(" ".join(f"{key}={value}" for key, value in rows[-1].items()), flush=True)
            with open(_OUT.value, "w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
                writer.writeheader()
                writer.writerows(rows)


if __name__ == "__main__":
    app.run(main)
