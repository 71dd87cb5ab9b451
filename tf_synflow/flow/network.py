"""The network of |θ|: R = 1ᵀ(∏|θ|)1 of a Keras model, as a function of its weights."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tf_synflow import errors
from tf_synflow.flow import graph, inputs, rules, trace, weights
from tf_synflow.flow.tensor import FlowTensor, add
from tf_synflow.flow.theta import Kernel, Observe, Theta


class Network:
    """A model's graph with the weights taken out; the model itself is only read.

    Args:
      model: built model of either Keras; a subclassed one must have a `call` that can be followed
        on symbolic tensors, see `trace`.
      prunable: which weights may be pruned, see `weights.select_prunable`.
      input_shape: where the model leaves a dimension undefined, see `inputs.shapes`.

    Attributes:
      weights: every floating-point weight by name, in the model's order.
      prunable: names of the prunable ones, in the same order.

    Raises:
      ModelError: a model that cannot be walked.
      NoPrunableWeightsError: nothing to prune.
    """

    def __init__(self, model: Any, prunable: weights.Prunable = None, input_shape: Any = None):
        graph.check_model(model)
        self.weights = weights.all_weights(model)
        self.prunable = weights.select_prunable(self.weights, prunable)
        self._graph = model if graph.is_graph(model) else trace.graph_of_model(model, input_shape)
        given = input_shape if self._graph is model else None
        self._input_shapes = inputs.shapes(self._graph.inputs, given, model=model.name)
        self._subgraphs: dict[Any, Any] = {}

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

    @property
    def last(self) -> list[str]:
        """Names of the prunable weights whose outputs are those of the model."""
        layers = {id(layer) for layer in graph.last_layers(self._graph)}
        return [name for name in self.prunable if id(self.weights[name].layer) in layers]

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

    def __call__(
        self, theta: Mapping[str, tf.Tensor | Kernel], one: tf.Tensor | None = None
    ) -> FlowTensor:
        """R: the sum of all outputs, from an input of ones, batch 1.

        Args:
          theta: |θ| for every weight, one floating-point dtype, which is also the dtype of R.
            An additive term that is zero throughout, as a bias is at first, may be left out: to
            the rules it is not there, and a deep network has a thousand of them.
          one: what the input holds; a constant by default.
        """
        return add([x.summed(range(len(x.shape))) for x in self.outputs(theta, one=one)])

    def outputs(
        self,
        theta: Mapping[str, tf.Tensor | Kernel],
        observe: Observe | None = None,
        one: tf.Tensor | Sequence[tf.Tensor] | None = None,
    ) -> list[FlowTensor]:
        """The flow at each output.

        Args:
          theta: see `__call__`.
          one: what the inputs hold, together or one by one.
          observe: called as observe(layer, output) after each call of a layer, or of one inside it.
        """
        by_variable = {id(self.weights[name].variable): value for name, value in theta.items()}
        one = tf.ones([], next(iter(theta.values())).dtype) if one is None else one
        ones = one if isinstance(one, Sequence) else [one] * len(self._input_shapes)
        dtype = ones[0].dtype

        def apply(layer: Any, path: str, args: tuple, kwargs: dict) -> Any:
            flow_kwargs = rules.flow_keywords(kwargs)
            if rules.find(layer) is None and trace.is_made_of_layers(layer):
                return self._through_parts(layer, path, args, flow_kwargs, apply)
            theta_of_layer = Theta(layer, by_variable, dtype, observe)
            return rules.apply(layer, theta_of_layer, *args, **flow_kwargs)

        examples = [
            FlowTensor.uniform(one, [1, *shape])
            for one, shape in zip(ones, self._input_shapes, strict=True)
        ]
        return graph.run(self._graph, examples, apply)

    def _through_parts(
        self, layer: Any, path: str, args: tuple, kwargs: dict, apply: graph.Apply
    ) -> list[FlowTensor]:
        """A layer without a rule that is made of layers: the rules of those."""
        arguments = tf.nest.flatten((args, kwargs))
        flows = [x for x in arguments if isinstance(x, FlowTensor)]
        key = (id(layer), *map(_key, arguments), *sorted(kwargs))
        if key not in self._subgraphs:
            self._subgraphs[key] = trace.graph_of_call(layer, args, kwargs)
        return graph.run(self._subgraphs[key], flows, apply, f"{path}/")

    def has_flow(self, masks: Mapping[str, np.ndarray]) -> bool:
        """Whether any path of kept weights is left from input to output.

        Layer-collapse is decided here and not by counting: an empty shortcut of a residual network
        is none. Additive terms (biases, β) are left out, for they need no input.
        """
        return float(self(self.paths(masks)).value) > 0

    def check_flow(self, masks: Mapping[str, np.ndarray], advice: str) -> list[str]:
        """Checks that some flow is left.

        Args:
          masks: by name of prunable weight.
          advice: how to mend it, the last sentence of the error.

        Returns:
          Names of inputs that are ignored, see `dead_ends`.

        Raises:
          LayerCollapseError: none is, or none to one of several outputs; names the empty weights.
        """
        lost, expected = "from input to output", "some flow"
        if self.has_flow(masks):
            dead, ignored = self.dead_ends(masks)
            if not dead:
                return ignored
            lost = f"to the output {' or '.join(map(repr, dead))}"
            expected = (
                "some flow to every one. Weights compete for the flow of all outputs together, and "
                "of that a head of few values has little: leave it out with prunable=, or prune "
                "with scope='layer'"
            )
        kept = sum(int(np.count_nonzero(mask)) for mask in masks.values())
        empty = [name for name, mask in masks.items() if not mask.any()]
        raise errors.LayerCollapseError(
            f"layer-collapse: received masks that keep {kept:,} of {self.size:,} weights and leave "
            f"no path {lost} (empty: {', '.join(empty) or 'none'}); expected {expected}. {advice}"
        )

    def dead_ends(self, masks: Mapping[str, np.ndarray]) -> tuple[list[str], list[str]]:
        """What masks cut off: outputs that no input reaches, and inputs that reach no output.

        Of one output or input `has_flow` tells. Tokens are looked up and have no flow of their own.

        Returns:
          Their names, without those that are cut off while no weight is removed.
        """
        if len(self._graph.outputs) == len(self._graph.inputs) == 1:
            return [], []
        names = [
            [weights.unwrap(tensor._keras_history[0]).name for tensor in tensors]
            for tensors in (self._graph.outputs, self._graph.inputs)
        ]
        left = self._ends(masks)
        if all(map(all, left)):
            return [], []
        whole = self._ends({name: np.ones(mask.shape, bool) for name, mask in masks.items()})
        outputs, inputs = (
            [name for name, has, had in zip(*each, strict=True) if had and not has]
            for each in zip(names, left, whole, strict=True)
        )
        return outputs, inputs

    def _ends(self, masks: Mapping[str, np.ndarray]) -> tuple[list[bool], list[bool]]:
        """Whether there is a flow at each output, and from each input."""
        ones = [tf.ones([], tf.float64) for _ in self._input_shapes]
        with tf.GradientTape() as tape:
            tape.watch(ones)
            flows = self.outputs(self.paths(masks), one=ones)
            total = add([x.summed(range(len(x.shape))) for x in flows]).value
        gradients = tape.gradient(total, ones, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        return (
            [bool(np.any(x.value.numpy())) for x in flows],
            [bool(one.numpy()) for one in gradients],
        )

    def paths(self, masks: Mapping[str, np.ndarray]) -> dict[str, tf.Tensor]:
        """|θ| with one for every kept weight, without additive terms: R counts the paths."""
        theta = {}
        for name, weight in self.weights.items():
            if weights.is_additive(name):
                if name in masks:
                    theta[name] = tf.zeros(weight.shape, tf.float64)
            elif name in masks:
                theta[name] = tf.cast(np.asarray(masks[name], bool), tf.float64)
            else:
                theta[name] = tf.constant(np.abs(weight.value()))
        return theta

    def on_path(self, masks: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Which kept weights lie on a path from an input to an output, as bool arrays.

        Those where the gradient of the number of paths is not zero.
        """
        theta = self.paths(masks)
        kept = {name: theta[name] for name in masks}
        with tf.GradientTape() as tape:
            tape.watch(kept)
            total = self({**theta, **kept}).value
        gradients = tape.gradient(total, kept, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        return {name: mask & (gradients[name].numpy() != 0) for name, mask in masks.items()}


def _key(argument: Any) -> Any:
    """What a traced call may be taken again for: flows of a shape, and the same of all else."""
    if isinstance(argument, FlowTensor):
        return tuple(argument.shape)
    return argument if isinstance(argument, str | int | float | bool) else id(argument)
