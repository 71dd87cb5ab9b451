"""The survey of a network: its units, what joins them, and where each weight has them."""

import collections
import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tf_synflow.flow import graph, weights
from tf_synflow.shrinking import rules
from tf_synflow.shrinking.call import Call, Link, Need
from tf_synflow.shrinking.groups import Groups
from tf_synflow.shrinking.units import Kept, Signal, Units, as_float

# Changes the configuration of a layer, in place, for the units that stay.
Change = Callable[[dict, Kept], None]


@dataclasses.dataclass
class Sum:
    """An Add: the units of its output and, call by call, of its inputs.

    Attributes:
      constants: for each input what it is, unit by unit, if it is that at every position of every
        call; else None.
    """

    out: np.ndarray
    inputs: list[list[np.ndarray]]
    constants: list[np.ndarray | None]


class Survey:
    """What is known of the units of a network; the rules of its layers fill it in.

    Args:
      model: built model without pruning wrappers; only read.
      masks: of its weights if it is to be trained; None if it is not.

    Attributes:
      trained: whether it is to be trained.
      units: of the whole network.
      links: which units reach which, by the weights.
      needs: what the calls need, in order.
      axes: by id of a variable, the units along those of its axes that have some.
      changes: by id of a layer, what its configuration becomes, given the units that stay.
      groups: by id of the kernel of a grouped convolution, its units.
      produced: by id of a layer, the units that it makes, by a name within the layer.
      inputs, outputs: by id of a layer or model, the units of the tensors of its last call.
      calls: by id of a layer, how often it is called.
    """

    def __init__(self, model: Any, masks: Mapping[str, np.ndarray] | None):
        self.trained = masks is not None
        self.units = Units()
        self.links: list[Link] = []
        self.needs: list[Need] = []
        self.axes: dict[int, dict[int, np.ndarray]] = {}
        self.changes: dict[int, Change] = {}
        self.groups: dict[int, Groups] = {}
        self.produced: dict[int, dict[str, np.ndarray]] = {}
        self.inputs: dict[int, list[np.ndarray]] = {}
        self.outputs: dict[int, list[np.ndarray]] = {}
        self.calls: collections.Counter[int] = collections.Counter()
        self._sums: dict[int, Sum] = {}
        self._last: set[int] = set()
        self._masks = {
            id(weight.variable): np.asarray(masks[name], bool)
            for name, weight in weights.all_weights(model).items()
            if masks is not None and name in masks
        }

    def run(self, model: Any, inputs: list[Any]) -> list[Any]:
        """Surveys a model with values for its inputs, flat; returns those of its outputs."""
        outputs = self._model(model, [self._fixed(value) for value in inputs])
        for signal in outputs:
            self.units.fix(signal.ids)
        for key, one in self._sums.items():
            for call in one.inputs:
                for ids, dropped in zip(call, self.dropped(key), strict=True):
                    if not dropped:
                        self.units.join(one.out, ids)
        return [signal.value for signal in outputs]

    def live(self, variable: Any) -> np.ndarray:
        """Which entries of a weight are, or may in training become, other than zero."""
        if self.trained:
            return self._masks.get(id(variable), np.ones(tuple(variable.shape), bool))
        return as_float(variable) != 0

    def add(
        self, layer: Any, inputs: list[np.ndarray], constants: list[np.ndarray | None]
    ) -> np.ndarray:
        """Notes an Add, which inputs are constant in this call; returns its output's units."""
        if id(layer) not in self._sums:
            self._sums[id(layer)] = Sum(self.units.new(len(inputs[0])), [], constants)
        found = self._sums[id(layer)]
        found.inputs.append(inputs)
        found.constants = [
            one if one is not None and other is not None and np.array_equal(one, other) else None
            for one, other in zip(found.constants, constants, strict=True)
        ]
        return found.out

    def dropped(self, layer_id: int) -> list[bool]:
        """For each input of an Add, whether it goes; nothing for another layer.

        What a model ends in stays, for its name may be that of an output.
        """
        if layer_id not in self._sums:
            return []
        stays = layer_id in self._last
        return [one is not None and not stays for one in self._sums[layer_id].constants]

    def offset(self, layer_id: int) -> np.ndarray | None:
        """What the inputs of an Add that go add to each unit; None if none goes."""
        gone = [
            self._sums[layer_id].constants[i]
            for i, dropped in enumerate(self.dropped(layer_id))
            if dropped
        ]
        return np.sum(gone, axis=0) if gone else None

    def widths(self) -> list[np.ndarray]:
        """The units of each layer that makes some, where their number is its width."""
        made = [units for of_layer in self.produced.values() for units in of_layer.items()]
        return [ids for key, ids in made if key != "heads"]

    def _model(self, model: Any, inputs: list[Signal]) -> list[Signal]:
        self._last |= {id(tensor._keras_history[0]) for tensor in model.outputs}
        known = self.inputs.setdefault(id(model), [signal.ids for signal in inputs])
        for ids, signal in zip(known, inputs, strict=True):
            self.units.join(ids, signal.ids)
        return graph.run(model, inputs, self._apply, nested=False)

    def _apply(self, layer: Any, _: str, args: tuple, kwargs: dict) -> list[Signal]:
        self.calls[id(layer)] += 1
        inputs = [v for v in tf.nest.flatten((args, kwargs)) if isinstance(v, Signal)]
        if hasattr(layer, "layers") and graph.is_graph(layer):
            outputs = self._model(layer, inputs)
            ids = [signal.ids for signal in outputs]
            self.needs += [Need([one], ids) for one in ids]  # it gives all outputs or none
        else:
            outputs = self._layer(layer, args, kwargs, inputs)
            ids = [signal.ids for signal in outputs]
        self.outputs[id(layer)] = ids
        if not rules.is_merge(layer):
            self.needs.append(Need([signal.ids for signal in inputs], ids))
        return outputs

    def _layer(self, layer: Any, args: tuple, kwargs: dict, inputs: list[Signal]) -> list[Signal]:
        real = functools.partial(tf.nest.map_structure, _value_of)
        values = tf.nest.flatten(in_inference(layer)(*real(args), **real(kwargs)))
        rule = rules.find(layer)
        if rule is not None and not (self.trained and rules.couples_units(layer)):
            found = rule(Call(self, layer, args, kwargs, inputs, values))
            if found is not None:
                found = [found] if isinstance(found, Signal) else found
                return [self._seen(s, v) for s, v in zip(found, values, strict=True)]
        for signal in inputs:
            self.units.fix(signal.ids)
        return [self._fixed(value) for value in values]

    def _fixed(self, value: Any) -> Signal:
        shape = tuple(value.shape)
        ids = self.units.new(shape[-1] if len(shape) > 1 else 1)
        self.units.fix(ids)
        return Signal(ids, np.ones(len(ids), bool), value)

    def _seen(self, signal: Signal, value: Any) -> Signal:
        """The signal with its value; what is not one constant there varies."""
        rows = as_float(value).reshape(-1, len(signal.ids))
        constant = rows == (0.0 if self.trained else rows[:1])
        return Signal(signal.ids, signal.varies | ~constant.all(axis=0), value)


def in_inference(layer: Any) -> Callable[..., Any]:
    """The call of a layer or op, of which a recorded `training=True` is left out."""

    def call(*args: Any, **kwargs: Any) -> Any:
        if "training" in kwargs:
            kwargs["training"] = False
        return layer(*args, **kwargs)

    return call


def _value_of(leaf: Any) -> Any:
    return leaf.value if isinstance(leaf, Signal) else leaf
