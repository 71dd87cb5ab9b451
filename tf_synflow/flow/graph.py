"""The walk through a model's graph, one for both Kerases."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from tf_synflow import errors
from tf_synflow.flow import weights

# (layer or op, path of names, call arguments, call keywords) -> outputs of the call
Apply = Callable[[Any, str, tuple, dict], Any]


def check_model(model: Any) -> None:
    """Checks that a model has weights and a way to walk it.

    Raises:
      ModelError: not a Keras model, or not built, or quantization-aware already.
    """
    if not weights.is_model(model):
        raise errors.ModelError(
            f"model: received {type(model).__name__}; expected a Sequential or Functional model of "
            "keras or tf_keras. A saved model is loaded first: keras.models.load_model(path)."
        )
    if not model.built or (is_graph(model) and not model.inputs):
        raise errors.ModelError(
            f"model {model.name!r} is not built, so it has no weights yet; expected a built one. "
            "Give it an input, keras.Input(shape), or call model.build((None, *shape))."
        )
    if weights.is_quantization_aware(model):
        raise errors.ModelError(
            f"model {model.name!r}: received one for quantization-aware training; expected it as "
            "it was before. Prune, strip and shrink, and call tf_synflow.quantize_aware(model) "
            "then; export_tflite takes what that gave."
        )


def is_graph(model: Any) -> bool:
    """Whether the model is Sequential or Functional, not subclassed."""
    return _is_sequential(model) or bool(getattr(model, "_nodes_by_depth", None))


def run(model: Any, inputs: list, apply: Apply, path: str = "", *, nested: bool = True) -> list:
    """Passes values through the calls of a model in order, nested models included.

    Args:
      model: a built Sequential or Functional model of either Keras.
      inputs: one value for each of the model's inputs, flat.
      apply: what a call does with its values; a shared layer is called once for each use.
      path: names of the models around this one, each followed by a slash.
      nested: False calls a model in the model by `apply`, like a layer.

    Returns:
      One value for each of the model's outputs, flat.
    """

    def call(layer: Any, args: tuple, kwargs: dict) -> list:
        layer = weights.unwrap(layer)
        own_path = f"{path}{layer.name}"
        if nested and hasattr(layer, "layers") and is_graph(layer):
            return run(layer, tf.nest.flatten(args), apply, f"{own_path}/")
        return tf.nest.flatten(apply(layer, own_path, args, kwargs))

    if _is_sequential(model):
        values = inputs
        for layer in model.layers:
            values = call(layer, tuple(values), {})
        return values

    known = {id(tensor): value for tensor, value in zip(model.inputs, inputs, strict=True)}
    for depth in sorted(model._nodes_by_depth, reverse=True):
        for node in model._nodes_by_depth[depth]:
            if node.is_input:
                continue
            layer, args, kwargs = _call_of(node)
            args, kwargs = tf.nest.map_structure(lambda v: known.get(id(v), v), (args, kwargs))
            outputs = call(layer, args, kwargs)
            for tensor, value in zip(tf.nest.flatten(node.outputs), outputs, strict=True):
                known[id(tensor)] = value
    return [known[id(tensor)] for tensor in model.outputs]


def nested(model: Any, kind: str, values: list) -> Any:
    """Flat values for a model's inputs or outputs, nested as the model nests them.

    Args:
      model: built Sequential or Functional model.
      kind: `"inputs"` or `"outputs"`.
      values: one for each of `model.inputs` or `model.outputs`.
    """
    if _is_sequential(model):
        return values[0]
    own = f"_nested_{kind}" if hasattr(model, f"_nested_{kind}") else f"_{kind}_struct"
    known = {id(t): v for t, v in zip(getattr(model, kind), values, strict=True)}
    return tf.nest.map_structure(lambda tensor: known[id(tensor)], getattr(model, own))


def last_layers(model: Any) -> list[Any]:
    """The layers with weights whose outputs, but for layers without, are those of the model."""

    def of(layer: Any) -> list[Any]:
        layer = weights.unwrap(layer)
        if hasattr(layer, "layers") and is_graph(layer):
            return last_layers(layer)
        return [layer] if getattr(layer, "weights", ()) else []

    if _is_sequential(model):
        return next((found for layer in reversed(model.layers) if (found := of(layer))), [])
    nodes = {
        id(tensor): node
        for depth in model._nodes_by_depth.values()
        for node in depth
        for tensor in tf.nest.flatten(node.outputs)
    }

    def behind(tensor: Any) -> list[Any]:
        node = nodes.get(id(tensor))
        if node is None or node.is_input:
            return []
        layer, args, kwargs = _call_of(node)
        return of(layer) or [x for t in tf.nest.flatten((args, kwargs)) for x in behind(t)]

    return [layer for output in model.outputs for layer in behind(output)]


def _is_sequential(model: Any) -> bool:
    return any(base.__name__ == "Sequential" for base in type(model).__mro__)


def _call_of(node: Any) -> tuple[Any, tuple, dict]:
    if hasattr(node, "operation"):  # Keras 3
        return node.operation, tuple(node.arguments.args), dict(node.arguments.kwargs)
    return node.layer, tuple(node.call_args), dict(node.call_kwargs)
