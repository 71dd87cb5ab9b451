"""Keras 3 layers → tf_keras layers that compute the same, without their weights."""

import inspect
from collections.abc import Callable
from typing import Any

from tf_synflow import compat, errors
from tf_synflow.inject import activations

_keras = compat.tf_keras()

# A Lambda is Python code of one Keras; tf_keras' SpectralNormalization reads tf.keras, which is
# Keras 3.
_NOT_ALIKE = ("Lambda", "SpectralNormalization")
# Arguments that Keras 3 calls otherwise.
_RENAMED = {("LeakyReLU", "negative_slope"): "alpha"}
# Arguments that tf_keras may lack without computing anything else: how, not what.
_HOW = frozenset("seed use_cudnn flash_attention".split())
# What an argument that tf_keras lacks may be.
_NEUTRAL = (None, False, "channels_last")


def convert(layer: Any) -> Any:
    """A tf_keras layer like a Keras 3 layer, of the same name, not built.

    Args:
      layer: of Keras' own.

    Raises:
      UnsupportedLayerError: tf_keras has no layer like it.
    """
    kind = type(layer).__name__
    cls = _class_like(type(layer))
    if cls is None:
        why = (
            f"tf_keras has no {kind} that computes the same"
            if type(layer).__module__.startswith("keras.")
            else "a class of your own, which only you can write for tf_keras"
        )
        raise unsupported(layer, why)
    config = layer.get_config()
    parts = {key: make(layer) for key, make in _PARTS.get(kind, {}).items()}
    arguments = {
        name: value
        for key in config
        if key not in parts
        for name, value in _argument(layer, cls, key, config[key])
    }
    try:
        return cls(**arguments, **parts)
    except Exception as error:  # whatever a constructor says to arguments it does not take
        raise unsupported(layer, f"tf_keras' {kind}: {str(error)[:300]}") from error


def unsupported(layer: Any, why: str) -> errors.UnsupportedLayerError:
    """The error that says which layer has no counterpart in tf_keras, and what to do."""
    return errors.UnsupportedLayerError(
        f"layer {layer.name!r}: received a Keras 3 {type(layer).__name__} ({why}); expected a "
        "layer that tf_keras has too, for wrapper='tfmot' converts the model to tf_keras. Use "
        "wrapper='keras', which keeps it in its own Keras."
    )


def _class_like(cls: type) -> type | None:
    if cls.__module__.startswith("keras.src.applications."):
        family = getattr(_keras.src.applications, cls.__module__.split(".")[-1], None)
        return getattr(family, cls.__name__, None)
    if cls.__module__.startswith("keras.") and cls.__name__ not in _NOT_ALIKE:
        return getattr(_keras.layers, cls.__name__, None)
    return None


def _argument(layer: Any, cls: type, key: str, value: Any) -> list[tuple[str, Any]]:
    """One item of a configuration as the argument of tf_keras, or nothing where that needs none."""
    name = _RENAMED.get((cls.__name__, key), key)
    if name == "dtype":
        return [(name, layer.dtype_policy.name)]
    if name not in _parameters(cls):
        default = _default(type(layer), key)
        if key in _HOW or any(value is v or value == v for v in (*_NEUTRAL, default)):
            return []
        raise unsupported(layer, f"tf_keras' {cls.__name__} has no {key}, here {value!r}")
    if name in ("activation", "recurrent_activation"):
        return [(name, _activation(layer, getattr(layer, key)))]
    for kind in ("regularizer", "constraint", "initializer"):
        if name.endswith(f"_{kind}"):
            made = _of_config(layer, kind, value)
            return [] if made is None else [(name, made)]
    return [(name, value)]


def _parameters(cls: type) -> set[str]:
    names = {"name", "dtype", "trainable", "activity_regularizer"}
    for base in cls.__mro__:
        if base is _keras.layers.Layer:
            break
        if "__init__" in vars(base):
            names |= set(inspect.signature(base.__init__).parameters)
        if base is _keras.layers.RNN:
            names.add("zero_output_for_mask")
    return names


def _default(cls: type, key: str) -> Any:
    parameter = inspect.signature(cls.__init__).parameters.get(key)
    return None if parameter is None else parameter.default


def _activation(layer: Any, function: Any) -> Any:
    if function is None:
        return None
    if hasattr(function, "get_config"):
        return convert(function)
    name, module = getattr(function, "__name__", "?"), getattr(function, "__module__", "")
    if module.startswith("tensorflow."):
        return function
    found = activations.of(name) if module.startswith("keras.") else None
    if found is None:
        raise unsupported(layer, f"tf_keras has no activation {name!r} that computes the same")
    return found


def _of_config(layer: Any, kind: str, config: Any) -> Any:
    if config is None:
        return None
    made = None
    if isinstance(config, dict) and not config.get("registered_name"):
        cls = getattr(getattr(_keras, f"{kind}s"), config["class_name"], None)
        try:
            made = cls and cls(**config["config"])
        except (TypeError, ValueError):
            made = None
    # The values are copied, so that only what works in training must be had.
    if made is None and kind != "initializer":
        raise unsupported(layer, f"tf_keras has no {kind} like {config!r}")
    return made


def _direction(layer: Any, prefix: str) -> Any:
    """One of the two layers of a Bidirectional, which puts the prefix before its name again."""
    if not layer.name.startswith(prefix):
        raise unsupported(
            layer, f"tf_keras would call it {prefix}{layer.name}; give it a name that begins so"
        )
    made = convert(layer)
    made._name = layer.name.removeprefix(prefix)
    return made


_PARTS: dict[str, dict[str, Callable[[Any], Any]]] = {
    "RNN": {"cell": lambda layer: convert(layer.cell)},
    "StackedRNNCells": {"cells": lambda layer: [convert(cell) for cell in layer.cells]},
    "TimeDistributed": {"layer": lambda layer: convert(layer.layer)},
    "Bidirectional": {
        "layer": lambda layer: _direction(layer.forward_layer, "forward_"),
        "backward_layer": lambda layer: _direction(layer.backward_layer, "backward_"),
    },
}
