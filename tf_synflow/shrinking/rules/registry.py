"""Which rule belongs to which layer or op, and what every rule needs to know of layers."""

from collections.abc import Callable, Iterator
from typing import Any

from tf_synflow.flow.rules.registry import keys_of
from tf_synflow.shrinking.call import Call
from tf_synflow.shrinking.units import Signal

# The units of a call's outputs; None where all units that it touches have to stay.
Rule = Callable[[Call], Signal | list[Signal] | None]

SUMS = ("Add", "ops.Add", "tf.math.add", "tf.__operators__.add")
CONCATENATIONS = ("Concatenate", "ops.Concatenate", "tf.concat")

_RULES: dict[Any, Rule] = {}

_ELEMENTWISE = frozenset(
    "celu elu exponential gelu hard_sigmoid hard_shrink hard_silu hard_swish hard_tanh leaky_relu "
    "linear log_sigmoid mish relu relu6 selu sigmoid silu soft_shrink softplus softsign "
    "sparse_plus sparse_sigmoid squareplus swish tanh tanh_shrink ELU LeakyReLU ReLU".split()
)


def unit_rule(*keys: str) -> Callable[[Rule], Rule]:
    """Registers the rule of layers by class name, or of ops by `ops.Name` or `tf.name`."""

    def register(rule: Rule) -> Rule:
        for key in keys:
            _RULES[key] = rule
        return rule

    return register


def find(layer: Any) -> Rule | None:
    """The rule of a layer or op; None where it is unknown what it does to units."""
    if getattr(layer, "data_format", None) == "channels_first":
        return None
    return next((_RULES[key] for key in keys_of(layer) if key in _RULES), None)


def is_merge(layer: Any) -> bool:
    """Whether a layer or op puts together what it is given, and can do with less of it."""
    return any(key in (*SUMS, *CONCATENATIONS) for key in keys_of(layer))


def is_concatenation(layer: Any) -> bool:
    """Whether a layer or op puts tensors side by side."""
    return any(key in CONCATENATIONS for key in keys_of(layer))


def is_elementwise(activation: Any) -> bool:
    """Whether an activation computes each unit from itself alone, as a softmax does not."""
    name = getattr(activation, "__name__", type(activation).__name__)
    return activation is None or name in _ELEMENTWISE


def couples_units(layer: Any) -> bool:
    """Whether, in training, a layer's regularizers or constraints let its units feel each other."""
    if not hasattr(layer, "weights"):
        return False
    return any(
        value is not None
        and (
            key in ("activity_regularizer",)
            or key.endswith("_constraint")
            or (key.endswith("_regularizer") and _name(value) not in ("L1", "L2", "L1L2"))
        )
        for key, value in _items(layer.get_config())
    )


def _items(config: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(config, dict):
        for key, value in config.items():
            yield key, value
            if key in ("layer", "backward_layer", "config"):
                yield from _items(value)


def _name(regularizer: Any) -> str:
    if isinstance(regularizer, dict):
        return regularizer.get("class_name", "")
    return type(regularizer).__name__
