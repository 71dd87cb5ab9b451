"""Frozen masks in TFMOT's `prune_low_magnitude` wrappers (tf_keras)."""

import contextlib
import itertools
import re
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tf_synflow import compat, errors
from tf_synflow.flow import weights
from tf_synflow.inject import clone, fitting
from tf_synflow.masks.masks import Masks
from tf_synflow.schedule import SynFlowPruningSchedule

_keras = compat.tf_keras()
# TFMOT has the wrapper's class under no public name.
_Wrapper = type(compat.tfmot().sparsity.keras.prune_low_magnitude(_keras.layers.Dense(1)))
_autocast = _keras.src.mixed_precision.autocast_variable.enable_auto_cast_variables
# Where Keras keeps books on a layer's variables; the layer computes from its other attributes.
_BOOKS = frozenset(vars(_keras.layers.Layer()))
# A second thread would take the product that it finds for the variable, and put that back. Of the
# module and not of a layer, for layers are copied.
_exchange = threading.RLock()


@_keras.utils.register_keras_serializable(package="tf_synflow")
class PruneLowMagnitude(_Wrapper):
    """TFMOT's wrapper, with the layer computing from weight · mask.

    TFMOT assigns weight · mask in each training step, between which optimizers move what was
    removed. Here the layer is shown the product for the time of its call. A removed weight then
    draws no gradient, and as it starts at zero it stays there: under momentum, weight decay,
    moving averages and gradient clipping, with any training loop and without a callback.

    Args:
      layer: a tf_keras layer.
      pruning_schedule: recorded; the masks never change.
      pruned: shapes of the masked weights by their paths in the layer, as in weight names:
        `"kernel"`, or `"lstm_cell/kernel"` for one in a layer of the layer. Names alone do for
        weights that exist when the layer is built.
      **kwargs: those of TFMOT's wrapper.
    """

    def __init__(
        self,
        layer: Any,
        pruning_schedule: Any = None,
        pruned: Mapping[str, Sequence[int]] | Sequence[str] = ("kernel",),
        **kwargs: Any,
    ):
        shapes = pruned if isinstance(pruned, Mapping) else dict.fromkeys(pruned)
        self.pruned, self._shapes = tuple(shapes), tuple(shapes.values())
        # What TFMOT asks of a layer that is not in its registry; it knows no depthwise kernels.
        layer.get_prunable_weights = self._pruned_weights
        # TFMOT computes in the wrapper's dtype: a float32 head must stay one under mixed precision.
        kwargs.setdefault("dtype", layer._dtype_policy)
        schedule = pruning_schedule or SynFlowPruningSchedule(compression=1, rounds=1)
        super().__init__(layer, pruning_schedule=schedule, **kwargs)
        # Keras asks the layer that it calls, which is the wrapper: about time masks, and about the
        # arguments of its call (an initial state, the value and key of attention).
        self.supports_masking = layer.supports_masking
        self._activity_regularizer = layer._activity_regularizer
        self._call_spec = layer._call_spec

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        return self.layer.compute_mask(inputs, mask)

    def add_weight(self, name: str | None = None, *args: Any, **kwargs: Any) -> Any:
        # TFMOT calls every mask "mask", and HDF5 takes a name once.
        count = sum(variable.name.split("/")[-1].startswith(name) for variable in self._own())
        return super().add_weight(f"{name}_{count}" if count else name, *args, **kwargs)

    def call(self, *args: Any, **kwargs: Any) -> Any:
        if not self._has_all_weights():
            # Layers in the layer make their weights when they are called first.
            self.layer.call(*args, **kwargs)
            self._meet_late_weights()
        if fitting.is_in_step():
            return self.layer.call(*args, **kwargs)
        with self._masked_weights():
            return self.layer.call(*args, **kwargs)

    def reset_states(self, states: Any = None) -> None:
        """Resets a stateful recurrent layer, which Keras looks for among the model's layers."""
        self.layer.reset_states(states)

    def get_config(self) -> dict:
        config = {**super().get_config(), "pruned": list(self.pruned)}
        if all(shape is not None for shape in self._shapes):
            config["pruned"] = dict(zip(self.pruned, map(list, self._shapes), strict=True))
        # HDF5 and SavedModel look a custom layer up by this name, and do not read the other.
        if config["layer"].get("registered_name"):
            config["layer"]["class_name"] = config["layer"]["registered_name"]
        return config

    def _pruned_weights(self) -> list[Any]:
        """The masked variables; for those that do not exist yet what TFMOT needs to know of one."""
        found = _weights_of(self.layer)
        # Before layers in layers could be masked, the name was that of the attribute.
        chosen = [found.get(name, vars(self.layer).get(name)) for name in self.pruned]
        for index, (name, shape) in enumerate(zip(self.pruned, self._shapes, strict=True)):
            if chosen[index] is None and shape is None:
                raise errors.UnsupportedLayerError(
                    f"layer {self.layer.name!r}: received a mask for {name!r}; expected one of the "
                    f"weights that it has when it is built, {', '.join(found) or 'none'}."
                )
            if chosen[index] is None:
                chosen[index] = tf.TensorSpec(shape, self.layer._dtype_policy.variable_dtype)
        return chosen

    @tf.autograph.experimental.do_not_convert  # which takes longer than the call
    def _has_all_weights(self) -> bool:
        return all(isinstance(variable, tf.Variable) for variable, _, _ in self.pruning_vars)

    @tf.autograph.experimental.do_not_convert
    def _meet_late_weights(self) -> None:
        masks = [mask for _, *mask in self.pruning_vars]
        self.prunable_weights = self._pruned_weights()
        self.pruning_vars = [
            (variable, *mask) for variable, mask in zip(self.prunable_weights, masks, strict=True)
        ]
        if not self._has_all_weights():
            raise errors.UnsupportedLayerError(
                f"layer {self.layer.name!r}: received masks for {', '.join(self.pruned)}; expected "
                f"weights that it has when it is called, {', '.join(_weights_of(self.layer))}."
            )

    @contextlib.contextmanager
    def _masked_weights(self) -> Iterator[None]:
        # Through __dict__, for Keras would untrack a variable that is set to a tensor.
        changed = []
        # Replicas come one after the other, and wait for each other within a layer.
        alone = contextlib.nullcontext() if tf.distribute.has_strategy() else _exchange
        with alone:
            try:
                for variable, mask, _ in self.pruning_vars:
                    for owner, attribute in _places(self.layer, variable):
                        # In the precision of the layer that will read it.
                        with _autocast(owner._compute_dtype_object):
                            product = variable * tf.cast(mask, variable.dtype)
                        attributes = vars(owner)
                        changed.append((attributes, attribute, attributes[attribute]))
                        attributes[attribute] = _replaced(attributes[attribute], variable, product)
                yield
            finally:
                for attributes, attribute, value in reversed(changed):
                    attributes[attribute] = value

    def _own(self) -> list[Any]:
        return self._trainable_weights + self._non_trainable_weights


