"""The model as it is exported: without pruning wrappers, in float32, without dead units."""

from typing import Any, NamedTuple

import numpy as np

from tf_synflow import errors
from tf_synflow.export.signature import dtype_name
from tf_synflow.flow import graph, trace, weights
from tf_synflow.masks.acceleration import Acceleration


class Prepared(NamedTuple):
    """The model to compare with, the one to convert, and a note for each change."""

    reference: Any
    model: Any
    notes: list[str]


def prepared(
    model: Any, shrink: bool = False, acceleration: Acceleration | None = None
) -> Prepared:
    """The model to convert, and what was done to get it.

    Args:
      model: a tf_keras or Keras 3 model, pruned or plain. It is not changed.
      shrink: remove units through which nothing flows, where the model is of a kind that can.
      acceleration: by which the file is to run, where that is by its zeros.

    Returns:
      As reference the same model, or a stripped float32 copy of it; as model that, or what shrink
      left of it.
    """
    check_model(model)
    notes = []
    if weights.wrappers(model):
        # TFMOT's wrappers double the file, and of products with masks nothing is encoded.
        from tf_synflow.inject import strip_pruning

        model = strip_pruning(model)
        notes.append("pruning stripped, masks applied")
    dtypes = {_compute_dtype(layer) for _, layer in weights.layers_of(model)}
    # Keras 3 tells a float64 input by its tensor alone.
    dtypes |= {name for name in map(dtype_name, _input_dtypes(model)) if "float" in name}
    foreign = sorted(dtypes - {"float32", ""})
    if foreign:
        model = _as_float32(model)
        notes.append(f"rebuilt in float32 (computed in {', '.join(foreign)}), and compared so")
    if not graph.is_graph(model):
        model = trace.graph_of_model(model, batch_size=None)
        notes.append("exported as the graph of its call, which was followed on symbolic tensors")
        if shrink:
            notes.append("not shrunk: only Sequential and Functional models can be")
        return Prepared(model, model, notes)
    if not shrink:
        return Prepared(model, model, notes)
    small = _shrunk(model, notes)
    if acceleration is not None and acceleration.above:
        before, after = (_sparsity(one, acceleration) for one in (model, small))
        if before > acceleration.above >= after:
            notes.append(
                f"shrunk, {after:.1%} of the weights of its {acceleration.kernels} are zero "
                f"(before {before:.1%}), and the target computes them densely up to "
                f"{acceleration.above:.1%}: measure the file of shrink=False beside this one"
            )
    return Prepared(model, small, notes)


def check_model(model: Any) -> None:
    """`ModelError` unless this is a model of tf_keras or Keras 3."""
    if not weights.is_model(model):
        raise errors.ModelError(
            f"Received {type(model).__module__}.{type(model).__name__}; expected a Keras model "
            "(tf_keras or Keras 3; Sequential, Functional or nested)."
        )


def _shrunk(model: Any, notes: list[str]) -> Any:
    """The model without dead units; the same one where there are none, or it cannot be done."""
    from tf_synflow import shrinking

    if weights.is_quantization_aware(model):
        notes.append("shrink=True does nothing behind quantize_aware: shrink comes before it")
        return model
    try:
        small = shrinking.shrink(model, verbose=False)
    except (errors.ModelError, errors.ShrinkError) as error:
        notes.append(f"not shrunk ({errors.first_line(error)})")
        return model
    before, after = model.count_params(), small.count_params()
    if after == before:
        return model
    notes.append(f"shrunk from {before:,} to {after:,} values, units without flow removed")
    return small


def _sparsity(model: Any, acceleration: Acceleration) -> float:
    """The share of zeros in the kernels that a runtime computes faster for them."""
    found = weights.all_weights(model)
    names = acceleration.names({name: weight.shape for name, weight in found.items()})
    values = [found[name].value() for name in names]
    return sum(np.sum(v == 0) for v in values) / max(sum(v.size for v in values), 1)


def _input_dtypes(model: Any) -> list[Any]:
    return [tensor.dtype for tensor in getattr(model, "inputs", None) or ()]


def _compute_dtype(layer: Any) -> str:
    """The float type that a layer computes in; empty for one that takes integers as they come."""
    dtype = str(getattr(layer, "compute_dtype", None) or "")
    return dtype if "float" in dtype else ""


def _as_float32(model: Any) -> Any:
    """A copy with the same weights in which every layer's dtype policy is float32."""
    try:
        rebuilt = type(model).from_config(_float32_config(model.get_config()))
    except (NotImplementedError, TypeError, ValueError) as error:
        raise errors.ModelError(
            f"Model {model.name!r} does not compute in float32 and could not be rebuilt from its "
            f"configuration ({error}); expected a float32 model, or one whose layers are all "
            "registered with Keras. Build it under the float32 policy and set_weights() there."
        ) from error
    rebuilt.set_weights(model.get_weights())
    return rebuilt


def _float32_config(config: Any) -> Any:
    """A Keras configuration with each float dtype, and each policy, replaced by float32."""
    if isinstance(config, dict):
        return {
            key: "float32" if key == "dtype" and _is_float_policy(value) else _float32_config(value)
            for key, value in config.items()
        }
    if isinstance(config, list | tuple):
        return type(config)(_float32_config(value) for value in config)
    return config


def _is_float_policy(value: Any) -> bool:
    name = value.get("config", {}).get("name", "") if isinstance(value, dict) else value
    return isinstance(name, str) and "float" in name
