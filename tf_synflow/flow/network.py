"""The network of |θ|: R = 1ᵀ(∏|θ|)1 of a Keras model, as a function of its weights."""

import types
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tf_synflow import errors
from tf_synflow.flow import graph, rules, weights
from tf_synflow.flow.tensor import FlowTensor, add


class Network:
    """A model's graph with the weights taken out; the model itself is only read.

    Args:
      model: built Sequential or Functional model of either Keras.
      prunable: which weights may be pruned, see `weights.select_prunable`.

    Attributes:
      weights: every floating-point weight by name, in the model's order.
      prunable: names of the prunable ones, in the same order.

    Raises:
      ModelError: a model that cannot be walked.
      NoPrunableWeightsError: nothing to prune.
    """

    def __init__(self, model: Any, prunable: weights.Prunable = None):
        graph.check_model(model)
        self._model = model
        self.weights = weights.all_weights(model)
        self.prunable = weights.select_prunable(self.weights, prunable)

    @property
    def prunable_shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: self.weights[name].shape for name in self.prunable}

    @property
    def size(self) -> int:
        """Number of prunable weights, N."""
        return sum(int(np.prod(shape)) for shape in self.prunable_shapes.values())

    @property
    def maximal_compression(self) -> float:
        """Prunable weights / prunable tensors: one weight left in each."""
        return self.size / len(self.prunable)

    def values(self) -> dict[str, np.ndarray]:
        """A float64 copy of every weight."""
        return {name: weight.value() for name, weight in self.weights.items()}

    def prunable_values(self) -> dict[str, np.ndarray]:
        """A float64 copy of every prunable weight."""
        return {name: self.weights[name].value() for name in self.prunable}

    def check_values(self) -> None:
        """Checks that the weights can be scored.

        Raises:
          WeightsError: a weight is NaN or infinite, or a prunable one is zero throughout.
        """
        for name, weight in self.weights.items():
            value = weight.variable.numpy()
            broken = int(np.size(value) - np.count_nonzero(np.isfinite(value.astype(np.float64))))
            if broken:
                raise errors.WeightsError(
                    f"weight {name!r}: received {broken} values that are NaN or infinite among "
                    f"{value.size}; expected finite ones. Load or initialize the model again."
                )
            if name in self.prunable and not (value.any() or weights.is_additive(name)):
                raise errors.WeightsError(
                    f"weight {name!r}: received zeros throughout; expected initialized values, "
                    "for nothing flows through zeros. Initialize the layer, or leave it out with "
                    "prunable=."
                )

    def __call__(self, theta: Mapping[str, tf.Tensor]) -> FlowTensor:
        """R: the sum of all outputs, from an input of ones, batch 1.

        Args:
          theta: |θ| for every weight, one floating-point dtype, which is also the dtype of R.
        """
        return add([x.linear(tf.reduce_sum) for x in self.outputs(theta)])

    def outputs(
        self, theta: Mapping[str, tf.Tensor], observe: Callable[[Any, str, Any], None] | None = None
    ) -> list[FlowTensor]:
        """The flow at each output.

        Args:
          theta: |θ| for every weight.
          observe: called as observe(layer, path, output) after each call of a layer.
        """
        by_variable = {id(w.variable): theta[name] for name, w in self.weights.items()}
        dtype = next(iter(theta.values())).dtype

        def apply(layer: Any, path: str, args: tuple, kwargs: dict) -> Any:
            flow_kwargs = {
                key: value
                for key, value in kwargs.items()
                if value is not None and key not in ("training", "mask", "name")
            }
            output = rules.rule_of(layer)(layer, _Theta(layer, by_variable), *args, **flow_kwargs)
            if observe is not None:
                observe(layer, path, output)
            return output

        inputs = [
            FlowTensor.of(tf.ones([1, *tuple(tensor.shape)[1:]], dtype))
            for tensor in self._model.inputs
        ]
        return graph.run(self._model, inputs, apply)

    def has_flow(self, masks: Mapping[str, np.ndarray]) -> bool:
        """Whether any path of kept weights is left from input to output.

        Layer-collapse is decided here and not by counting: an empty shortcut of a residual network
        is none. Additive terms (biases, β) are left out, for they need no input.
        """
        return float(self(self.paths(masks)).value) > 0

    def paths(self, masks: Mapping[str, np.ndarray]) -> dict[str, tf.Tensor]:
        """|θ| with one for every kept weight and zero for additive terms: R counts the paths."""
        theta = {}
        for name, weight in self.weights.items():
            if weights.is_additive(name):
                theta[name] = tf.zeros(weight.shape, tf.float64)
            elif name in masks:
                theta[name] = tf.constant(masks[name], tf.float64)
            else:
                theta[name] = tf.constant(np.abs(weight.value()))
        return theta


class _Theta(types.SimpleNamespace):
    """The tensors that stand for a layer's variables, by the layer's own attribute names."""

    def __init__(self, layer: Any, by_variable: Mapping[int, tf.Tensor]):
        super().__init__(_layer=layer, _by_variable=by_variable)

    def __getattr__(self, attribute: str) -> tf.Tensor | None:
        variable = getattr(self._layer, attribute, None)
        return self._by_variable.get(id(variable))
