"""Frozen masks in a Keras 3 model: its layers compute from weight · mask.

A pruned layer stays what it was, an instance of its own class with its own attributes and
weights; it computes inside a scope in which Keras reads weight · mask where it would read the
weight. A removed weight then draws no gradient, and as it starts at zero it stays there: under
momentum, weight decay, moving averages and gradient clipping, with any training loop. The masks
are saved beside the weights and in the configuration, not as weights: weights can be exchanged
between a dense model and its pruned copy.
"""

import base64
import functools
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tf_synflow import compat, errors
from tf_synflow.flow import graph, weights
from tf_synflow.inject import clone, mask_scope
from tf_synflow.masks import bits
from tf_synflow.masks.masks import Masks

_keras = compat.keras()
_register = _keras.saving.register_keras_serializable(package="tf_synflow", name="Pruned")


def inject(model: Any, masks: Masks) -> Any:
    """A copy of a model with the masks frozen in, of the same classes."""
    schedule = masks.info.get("schedule")
    of_part = {
        id(part): {name: masks[full] for name, full in _names(model, part) if full in masks}
        for part in clone.parts(model)
    }

    def wrap(original: Any, copied: Any) -> Any:
        values = of_part.get(id(original))  # operations in a graph are no layers
        return _prune(copied, values, _inner_names(original), schedule) if values else copied

    return clone.copy(model, wrap)


def strip(model: Any) -> Any:
    """A copy of the model without masks, removed weights zero."""
    stripped = clone.copy(model, lambda original, copied: copied)
    for original, copied in zip(clone.parts(model), clone.parts(stripped), strict=True):
        if isinstance(original, Pruned):
            named = weights.all_weights(copied)
            for name, mask in original.frozen_masks.values().items():
                variable = named[name].variable
                variable.assign(np.where(mask, variable.numpy(), 0))
    return stripped


def masks_of(model: Any) -> Masks:
    """The masks in a pruned model, by weight name, in the model's order."""
    pruned = [part for part in clone.parts(model) if isinstance(part, Pruned)]
    found = {}
    for part in pruned:
        values = part.frozen_masks.values()
        found |= {full: values[name] for name, full in _names(model, part) if name in values}
    arrays = {name: found[name] for name in weights.all_weights(model) if name in found}
    # tf.Module hands out a dictionary of its own kind, which json does not take.
    schedules = [dict(part.frozen_masks.schedule) for part in pruned if part.frozen_masks.schedule]
    return Masks(arrays, {"schedule": schedules[0]} if schedules else {})


def masked(model: Any) -> list[tuple[Any, tf.Variable]]:
    """The masked variables that exist, with their masks."""
    built = [layer for layer in weights.wrappers(model) if layer.frozen_masks.done]
    return [pair for layer in built for pair in _masked(layer)]


class Frozen(tf.Module):
    """The masks of one layer; a module, so that a SavedModel of the layer takes them along.

    Args:
      values: bool arrays by the weight's name within the layer.
      inner_names: names of the layers in the layer, in order.
      schedule: how the masks were made, recorded.

    Attributes:
      names: of the masked weights.
      masks: bool variables, one for each name.
      done: whether the layer computes from the masks, which it can once it is built.
    """

    def __init__(
        self,
        values: Mapping[str, np.ndarray],
        inner_names: Sequence[str],
        schedule: Mapping[str, Any] | None,
    ):
        super().__init__(name="frozen")
        self.inner_names = tuple(inner_names)
        self.schedule = dict(schedule) if schedule else None
        self.names = tuple(values)
        with tf.init_scope():
            self.masks = [
                tf.Variable(values[name], trainable=False, dtype=tf.bool, name="mask")
                for name in self.names
            ]
        self.done = False

    def values(self) -> dict[str, np.ndarray]:
        """The masks by name."""
        return {name: mask.numpy() for name, mask in zip(self.names, self.masks, strict=True)}


class Pruned:
    """What is added to a layer's or subclassed model's own class: the masks, saved with it."""

    frozen_masks: Frozen
    unpruned_class: type

    def make_unpruned(self) -> Any:
        """A copy without masks, not built."""
        return self.unpruned_class.from_config(self._original_config()["config"])

    def get_config(self) -> dict:
        return {
            "name": self.name,
            "layer": self._original_config(),
            "masks": {name: _packed(mask) for name, mask in self.frozen_masks.values().items()},
            "inner_names": list(self.frozen_masks.inner_names),
            "schedule": self.frozen_masks.schedule,
        }

    @classmethod
    def from_config(cls, config: dict) -> Any:
        if cls is Pruned:  # from a file
            layer = _keras.saving.deserialize_keras_object(config["layer"])
        else:  # of a class that Keras may not know by name
            layer = cls.unpruned_class.from_config(config["layer"]["config"])
        clone.rename(layer, config["name"])
        values = {name: _unpacked(mask) for name, mask in config["masks"].items()}
        return _prune(layer, values, config["inner_names"], config["schedule"])

    def build_from_config(self, config: dict) -> None:
        super().build_from_config(config)
        self.built = _freeze(self) or self.built

    def save_own_variables(self, store: Any) -> None:
        for variable, _ in _masked(self):
            variable.assign(variable.value)
        super().save_own_variables(store)
        for i, mask in enumerate(self.frozen_masks.values().values()):
            store[f"mask_{i}"] = bits.pack(mask)

    def load_own_variables(self, store: Any) -> None:
        keys = list(store.keys())
        own = [key for key in keys if not key.startswith("mask_")]
        if len(own) < len(keys):  # the weights of a dense model come without
            _load_masks(self, {key: np.array(store[key]) for key in keys if key not in own})
        super().load_own_variables({key: store[key] for key in own})

    def _original_config(self) -> dict:
        pruned = type(self)
        object.__setattr__(self, "__class__", pruned.unpruned_class)
        try:
            config = _keras.saving.serialize_keras_object(self)
        finally:
            object.__setattr__(self, "__class__", pruned)
        # What it was built and compiled with goes with the outer configuration.
        own = {k: config[k] for k in ("module", "class_name", "config", "registered_name")}
        return {**own, "config": clone.accepted(pruned.unpruned_class, own["config"])}


