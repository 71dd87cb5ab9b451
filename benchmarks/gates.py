"""What to do with a product of flows: a gate, an attention. The alternatives, measured.

    python benchmarks/gates.py
    python benchmarks/gates.py --models=vit,gpt --rounds=10

For each model and each alternative: 100 rounds of SynFlow to 10× and 100×, and how many tensors end
up empty, with what is left of the flow. Writes docs/results/gates.csv; docs/gates.md explains.
"""

import csv
import pathlib
import time
from collections.abc import Callable
from typing import Any
from unittest import mock

import numpy as np
import tensorflow as tf
from absl import app, flags

from tf_synflow.flow import tensor
from tf_synflow.flow.network import Network
from tf_synflow.flow.tensor import product

ROOT = pathlib.Path(__file__).resolve().parent.parent

_MODELS = flags.DEFINE_list("models", ["mobilenet_v3", "efficientnet", "vit", "gpt", "lstm"], "")
_COMPRESSIONS = flags.DEFINE_list("compressions", ["10", "100"], "")
_ROUNDS = flags.DEFINE_integer("rounds", 100, "Rounds of SynFlow.")
_OUT = flags.DEFINE_string("out", str(ROOT / "docs" / "results" / "gates.csv"), "The table.")


# --- models -------------------------------------------------------------------------------------


def mobilenet_v3(keras: Any) -> Any:
    return keras.applications.MobileNetV3Small((64, 64, 3), weights=None, classes=10)


def efficientnet(keras: Any) -> Any:
    return keras.applications.EfficientNetB0(input_shape=(64, 64, 3), weights=None, classes=10)


def vit(keras: Any) -> Any:
    from tf_synflow.train import models

    return models.build("vit", input_shape=(32, 32, 3), num_classes=10, keras=keras)


def lstm(keras: Any) -> Any:
    from tf_synflow.train import models

    return models.build("lstm", input_shape=(28, 28, 1), num_classes=10, keras=keras)


def gpt(keras: Any, vocabulary: int = 256, length: int = 32, size: int = 64) -> Any:
    """A decoder of four blocks: causal attention, then two dense layers, pre-norm."""
    layers = keras.layers
    tokens = keras.Input((length,), dtype="int32")
    x = layers.Embedding(vocabulary, size, name="tokens")(tokens)
    for i in range(4):
        y = layers.LayerNormalization()(x)
        y = layers.MultiHeadAttention(4, size // 4, name=f"attention{i}")(
            y, y, use_causal_mask=True
        )
        x = layers.Add()([x, y])
        y = layers.LayerNormalization()(x)
        y = layers.Dense(4 * size, activation="gelu", name=f"up{i}")(y)
        x = layers.Add()([x, layers.Dense(size, name=f"down{i}")(y)])
    logits = layers.Dense(vocabulary, use_bias=False, name="head")(layers.LayerNormalization()(x))
    return keras.Model(tokens, logits)


# --- alternatives ---------------------------------------------------------------------------------


def left_out(tensors: Any, op: Any = None, main: int | None = None) -> Any:
    """Only the main factor has flow: a gate is a constant to it."""
    return _product(tensors, op, main, share=lambda value, n, is_main: value if is_main else None)


def not_shared(tensors: Any, op: Any = None, main: int | None = None) -> Any:
    """Every factor takes the whole gradient: flow multiplies at each gate."""
    return _product(tensors, op, main, share=lambda value, n, is_main: value)


def _product(tensors: Any, op: Any, main: int | None, share: Callable[..., Any]) -> Any:
    if main is None:
        sizes = [t.shape.num_elements() for t in tensors]
        main = sizes.index(max(sizes))
    position = iter(range(len(tensors)))

    def shared(value: tf.Tensor, n: int) -> tf.Tensor:
        found = share(value, n, next(position) == main)
        return tf.stop_gradient(value) if found is None else found

    with mock.patch.object(tensor, "_shared", shared):
        return product(tensors, op, main)


ALTERNATIVES = {
    "shared, 1/n each (tf_synflow)": None,
    "gate left out": left_out,
    "not shared": not_shared,
}


def _masks(model: Any, schedule: Any) -> tuple[Any, str]:
    """The masks; or, where whole tensors score zero, those tensors empty, and the error."""
    import tf_synflow

    try:
        return tf_synflow.compute_masks(model, schedule=schedule, verbose=False), ""
    except tf_synflow.errors.ScoreError as error:
        network = Network(model)
        full = {name: np.ones(shape, bool) for name, shape in network.prunable_shapes.items()}
        scores = tf_synflow.scores.SynFlow().bind(network)(full)
        masks = {name: full[name] & bool(array.any()) for name, array in scores.items()}
        return tf_synflow.Masks(masks), str(error).split(";")[0]


def main(argv: list[str]) -> None:
    """Measures every cell and prints the table."""
    del argv
    import keras

    import tf_synflow

    rows = []
    for name in _MODELS.value:
        keras.utils.set_random_seed(0)
        model = globals()[name](keras)
        for alternative, replacement in ALTERNATIVES.items():
            for compression in map(float, _COMPRESSIONS.value):
                schedule = tf_synflow.SynFlowPruningSchedule(compression, _ROUNDS.value)
                start = time.perf_counter()
                with mock.patch.object(tensor, "product", replacement or product):
                    masks, refusal = _masks(model, schedule)
                seconds = time.perf_counter() - start
                empty = [weight for weight, mask in masks.items() if not mask.any()]
                rows.append(
                    {
                        "model": name,
                        "product": alternative,
                        "compression": f"{compression:g}",
                        "kept": masks.kept,
                        "tensors": len(masks),
                        "empty": len(empty),
                        "flow_left": Network(model).has_flow(masks),
                        "seconds": round(seconds, 1),
                        "refusal": refusal,
                    }
                )
                print(" | ".join(map(str, rows[-1].values())), flush=True)
    path = pathlib.Path(_OUT.value)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    app.run(main)
