"""The weights of a Keras model under stable names, and which of them are prunable."""

import dataclasses
import fnmatch
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from tf_synflow import compat, errors

# By name and layer kind, not by rank: the biases of an attention layer have rank 2.
PRUNABLE_BY_DEFAULT = (
    "kernel",
    "depthwise_kernel",
    "pointwise_kernel",
    "recurrent_kernel",
    "embeddings",
)

# Terms that are added to the flow and need no input; zero is what they are initialized to.
ADDITIVE = ("bias", "beta", "moving_mean")

# Statistics of the data, which no gradient trains and no pattern means.
STATISTICS = ("moving_mean", "moving_variance")

Prunable = Callable[[str], bool] | str | Sequence[str] | None


@dataclasses.dataclass(frozen=True)
class Weight:
    """One variable of a model.

    Attributes:
      name: path of layer names and the variable's own, `conv1/kernel`; a nested model adds its
        name in front. The same in both Kerases, and with or without a pruning wrapper.
      layer: the layer that owns the variable.
      variable: the Keras variable.
    """

    name: str
    layer: Any
    variable: Any

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.variable.shape)

    def value(self) -> np.ndarray:
        """A float64 copy of the variable."""
        return np.array(self.variable.numpy(), np.float64)


def is_additive(name: str) -> bool:
    """Whether a weight is added to the flow, as a bias is, rather than multiplied with it."""
    return name.split("/")[-1] in ADDITIVE


def is_model(layer: Any) -> bool:
    """Whether a layer is a model; a layer of the user's own may well have a list `layers`."""
    return any(
        base.__name__ == "Model" and base.__module__.split(".")[0] in ("keras", "tf_keras")
        for base in type(layer).__mro__
    )


def is_quantization_aware(model: Any) -> bool:
    """Whether a model holds layers of TFMOT's quantization-aware training."""
    kinds = {base.__name__ for _, layer in layers_of(model) for base in type(layer).__mro__}
    return not kinds.isdisjoint(("QuantizeWrapper", "QuantizeLayer"))


def unwrap(layer: Any) -> Any:
    """The layer inside a TFMOT pruning wrapper, or the layer itself."""
    if any(base.__name__ == "PruneLowMagnitude" for base in type(layer).__mro__):
        return layer.layer
    return layer


def leaves(model: Any) -> list[Any]:
    """The layers of a model and of the models in it, in order, pruning wrappers still on."""
    found = []
    for layer in model.layers:
        found.extend(leaves(layer) if is_model(layer) else [layer])
    return found


def wrappers(model: Any) -> list[Any]:
    """What holds a model's frozen masks: TFMOT's pruning wrappers, or pruned Keras 3 layers."""
    names = {"PruneLowMagnitude", "Pruned"}
    return [
        layer
        for layer in model._flatten_layers()
        if any(base.__name__ in names for base in type(layer).__mro__)
    ]


def layers_of(model: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """All layers below a model, outer before inner, as (path, layer without pruning wrapper)."""
    for layer in _children(model):
        layer = unwrap(layer)
        layer_path = f"{path}{layer.name}"
        yield layer_path, layer
        yield from layers_of(layer, f"{layer_path}/")


def all_weights(model: Any) -> dict[str, Weight]:
    """Every floating-point variable of the layers of a model, by name, in the model's order."""
    weights: dict[str, Weight] = {}
    seen: set[int] = set()
    for path, layer in [("", model), *layers_of(model)]:
        for variable in own_variables(layer):
            if id(variable) in seen or "float" not in str(variable.dtype):
                continue
            seen.add(id(variable))
            own = own_name(layer, variable)
            stem = f"{path}/{own}" if path else own
            name, duplicates = stem, 0
            while name in weights:  # what it is called in its layer says what it is
                duplicates += 1
                of_layer = weights[stem].layer is layer
                name = f"{stem}_{duplicates}" if of_layer else f"{path}_{duplicates}/{own}"
            weights[name] = Weight(name, layer, variable)
    return weights


# What Keras 3 names otherwise than tf_keras.
_KERAS_3_NAMES = {
    ("DepthwiseConv1D", "kernel"): "depthwise_kernel",
    ("DepthwiseConv2D", "kernel"): "depthwise_kernel",
    ("LayerScale", "variable"): "gamma",
}


def own_name(layer: Any, variable: Any) -> str:
    own = variable.name.split("/")[-1].split(":")[0]
    if re.fullmatch(r"variable_\d+", own):  # a name that Keras 3 made up, numbered as it goes
        own = "variable"
    keys = ((base.__name__, own) for base in type(layer).__mro__)
    return next((_KERAS_3_NAMES[key] for key in keys if key in _KERAS_3_NAMES), own)


def select_prunable(weights: Iterable[str], prunable: Prunable = None) -> list[str]:
    """The names that may be pruned, in the given order.

    Args:
      weights: names of weights, `conv1/kernel`.
      prunable: None for kernels and embeddings; a predicate on the name; or one or more patterns
        with the wildcards of `fnmatch`, as in `["conv*/kernel"]`. Batch normalization's moving
        statistics are never among them.

    Raises:
      NoPrunableWeightsError: nothing is left, or neither patterns nor a predicate.
      UnknownNameError: a name without wildcards that no weight has.
    """
    weights = [name for name in weights if name.split("/")[-1] not in STATISTICS]
    if prunable is None:
        chosen = [name for name in weights if name.split("/")[-1] in PRUNABLE_BY_DEFAULT]
    elif callable(prunable):
        chosen = [name for name in weights if prunable(name)]
    else:
        patterns = [prunable] if isinstance(prunable, str) else prunable
        if not isinstance(patterns, Iterable) or not all(isinstance(p, str) for p in patterns):
            raise errors.NoPrunableWeightsError(
                f"prunable: received {prunable!r}; expected None, a pattern or a list of patterns "
                "of names, '*/kernel', or a predicate on the name."
            )
        patterns = list(patterns)
        for pattern in patterns:
            if not (set("*?[") & set(pattern) or pattern in weights):
                raise errors.UnknownNameError("prunable weight", pattern, weights)
        chosen = [n for n in weights if any(fnmatch.fnmatchcase(n, p) for p in patterns)]
    if not chosen:
        raise errors.NoPrunableWeightsError(
            f"No prunable weight: received a model with the weights {weights or 'none'} and "
            f"prunable={prunable!r}; expected at least one to be chosen. By default those named "
            f"{', '.join(PRUNABLE_BY_DEFAULT)} are; choose others by a pattern, "
            "prunable='*/my_weight', or by a predicate on the name."
        )
    return chosen


def _children(layer: Any) -> list[Any]:
    if is_model(layer):
        return list(layer.layers)
    if hasattr(layer, "_flatten_layers"):
        return list(layer._flatten_layers(include_self=False, recursive=False))
    return []


def own_variables(layer: Any) -> list[Any]:
    """The variables that a layer itself owns, not those of layers inside it."""
    if compat.is_tf_keras(layer):
        return [*layer._trainable_weights, *layer._non_trainable_weights]
    return [*layer._trainable_variables, *layer._non_trainable_variables]