_register(Pruned)


def _prune(layer: Any, values: Mapping, inner_names: Sequence[str], schedule: Any) -> Any:
    """Makes a plain layer a pruned one, in place; it computes so from when it is built."""
    object.__setattr__(layer, "__class__", _pruned_class(type(layer)))
    layer.frozen_masks = Frozen(values, inner_names, schedule)
    if not _freeze(layer):
        _freeze_later(layer)
    return layer


def _freeze_later(layer: Any) -> None:
    """Freezes a layer once it is built, or called: some make their weights only then."""
    build, call, frozen = layer.build, layer.call, layer.frozen_masks

    @functools.wraps(build)
    def build_and_freeze(*args: Any, **kwargs: Any) -> None:
        build(*args, **kwargs)
        _freeze(layer)

    @functools.wraps(call)
    def freeze_and_call(*args: Any, **kwargs: Any) -> Any:
        call(*args, **kwargs)
        if not _freeze(layer):
            pairs = zip(frozen.names, frozen.masks, strict=True)
            masks = {name: tuple(mask.shape) for name, mask in pairs}
            found = {name: weight.shape for name, weight in weights.all_weights(layer).items()}
            raise errors.ModelError(
                f"layer {layer.name!r}: received masks of the shapes {masks}; expected those of "
                f"its weights, {found}. A {layer.unpruned_class.__name__} is made again from its "
                "configuration: let get_config return every argument of the constructor."
            )
        return layer.call(*args, **kwargs)

    layer.build, layer.call = build_and_freeze, freeze_and_call


@functools.cache
def _pruned_class(original: type) -> type:
    """The class of a pruned layer, which goes by the name of its own: files are laid out by it."""
    cls = type(
        original.__name__, (Pruned, original), {"unpruned_class": original, "__module__": __name__}
    )
    # Serialized under the one name that a new process knows, and read back by `Pruned` itself.
    _register(cls)
    _register(Pruned)
    return cls


def _freeze(layer: Any) -> bool:
    """Has a layer compute from its masks, if it has all the weights; whether it does so."""
    frozen = layer.frozen_masks
    if frozen.done:
        return True
    inner = layer._flatten_layers(include_self=False)
    for one, name in zip(inner, frozen.inner_names, strict=False):
        clone.rename(one, name)
    found = weights.all_weights(layer)
    expected = zip(frozen.names, frozen.masks, strict=True)
    if not all(n in found and found[n].shape == tuple(mask.shape) for n, mask in expected):
        return False
    frozen.done = True
    vars(layer).pop("call", None)
    masked = _masked(layer)
    for variable, mask in masked:
        mask_scope.mask_assignments(variable, mask)
    for one in (layer, *inner):
        # A layer inside may be called alone, by a model's train_step; what a graph calls is
        # enough of a model with a graph.
        below = {id(variable) for variable in one.variables}
        own = [pair for pair in masked if id(pair[0]) in below]
        if own and not graph.is_graph(one):
            mask_scope.mask_calls(one, own)
    return True


def _masked(layer: Any) -> list[tuple[Any, tf.Variable]]:
    named, frozen = weights.all_weights(layer), layer.frozen_masks
    return [(named[n].variable, m) for n, m in zip(frozen.names, frozen.masks, strict=True)]


def _load_masks(layer: Any, packed: Mapping[str, np.ndarray]) -> None:
    masks = layer.frozen_masks.masks
    sizes = [len(packed.get(f"mask_{i}", ())) for i in range(len(masks))]
    if len(packed) != len(masks) or sizes != [-(-m.shape.num_elements() // 8) for m in masks]:
        raise errors.MaskError(
            f"layer {layer.name!r}: received a file with {len(packed)} masks that do not fit its "
            f"own {len(masks)}; expected the weights of a model of the same architecture, whose "
            f"weights {', '.join(layer.frozen_masks.names)} are pruned, or of a dense one."
        )
    for i, mask in enumerate(masks):
        mask.assign(bits.unpack(packed[f"mask_{i}"], tuple(mask.shape)))


def _names(model: Any, part: Any) -> list[tuple[str, str]]:
    """(name within the part, name within the model) of each weight of a part."""
    full = {id(weight.variable): name for name, weight in weights.all_weights(model).items()}
    return [(name, full[id(weight.variable)]) for name, weight in weights.all_weights(part).items()]


def _inner_names(layer: Any) -> list[str]:
    return [one.name for one in layer._flatten_layers(include_self=False)]


def _packed(mask: np.ndarray) -> dict:
    compressed = zlib.compress(bits.pack(mask).tobytes())
    return {"shape": list(mask.shape), "bits": base64.b64encode(compressed).decode("ascii")}


def _unpacked(config: Mapping) -> np.ndarray:
    packed = np.frombuffer(zlib.decompress(base64.b64decode(config["bits"])), np.uint8)
    return bits.unpack(packed, tuple(config["shape"]))