def _check_call(layer: Any) -> None:
    for one in layer._flatten_layers():
        if isinstance(one.call, tf.types.experimental.PolymorphicFunction):
            raise errors.UnsupportedLayerError(
                f"layer {one.name!r}: its call is a tf.function, which would keep the weights of "
                "its first call; expected a plain method. Take @tf.function away: fit and predict "
                "compile the whole model."
            )


def inject(model: Any, masks: Masks) -> Any:
    """A copy of the model whose layers with masks are wrapped, and masked weights zero."""
    inside = {
        id(variable): (layer, name)
        for layer in weights.leaves(model)
        for name, variable in _weights_of(layer).items()
        if _places(layer, variable)
    }
    by_layer: dict[int, dict[str, np.ndarray]] = {}
    found = weights.all_weights(model)
    masks.check_fits({name: weight.shape for name, weight in found.items()})
    for name, weight in found.items():
        if name in masks:
            if any(weight.variable is v for v in weight.layer._non_trainable_weights):
                raise errors.UnsupportedLayerError(
                    f"weight {name!r}: received a mask for what the layer keeps of its inputs and "
                    "the optimizer does not train; expected a weight. Leave it out with prunable=."
                )
            if id(weight.variable) not in inside:
                raise errors.UnsupportedLayerError(
                    f"weight {name!r}: received a mask for a weight that is no attribute of a "
                    f"layer ({type(weight.layer).__name__} {weight.layer.name!r} holds it "
                    "elsewhere); expected an attribute, or a list or dict that is one, of a layer "
                    "of the model or of a layer in it. Leave the weight out with prunable=."
                )
            layer, path = inside[id(weight.variable)]
            _check_call(layer)
            by_layer.setdefault(id(layer), {})[path] = masks[name]
    plan = masks.info.get("schedule") or {
        "compression": masks.size / max(masks.kept, 1),
        "rounds": 1,
    }

    def wrap(original: Any, copy: Any) -> Any:
        if id(original) not in by_layer:
            return copy
        schedule = SynFlowPruningSchedule(**plan)
        shapes = {name: mask.shape for name, mask in by_layer[id(original)].items()}
        return PruneLowMagnitude(copy, schedule, pruned=shapes)

    pruned = clone.copy(model, wrap)
    for original, wrapper in zip(weights.leaves(model), weights.leaves(pruned), strict=True):
        for name, (variable, mask, _) in zip(
            getattr(wrapper, "pruned", ()), getattr(wrapper, "pruning_vars", ()), strict=True
        ):
            value = by_layer[id(original)][name]
            mask.assign(value.astype(np.float32))
            variable.assign(np.where(value, variable.numpy(), 0))
            wrapper.pruning_step.assign(0)
    return pruned


