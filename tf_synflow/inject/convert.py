"""Keras 3 models → tf_keras models that compute the same, and trained weights back again."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tf_synflow import compat, errors
from tf_synflow.flow import graph, weights
from tf_synflow.flow import inputs as flow_inputs
from tf_synflow.inject import agreement, clone, tf_layers, tf_ops


def to_tf_keras(model: Any, *, tolerance: float = 1e-4) -> Any:
    """A tf_keras model that computes what a Keras 3 model computes, with its weights.

    The graph is walked and each layer made anew as the tf_keras layer of the same name, each op of
    keras.ops as the TensorFlow function; models inside the model and shared layers stay what they
    are. Then both models are run on the same random input, and have to agree.

    Args:
      model: built Sequential or Functional Keras 3 model; it is only read.
      tolerance: largest difference of an output, relative to the largest value in it; more is
        allowed to layers that compute in half precision.

    Raises:
      UnsupportedLayerError: a layer or op that tf_keras has not, or a custom one.
      ModelError: a subclassed model, or one whose conversion differs; says where.
    """
    graph.check_model(model)
    if not graph.is_graph(model):
        raise errors.ModelError(
            f"model {model.name!r}: received a subclassed {type(model).__name__}, whose graph is "
            "Python code and cannot be converted to tf_keras; expected a Sequential or Functional "
            "model. Use wrapper='keras', which keeps the model in its own Keras."
        )
    walk = _Walk()
    converted = walk.model(model)
    copy_weights(model, converted)
    _check_same(model, converted, walk, tolerance)
    return converted


def to_keras3(model: Any, like: Any) -> Any:
    """A copy of a Keras 3 model with the weights of the tf_keras model it was converted to.

    Args:
      model: tf_keras model without pruning wrappers.
      like: the Keras 3 model; it is only read.

    Raises:
      ModelError: the two are not of the same architecture.
    """
    copied = clone.copy(like, lambda original, copied: copied)
    copy_weights(model, copied)
    return copied


def copy_weights(source: Any, target: Any) -> None:
    """Copies every floating-point variable from one model to that of its name in another.

    Raises:
      ModelError: a variable of one is missing in the other, or has another shape.
    """
    values, variables = weights.all_weights(source), weights.all_weights(target)
    apart = sorted(values.keys() ^ variables.keys())
    apart += [n for n in values if n not in apart and values[n].shape != variables[n].shape]
    if apart:
        raise errors.ModelError(
            f"model {source.name!r}: received weights for a model of another architecture: "
            f"{apart[0]!r} has the shape {_shape(values.get(apart[0]))} here and "
            f"{_shape(variables.get(apart[0]))} there ({len(apart)} such weights); expected the "
            "same names and shapes. Pass like= the very model that was pruned."
        )
    for name, weight in values.items():
        variables[name].variable.assign(weight.variable.numpy())
    for _, layer in weights.layers_of(target):
        if hasattr(layer, "finalize_state"):  # Normalization computes from copies of its weights
            layer.finalize_state()


def _shape(weight: Any) -> Any:
    return "none" if weight is None else weight.shape


class _Walk:
    """The counterparts of a model's layers and ops, each made once."""

    def __init__(self) -> None:
        self._made: dict[int, Any] = {}

    def model(self, model: Any) -> Any:
        """The tf_keras model like a Keras 3 model, without its weights."""
        keras = compat.tf_keras()
        known = {id(tensor): _input_like(tensor) for tensor in model.inputs}
        if isinstance(model, compat.keras().Sequential):
            layers = [self._counterpart(layer) for layer in model.layers]
            return keras.Sequential([*known.values(), *layers], name=model.name)
        for depth in sorted(model._nodes_by_depth, reverse=True):
            for node in model._nodes_by_depth[depth]:
                if not node.is_input:
                    outputs = self.call(
                        node.operation,
                        *tf.nest.map_structure(
                            lambda value: known.get(id(value), value),
                            (node.arguments.args, node.arguments.kwargs),
                        ),
                        node.outputs[0].dtype,
                    )
                    for tensor, value in zip(node.outputs, tf.nest.flatten(outputs), strict=True):
                        known[id(tensor)] = value
        inputs, outputs = (
            tf.nest.map_structure(lambda tensor: known[id(tensor)], structure)
            for structure in (model._inputs_struct, model._outputs_struct)
        )
        return keras.Model(inputs, outputs, name=model.name)

    def call(self, op: Any, args: tuple, kwargs: dict, dtype: str) -> Any:
        """Calls the counterpart of a layer or op on tensors of tf_keras' side."""
        if not isinstance(op, compat.keras().layers.Layer):
            function = tf_ops.function_of(op, dtype)
            return _or_unsupported(op, lambda: function(*args, **kwargs))
        layer = self._counterpart(op)
        given = dict(inspect.signature(op.call).bind(*args, **kwargs).arguments)
        first = given.pop(next(iter(given)))
        given = _arguments(op, layer, given)
        return _or_unsupported(op, lambda: layer(first, **given))

    def _counterpart(self, layer: Any) -> Any:
        if id(layer) not in self._made:
            if hasattr(layer, "layers") and graph.is_graph(layer):
                self._made[id(layer)] = self.model(layer)
            else:
                self._made[id(layer)] = tf_layers.convert(layer)
        return self._made[id(layer)]


def _input_like(tensor: Any) -> Any:
    return compat.tf_keras().Input(
        batch_shape=tuple(tensor.shape), dtype=tensor.dtype, name=tensor.name
    )


