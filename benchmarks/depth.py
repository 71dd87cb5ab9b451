"""SynFlow on very deep networks, whose flow leaves every floating-point range.

    python benchmarks/depth.py
    python benchmarks/depth.py --models=mlp500 --rounds=100

Prints and writes, for each model and dtype: the exponent that its scores carry, whether they are
finite, whether the count is exact at 10× and flow is left, and the seconds of a round and of making
the graph. Writes docs/results/depth.csv.
"""

import csv
import pathlib
import sys
import time
from typing import Any

import numpy as np
from absl import app, flags

ROOT = pathlib.Path(__file__).resolve().parent.parent
MODELS = ("mlp500", "resnet110", "resnet1202")

_MODELS = flags.DEFINE_list("models", list(MODELS), "Which of them.")
_ROUNDS = flags.DEFINE_integer("rounds", 10, "Rounds of SynFlow.")
_OUT = flags.DEFINE_string("out", str(ROOT / "docs" / "results" / "depth.csv"), "The table.")


def mlp500(keras: Any) -> Any:
    """500 dense layers of 16 units, initial weights times 0.02: R is about 2^-1920."""
    inputs = x = keras.Input((16,))
    for i in range(500):
        x = keras.layers.Dense(16, activation="relu", name=f"dense{i}")(x)
    model = keras.Model(inputs, x)
    for weight in model.weights:
        weight.assign(weight * 0.02)
    return model


def resnet110(keras: Any) -> Any:
    return _resnet(keras, 18)


def resnet1202(keras: Any) -> Any:
    return _resnet(keras, 200)


def _resnet(keras: Any, blocks: int) -> Any:
    """A CIFAR ResNet (He et al. 2016) of 6·blocks + 2 layers."""
    layers = keras.layers
    inputs = keras.Input((32, 32, 3))

    def conv(x: Any, filters: int, size: int = 3, stride: int = 1) -> Any:
        x = layers.Conv2D(
            filters,
            size,
            strides=stride,
            padding="same",
            use_bias=False,
            kernel_initializer="he_normal",
        )(x)
        return layers.BatchNormalization()(x)

    x = layers.ReLU()(conv(inputs, 16))
    for filters in (16, 32, 64):
        for block in range(blocks):
            stride = 2 if filters > 16 and not block else 1
            y = conv(layers.ReLU()(conv(x, filters, stride=stride)), filters)
            x = layers.ReLU()(layers.Add()([conv(x, filters, 1, 2) if stride == 2 else x, y]))
    return keras.Model(inputs, layers.Dense(10)(layers.GlobalAveragePooling2D()(x)))


def measure(name: str, model: Any, dtype: str) -> dict[str, Any]:
    """One row."""
    import tf_synflow
    from tf_synflow import densities, rounds
    from tf_synflow.flow.network import Network

    network = Network(model)
    full = {name: np.ones(shape, bool) for name, shape in network.prunable_shapes.items()}
    start = time.perf_counter()
    score = tf_synflow.scores.SynFlow(dtype).bind(network)
    scores = score(full)
    graph_seconds = time.perf_counter() - start

    class Bound(tf_synflow.scores.SynFlow):
        """The same graph for the rounds."""

        def bind(self, network: Network) -> Any:
            return score

    start = time.perf_counter()
    plan = densities.densities(10, _ROUNDS.value, "exponential")
    masks = rounds.prune(network, Bound(dtype), plan, verbose=False)
    seconds = (time.perf_counter() - start) / _ROUNDS.value
    kept = sum(int(mask.sum()) for mask in masks.values())
    return {
        "model": name,
        "dtype": dtype,
        "weights": network.size,
        "log2_scale": scores.log2_scale,
        "finite": all(np.isfinite(array).all() for array in scores.values()),
        "rounds": _ROUNDS.value,
        "kept": kept,
        "exact": kept == network.size - int(0.9 * network.size),
        "empty": sum(not mask.any() for mask in masks.values()),
        "flow_left": network.has_flow(masks),
        "seconds_graph": round(graph_seconds, 1),
        "seconds_round": round(seconds, 2),
    }


def main(argv: list[str]) -> None:
    """Measures every cell."""
    del argv
    sys.setrecursionlimit(100_000)  # Keras walks a graph by recursion
    import keras

    rows = []
    for name in _MODELS.value:
        keras.utils.set_random_seed(0)
        model = globals()[name](keras)
        for dtype in ("float64", "float32"):
            rows.append(measure(name, model, dtype))
            print(" ".join(f"{key}={value}" for key, value in rows[-1].items()), flush=True)
            with open(_OUT.value, "w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
                writer.writeheader()
                writer.writerows(rows)


if __name__ == "__main__":
    app.run(main)