def strip(model: Any) -> Any:
    """A copy of the model without wrappers, masks applied."""
    stripped = clone.copy(model, lambda original, copy: copy)
    for wrapper, layer in zip(weights.leaves(model), weights.leaves(stripped), strict=True):
        masked = {id(variable): mask for variable, mask, _ in getattr(wrapper, "pruning_vars", ())}
        originals = weights.unwrap(wrapper).weights
        for original, variable in zip(originals, layer.weights, strict=True):
            if id(original) in masked:
                kept = masked[id(original)].numpy().astype(bool)
                variable.assign(np.where(kept, original.numpy(), 0))
    return stripped


def masks_of(model: Any) -> Masks:
    """The masks in the wrappers, by weight name."""
    found = {
        id(variable): (mask.numpy(), wrapper)
        for wrapper in weights.wrappers(model)
        for variable, mask, _ in wrapper.pruning_vars
    }
    arrays = {
        name: found[id(weight.variable)][0]
        for name, weight in weights.all_weights(model).items()
        if id(weight.variable) in found
    }
    schedules = [wrapper.pruning_schedule for _, wrapper in found.values()]
    plans = [s.get_config()["config"] for s in schedules if isinstance(s, SynFlowPruningSchedule)]
    return Masks(arrays, {"schedule": plans[0]} if plans else {})


def masked(model: Any) -> list[tuple[Any, tf.Variable]]:
    """The masked variables that exist, with their masks."""
    return [
        (variable, mask)
        for wrapper in weights.wrappers(model)
        for variable, mask, _ in wrapper.pruning_vars
        if isinstance(variable, tf.Variable)
    ]


def _weights_of(layer: Any) -> dict[str, Any]:
    """The variables in a layer by path, `kernel` or `lstm_cell/kernel`.

    Keras numbers the layers that a layer makes without a name (`dense_7`) as it goes, so that a
    copy, or the same layer in another process, has other numbers; here they count from the layer.
    """
    found: dict[str, Any] = {}

    def visit(layer: Any, path: str) -> None:
        for variable in weights.own_variables(layer):
            if not any(variable is known for known in found.values()):
                name = variable.name.split("/")[-1].split(":")[0]
                found[_unused(f"{path}{name}", found)] = variable
        names: list[str] = []
        for child in layer._flatten_layers(include_self=False, recursive=False):
            stem = re.sub(r"_\d+$", "", child.name)
            numbered = stem.replace("_", "") == type(child).__name__.lower()
            own = stem if numbered else child.name
            names.append(_unused(own, names))
            visit(child, f"{path}{names[-1]}/")

    visit(layer, "")
    return found


def _unused(name: str, used: Collection[str]) -> str:
    """The name, with a number where it is taken."""
    numbered = (f"{name}_{number}" for number in itertools.count(1))
    return next(n for n in itertools.chain([name], numbered) if n not in used)


def _places(layer: Any, variable: Any) -> list[tuple[Any, str]]:
    """Where a layer reads a variable: (it or a layer in it, name of the attribute)."""
    return [
        (owner, attribute)
        for owner in layer._flatten_layers()
        for attribute, value in vars(owner).items()
        if not (attribute in _BOOKS or attribute.startswith("_self_")) and _holds(value, variable)
    ]


def _holds(value: Any, variable: Any) -> bool:
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        return any(_holds(v, variable) for v in value)
    return value is variable


def _replaced(value: Any, variable: Any, product: Any) -> Any:
    """An attribute's value with the product for the variable, in lists and dicts too."""
    if isinstance(value, Mapping):
        return {key: _replaced(v, variable, product) for key, v in value.items()}
    if isinstance(value, (list, tuple)):
        replaced = [_replaced(v, variable, product) for v in value]
        return tuple(replaced) if isinstance(value, tuple) else replaced
    return product if value is variable else value
