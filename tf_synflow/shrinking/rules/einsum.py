"""EinsumDense, where it contracts the last axis of its input and makes that of its output."""

import numpy as np

from tf_synflow.shrinking.call import Call
from tf_synflow.shrinking.rules.dense import reached
from tf_synflow.shrinking.rules.registry import unit_rule
from tf_synflow.shrinking.units import Signal, as_float


@unit_rule("EinsumDense")
def einsum_dense(call: Call) -> Signal | None:
    """Units along one axis of the kernel, read from along another; its other axes stay."""
    layer = call.layer
    if getattr(layer, "lora_enabled", False) or getattr(layer, "quantization_mode", None):
        return None
    given, rest = layer.equation.replace(" ", "").replace("...", "").split(",")
    along, made = rest.split("->")
    if given[-1] not in along or given[-1] in made or made[-1] not in along or made[-1] in given:
        return None
    x, kernel, bias = call.first(), layer.kernel, layer.bias
    source, target = along.index(given[-1]), along.index(made[-1])
    out = call.new(int(kernel.shape[target]))
    call.slice(kernel, {source: x.ids, target: out})
    if made[-1] in (layer.bias_axes or ""):
        # Keras gives the bias an axis for each letter from the first that has one.
        call.slice(bias, {len(bias.shape) - 1: out})
    call.change(
        lambda config, kept: config.update(
            output_shape=(*_sizes(config["output_shape"])[:-1], kept.count(out))
        )
    )
    others = tuple(axis for axis in range(len(along)) if axis not in (source, target))

    def matrix(values: np.ndarray, reduce: np.ufunc) -> np.ndarray:
        reduced = reduce.reduce(values, axis=others)
        return reduced if source < target else reduced.T

    def rows(chosen: np.ndarray) -> np.ndarray:
        return matrix(as_float(kernel), np.add)[chosen]

    # One bias for a unit takes what is the same at every position of the other axes.
    folds = layer.bias_axes in (None, made[-1]) and not set(made[:-1]) & set(along)
    live = matrix(call.live(kernel), np.logical_or)
    return reached(call, x, out, live, rows if folds else None)


def _sizes(shape: int | tuple[int | None, ...]) -> tuple[int | None, ...]:
    return (shape,) if isinstance(shape, int) else tuple(shape)
