"""A surveyed network made again from the units that stay."""

from typing import Any

import numpy as np
import tensorflow as tf

from tf_synflow import compat
from tf_synflow.flow import graph, weights
from tf_synflow.inject import clone
from tf_synflow.masks.masks import Masks
from tf_synflow.shrinking import rules
from tf_synflow.shrinking.survey import Survey
from tf_synflow.shrinking.units import Kept

# Stands for a tensor of which no unit is left.
_GONE = object()


class Rebuild:
    """The layers of a network, each made again once, without the units that go.

    Args:
      survey: of the network.
      kept: the units that stay.
    """

    def __init__(self, survey: Survey, kept: Kept):
        self._survey, self._kept = survey, kept
        self._made: dict[int, Any] = {}
        self._pairs: list[tuple[Any, Any]] = []
        self._models: list[tuple[Any, Any]] = []
        self._constants = self._folded()

    def model(self, model: Any) -> Any:
        """The model made again, with the values of its weights."""
        made = self._model(model)
        for old, new in self._pairs:
            self._copy_values(old, new)
        # What a model is, all in it becomes; so from the outside in.
        for old, new in reversed(self._models):
            new.trainable = old.trainable
        for old, new in self._pairs:
            for source, target in zip(old._flatten_layers(), new._flatten_layers(), strict=False):
                target.trainable = source.trainable
        return made

    def cut_masks(self, model: Any, made: Any, masks: Masks) -> dict[str, np.ndarray]:
        """The masks of a model, cut to the weights that are left of it."""
        names = weights.all_weights(made)
        variables = {name: weight.variable for name, weight in weights.all_weights(model).items()}
        return {n: self._cut(variables[n], mask) for n, mask in masks.items() if n in names}

    def _model(self, model: Any) -> Any:
        module = compat.keras_of(model)
        inputs = [
            self._input(tensor, ids)
            for tensor, ids in zip(model.inputs, self._survey.inputs[id(model)], strict=True)
        ]
        same_class = clone.is_replayable(model)
        if isinstance(model, module.Sequential):
            cls = type(model) if same_class else module.Sequential
            made = cls([inputs[0], *map(self._layer, model.layers)], name=model.name)
        else:
            outputs = graph.run(model, inputs, self._apply, nested=False)
            cls = type(model) if same_class else module.Model
            made = cls(
                graph.nested(model, "inputs", inputs),
                graph.nested(model, "outputs", outputs),
                name=model.name,
            )
        self._models.append((model, made))
        return made

    def _input(self, tensor: Any, ids: np.ndarray) -> Any:
        layer = tensor._keras_history[0]
        config = layer.get_config()
        if self._kept.count(ids) < len(ids):
            key = "batch_shape" if "batch_shape" in config else "batch_input_shape"
            config[key] = (*config[key][:-1], self._kept.count(ids))
        return type(layer).from_config(config).output

    def _apply(self, layer: Any, _: str, args: tuple, kwargs: dict) -> Any:
        flat = tf.nest.flatten((args, kwargs))
        tensors = [i for i, leaf in enumerate(flat) if leaf is _GONE or _is_tensor(leaf)]
        if rules.is_concatenation(layer):
            less = {i for i in tensors if flat[i] is _GONE}
        else:
            dropped = self._survey.dropped(id(layer)) or [False] * len(tensors)
            less = {i for i, drop in zip(tensors, dropped, strict=True) if drop}
        rest = [flat[i] for i in tensors if i not in less]
        outputs = self._survey.outputs[id(layer)]
        if self._is_gone(layer, outputs) or any(t is _GONE for t in rest) or (less and not rest):
            return [_GONE] * len(outputs)
        if less and len(rest) == 1:
            return self._raised(layer, rest[0])
        if less:
            flat = [_GONE if i in less else leaf for i, leaf in enumerate(flat)]
            args, kwargs = _without_gone(tf.nest.pack_sequence_as((args, kwargs), flat))
        return self._raised(layer, self._layer(layer)(*args, **kwargs))

    def _raised(self, layer: Any, output: Any) -> Any:
        """The output of an Add with what its constant inputs, which are gone, gave to it."""
        offset = self._survey.offset(id(layer))
        if offset is None or not offset.any():
            return output
        key = -id(layer)
        if key not in self._made:
            stay = self._kept.positions(self._survey.outputs[id(layer)][0])
            self._made[key] = compat.keras_of(layer).layers.Rescaling(
                1.0,
                offset[stay].tolist(),
                name=f"{layer.name}_constant",
                dtype=tf.as_dtype(output.dtype).name,
            )
        return self._made[key](output)

    def _is_gone(self, layer: Any, outputs: list[np.ndarray]) -> bool:
        """Whether nothing is left of what a layer or model makes."""
        makes = id(layer) in self._survey.produced or id(layer) in self._survey.inputs
        return makes and not any(self._kept.count(ids) for ids in outputs)

    def _layer(self, layer: Any) -> Any:
        if id(layer) not in self._made:
            self._made[id(layer)] = self._make(layer)
        return self._made[id(layer)]

    def _make(self, layer: Any) -> Any:
        if hasattr(layer, "layers") and graph.is_graph(layer):
            return self._model(layer)
        if not isinstance(layer, compat.keras_of(layer).layers.Layer):  # an op of Keras 3
            return layer
        made = self._changed(layer) or clone.remake(layer)
        self._pairs.append((layer, made))
        return made

    def _changed(self, layer: Any) -> Any:
        """The layer with another configuration; None where it keeps its own."""
        change, needs_bias = self._survey.changes.get(id(layer)), id(layer) in self._constants
        if change is None and not needs_bias:
            return None
        config = layer.get_config()
        config.pop("batch_input_shape", None)
        if change is not None:
            change(config, self._kept)
        if needs_bias:
            _add_bias(config)
        return type(layer).from_config(config)

    def _copy_values(self, layer: Any, made: Any) -> None:
        values = [self._cut(variable, np.array(variable.numpy())) for variable in layer.weights]
        for variable, value in zip(layer.weights, values, strict=True):
            if id(variable) in self._constants:  # a GRU has two: of the inputs, of the units
                bias = value.reshape(-1, value.shape[-1])[0]
                bias[:] = bias.astype(np.float64) + self._constants[id(variable)]
        if id(layer) in self._constants:
            values.append(self._constants[id(layer)].astype(values[0].dtype))
        clone.copy_state(layer, made, values)

    def _cut(self, variable: Any, value: Any) -> np.ndarray:
        if id(variable) in self._survey.groups:
            return self._survey.groups[id(variable)].cut(value, self._kept)
        for axis, ids in self._survey.axes.get(id(variable), {}).items():
            value = np.take(value, self._kept.positions(ids), axis=axis)
        return value

    def _folded(self) -> dict[int, np.ndarray]:
        """What constants that go add to a bias: by its id, or that of a layer without one."""
        found = {}
        for link in self._survey.links:
            constants = link.source.constants
            gone = (constants != 0) & ~self._kept.of_unit[link.source.ids]
            stay = self._kept.positions(link.targets)
            if link.rows is not None and gone.any() and len(stay):
                added = constants[gone] @ link.rows(gone)[:, stay]
                if added.any():
                    found[id(link.layer if link.bias is None else link.bias)] = added
        return found


def _add_bias(config: dict) -> None:
    """Has a layer, or that inside of it, a bias for each of its units."""
    if "layer" in config:
        _add_bias(config["layer"]["config"])
    elif "equation" in config:
        config["bias_axes"] = config["equation"][-1]
    else:
        config["use_bias"] = True


def _is_tensor(leaf: Any) -> bool:
    return hasattr(leaf, "_keras_history")


def _without_gone(structure: Any) -> Any:
    """Arguments of a call, the lists among them without the tensors that are gone."""
    if isinstance(structure, dict):
        return {key: _without_gone(value) for key, value in structure.items()}
    if isinstance(structure, (list, tuple)):
        return type(structure)(_without_gone(v) for v in structure if v is not _GONE)
    return structure