def _arguments(op: Any, layer: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a call, besides the first, that a tf_keras layer takes by the same names."""
    accepted = layer._call_spec.arg_names
    # What Keras 3 recorded of `training` gives way to what its model is called with.
    given = {k: v for k, v in given.items() if k != "training" and v is not None and v is not False}
    unknown = [key for key in given if key not in accepted]
    if unknown:
        raise tf_layers.unsupported(op, f"tf_keras' takes no {unknown[0]}= in its call")
    return given


def _or_unsupported(op: Any, call: Callable[[], Any]) -> Any:
    try:
        return call()
    except errors.TfSynflowError:
        raise
    except Exception as error:  # whatever TensorFlow says to arguments it does not take
        why = f"tf_keras does not take this call: {_in_short(error)}"
        raise tf_layers.unsupported(op, why) from error


def _in_short(error: Exception) -> str:
    """What an exception of others says, without what it says of its arguments."""
    lines = [line for line in str(error).splitlines() if line.strip()] or ["no message"]
    # Keras puts a line of its own before the message.
    return f"{type(error).__name__}: {' '.join(lines[:2])[:300]}"


# --- is it the same model? ------------------------------------------------------------------------


def _check_same(model: Any, converted: Any, walk: _Walk, tolerance: float) -> None:
    """Runs both models on random input, in the first of the sizes that suits the model."""
    tolerance = agreement.tolerance(model, tolerance)
    for size in flow_inputs.sizes(model):
        # Nothing of the user's model changes in this scope, no state of a recurrent layer either.
        with compat.keras().StatelessScope():
            values = flow_inputs.random(model, size)
            place = _place_of_difference(model, converted, walk, values, tolerance)
        # TensorFlow may make numbers out of nothing where an image is too small for a kernel.
        if place is None:
            return
    raise errors.ModelError(
        f"model {model.name!r}: received a Keras 3 model whose conversion to tf_keras differs on "
        f"random input of shape {', '.join(str(tuple(value.shape)) for value in values)}, first "
        f"at {place}; expected a difference of at most {tolerance:g} of the largest value. Use "
        "wrapper='keras', which keeps the model in its own Keras."
    )


def _place_of_difference(
    model: Any, converted: Any, walk: _Walk, values: list, tolerance: float
) -> str | None:
    """Where the models differ, in words; None where they agree."""
    expected = None
    try:
        expected, received = _run(model, model, values), _run(model, converted, values)
        difference = _difference(expected, received, tolerance)
    except Exception as error:  # whatever a layer says to values it does not take
        difference = _in_short(error)
    if difference is None:
        return None
    _reset_states(model, converted)
    place = _first_difference(model, values, walk, tolerance)
    if place is None and expected is not None and _is_chaotic(model, values, expected, tolerance):
        return None
    return place or f"its outputs ({difference})"


def _run(model: Any, one: Any, values: list) -> Any:
    """The outputs of a model, or of its like, for flat inputs."""
    _reset_states(one)
    outputs = one(graph.nested(model, "inputs", values), training=False)
    _reset_states(one)
    return outputs


def _is_chaotic(model: Any, values: list, expected: Any, tolerance: float) -> bool:
    """Whether a model's own outputs change as much where its inputs change by a rounding.

    Deep networks with random weights may, EfficientNetV2L for one. All that can be asked of their
    conversion is that each layer computes the same.
    """
    random = np.random.RandomState(1)

    def rounded(value: tf.Tensor) -> tf.Tensor:
        if not value.dtype.is_floating:
            return value
        epsilon = 2**-8 if value.dtype.size == 2 else np.finfo(value.dtype.as_numpy_dtype).eps
        return value * tf.cast(1 + epsilon * random.standard_normal(value.shape), value.dtype)

    moved = _run(model, model, [rounded(value) for value in values])
    return _difference(expected, moved, tolerance) is not None


def _reset_states(*models: Any) -> None:
    for model in models:
        for _, layer in weights.layers_of(model):
            if getattr(layer, "stateful", False) and hasattr(layer, "reset_states"):
                layer.reset_states()


def _difference(expected: Any, received: Any, tolerance: float) -> str | None:
    """How two results differ, in words; None where they agree."""
    expected, received = tf.nest.flatten(expected), tf.nest.flatten(received)
    if len(expected) != len(received):
        return f"{len(expected)} outputs in Keras 3, {len(received)} in tf_keras"
    for one, other in zip(expected, received, strict=True):
        one, other = np.asarray(one), np.asarray(other)
        if one.shape != other.shape:
            return f"shape {one.shape} in Keras 3, {other.shape} in tf_keras"
        if one.dtype.kind in "OSU":
            if not np.array_equal(one, other):
                return "other strings"
            continue
        worst, largest = agreement.apart(one, other)
        if worst > tolerance * max(largest, 1e-3):
            return f"by {worst:.3g}, where the largest value is {largest:.3g}"
    return None


def _first_difference(model: Any, values: list, walk: _Walk, tolerance: float) -> str | None:
    """Where the first layer or op is that computes something else, both given the same input."""
    found = []

    def apply(layer: Any, path: str, args: tuple, kwargs: dict) -> Any:
        if "training" in getattr(layer, "call_signature_parameters", ()):
            kwargs = {**kwargs, "training": False}
        expected = layer(*args, **kwargs)
        if not found:
            dtype = tf.as_dtype(tf.nest.flatten(expected)[0].dtype).name
            received = walk.call(layer, args, kwargs, dtype)
            difference = _difference(expected, received, tolerance)
            if difference:
                found.append(f"{path!r} ({type(layer).__name__}: {difference})")
        return expected

    try:
        graph.run(model, values, apply)
    except Exception as error:  # of the user's model too
        found.append(f"a layer that could not be run ({_in_short(error)})")
    return found[0] if found else None
