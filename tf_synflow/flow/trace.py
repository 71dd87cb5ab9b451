"""A graph for what has none: a subclassed model, or a layer that is made of other layers.

Its Python `call` is run once on symbolic tensors, and what they record is a graph of the same
layers with the same variables, for which the same rules hold. What was recorded in the layers
themselves is taken out again.
"""

import contextlib
import inspect
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import tensorflow as tf

from tf_synflow import compat, errors
from tf_synflow.flow import weights
from tf_synflow.flow.tensor import FlowTensor


def graph_of_model(model: Any, input_shape: Any = None, batch_size: int | None = 1) -> Any:
    """The Functional model of a subclassed model's `call`, of the same layers.

    Args:
      model: a built subclassed model of either Keras; it is left as it was.
      input_shape: shapes of its inputs without the batch, in the structure that `call` takes; by
        default those it was built with.
      batch_size: of the graph; None for any.

    Raises:
      ModelError: `call` cannot be followed on symbolic tensors, as a Python branch on the values
        of a tensor cannot; or the input shapes are not known.
    """
    structure = _recorded_shapes(model) if input_shape is None else input_shape
    keras = compat.keras_of(model)

    def symbolic(shapes: Any, name: str | None = None) -> Any:
        if isinstance(shapes, Mapping):
            return {key: symbolic(shape, key) for key, shape in shapes.items()}
        if all(n is None or isinstance(n, int) for n in shapes):
            shape = tuple(shapes)[1:] if input_shape is None else tuple(shapes)
            return keras.Input(shape, batch_size=batch_size, name=name)
        return [symbolic(shape) for shape in shapes]

    args = [symbolic(structure)]
    return _graph_of(model, tf.nest.flatten(args), args, {})


def graph_of_call(layer: Any, args: Any, kwargs: Any) -> Any:
    """The Functional model of one call of a layer, its inputs the flow tensors among the arguments.

    Raises:
      ModelError: `call` cannot be followed, see `graph_of_model`.
    """
    keras = compat.keras_of(layer)
    inputs = []

    def symbolic(value: Any) -> Any:
        if not isinstance(value, FlowTensor):
            return value
        batch_size, *shape = value.shape
        inputs.append(keras.Input(tuple(shape), batch_size=batch_size))
        return inputs[-1]

    args, kwargs = tf.nest.map_structure(symbolic, (list(args), kwargs))
    return _graph_of(layer, inputs, args, kwargs)


def _graph_of(layer: Any, inputs: list, args: list, kwargs: dict) -> Any:
    keras = compat.keras_of(layer)
    if "training" in inspect.signature(layer.call).parameters:
        kwargs = {**kwargs, "training": False}
    with _without_traces(layer):
        try:
            outputs = layer.call(*args, **kwargs)
            return keras.Model(inputs, outputs, name=layer.name)
        except errors.TfSynflowError:
            raise
        except Exception as error:  # anything may be in a user's call
            raise errors.ModelError(
                f"{type(layer).__name__} {layer.name!r}: its call could not be followed on "
                f"symbolic tensors ({type(error).__name__}: {errors.first_line(error)}); expected "
                "a call of layers and keras.ops, without a Python `if` or loop on the values of "
                "tensors, and without bare TensorFlow functions. Write it with keras.ops, or put "
                "that part into a layer of its own and register its rule with "
                "@tf_synflow.flow_rule."
            ) from error


def is_made_of_layers(layer: Any) -> bool:
    """Whether a layer leaves all computing with weights to layers inside it."""
    if compat.keras_of(layer) is None or not hasattr(layer, "_flatten_layers"):
        return False
    inside = list(layer._flatten_layers(include_self=False, recursive=False))
    return bool(inside) and not weights.own_variables(layer)


@contextlib.contextmanager
def _without_traces(layer: Any) -> Iterator[None]:
    """Takes out of the layers the nodes that they record meanwhile."""
    parts = [layer, *(part for _, part in weights.layers_of(layer))]
    before = [(nodes, len(nodes)) for part in parts for nodes in _nodes(part)]
    try:
        yield
    finally:
        for nodes, length in before:
            del nodes[length:]


def _nodes(layer: Any) -> Sequence[list]:
    names = ("_inbound_nodes", "_outbound_nodes", "_inbound_nodes_value", "_outbound_nodes_value")
    lists = {id(v): v for name in names if isinstance(v := getattr(layer, name, None), list)}
    return list(lists.values())


def _recorded_shapes(model: Any) -> Any:
    """The input shapes, batch first, that a subclassed model was built with."""
    config = model.get_build_config() or {}
    shapes = config.get("input_shape", list(config.get("shapes_dict", {}).values()))
    if not shapes:
        raise errors.ModelError(
            f"model {model.name!r}: received a subclassed {type(model).__name__} that does not "
            "know the shape of its inputs; expected one. Call it once on an example, or say it: "
            "input_shape=(32, 32, 3), without the batch."
        )
    return shapes
