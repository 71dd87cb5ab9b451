"""Frozen masks in TFMOT's `prune_low_magnitude` wrappers (tf_keras)."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from tf_synflow import compat, errors
from tf_synflow.flow import weights
from tf_synflow.masks.masks import Masks
from tf_synflow.schedule import SynFlowPruningSchedule

_keras = compat.tf_keras()
# TFMOT has the wrapper's class under no public name.
_Wrapper = type(compat.tfmot().sparsity.keras.prune_low_magnitude(_keras.layers.Dense(1)))


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
      pruned: names of the layer's attributes that hold the masked weights, `("kernel",)`.
      **kwargs: those of TFMOT's wrapper.
    """

    def __init__(
        self,
        layer: Any,
        pruning_schedule: Any = None,
        pruned: Sequence[str] = ("kernel",),
        **kwargs: Any,
    ):
        self.pruned = tuple(pruned)
        # What TFMOT asks of a layer that is not in its registry; it knows no depthwise kernels.
        layer.get_prunable_weights = lambda: [getattr(layer, name) for name in self.pruned]
        # TFMOT computes in the wrapper's dtype: a float32 head must stay one under mixed precision.
        kwargs.setdefault("dtype", layer._dtype_policy)
        schedule = pruning_schedule or SynFlowPruningSchedule(compression=1, rounds=1)
        super().__init__(layer, pruning_schedule=schedule, **kwargs)
        # Keras asks the layer that it calls, which is the wrapper.
        self.supports_masking = layer.supports_masking
        self._activity_regularizer = layer._activity_regularizer

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        return self.layer.compute_mask(inputs, mask)

    def add_weight(self, name: str | None = None, *args: Any, **kwargs: Any) -> Any:
        # TFMOT calls every mask "mask", and HDF5 takes a name once.
        count = sum(variable.name.split("/")[-1].startswith(name) for variable in self._own())
        return super().add_weight(f"{name}_{count}" if count else name, *args, **kwargs)

    def call(self, inputs: Any, training: Any = None, **kwargs: Any) -> Any:
        if self.layer._expects_training_arg:
            kwargs["training"] = training
        if not self.layer._expects_mask_arg:
            kwargs.pop("mask", None)
        with self._masked_weights():
            return self.layer.call(inputs, **kwargs)

    def get_config(self) -> dict:
        return {**super().get_config(), "pruned": list(self.pruned)}

    @contextlib.contextmanager
    def _masked_weights(self) -> Iterator[None]:
        # Through the layer's __dict__, for Keras would untrack a variable that is set to a tensor.
        attributes = vars(self.layer)
        variables = {name: attributes[name] for name in self.pruned}
        for name, (variable, mask, _) in zip(self.pruned, self.pruning_vars, strict=True):
            attributes[name] = variable * mask
        try:
            yield
        finally:
            attributes.update(variables)

    def _own(self) -> list[Any]:
        return self._trainable_weights + self._non_trainable_weights


def inject(model: Any, masks: Masks) -> Any:
    """A copy of the model whose layers with masks are wrapped, and masked weights zero."""
    by_layer: dict[int, dict[str, np.ndarray]] = {}
    whole_layers = {id(layer) for layer in weights.leaves(model)}
    for name, weight in weights.all_weights(model).items():
        if name in masks:
            attributes = [a for a, v in vars(weight.layer).items() if v is weight.variable]
            if id(weight.layer) not in whole_layers or not attributes:
                raise errors.UnsupportedLayerError(
                    f"weight {name!r}: received a mask for a weight inside another layer "
                    f"({type(weight.layer).__name__} {weight.layer.name!r}), or one that is no "
                    "attribute of its layer; expected an attribute of a layer of the model, which "
                    "can be wrapped. Leave the weight out with prunable=."
                )
            by_layer.setdefault(id(weight.layer), {})[attributes[0]] = masks[name]
    plan = masks.info.get("schedule") or {
        "compression": masks.size / max(masks.kept, 1),
        "rounds": 1,
    }

    def wrap(original: Any, copy: Any) -> Any:
        if id(original) not in by_layer:
            return copy
        schedule = SynFlowPruningSchedule(**plan)
        return PruneLowMagnitude(copy, schedule, pruned=tuple(by_layer[id(original)]))

    pruned = _copy(model, wrap)
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
    stripped = _copy(model, lambda original, copy: copy)
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


def _copy(model: Any, wrap: Callable[[Any, Any], Any]) -> Any:
    """Clones a model and its values; `wrap` turns a layer's copy into what takes its place."""

    def clone(layer: Any) -> Any:
        if hasattr(layer, "layers"):
            return _keras.models.clone_model(layer, clone_function=clone)
        original = weights.unwrap(layer)
        return wrap(original, type(original).from_config(original.get_config()))

    copied = clone(model)
    if not copied.built:
        copied.build(model.input_shape)
    for original, layer in zip(weights.leaves(model), weights.leaves(copied), strict=True):
        weights.unwrap(layer).set_weights(weights.unwrap(original).get_weights())
    return copied
