"""A copy of a model of either Keras, layer by layer, with its values."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tf_synflow import compat, errors
from tf_synflow.flow import graph, weights

# (a layer without its pruning wrapper, its copy, not built yet) -> what takes the copy's place
Wrap = Callable[[Any, Any], Any]


def parts(model: Any) -> list[Any]:
    """The layers that are copied as one, each once: leaves of the graph, or a subclassed model."""
    found: dict[int, Any] = {}

    def visit(layer: Any) -> None:
        if is_replayable(layer):
            for inner in layer.layers:
                visit(inner)
        else:
            found[id(layer)] = layer

    visit(model)
    return list(found.values())


def copy(model: Any, wrap: Wrap) -> Any:
    """A copy of a model without pruning wrappers, not compiled; the model is only read.

    Graphs are replayed on copies of their layers. A layer that occurs twice, in one model or in
    one and a model inside it, is copied once. A subclassed model has no graph to replay and is
    copied whole, like a layer, from its configuration.

    Args:
      model: built model of either Keras, pruned or not.
      wrap: what to put in place of a layer's copy.

    Raises:
      ModelError: a custom layer or model that cannot be made again from its configuration.
    """
    made: dict[int, Any] = {}

    def clone(layer: Any) -> Any:
        if id(layer) not in made:
            if is_replayable(layer):
                made[id(layer)] = _replay(layer, clone)
            else:
                made[id(layer)] = wrap(weights.unwrap(layer), remake(weights.unwrap(layer)))
        return made[id(layer)]

    copied = clone(model)
    if not copied.built and is_replayable(model):
        copied.build(model.input_shape)
    for part in parts(model):
        if id(part) in made:  # Keras makes input layers itself
            copy_state(weights.unwrap(part), weights.unwrap(made[id(part)]))
    return copied


def accepted(cls: type, config: dict) -> dict:
    """A Keras 3 layer's configuration without what Keras adds and its constructor does not take.

    `def __init__(self):` is how many a model begins, and Keras alone cannot make such a one again.
    """
    parameters = inspect.signature(cls.__init__).parameters
    own = not getattr(cls.from_config, "__module__", "").startswith("keras.")
    if own or any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values()):
        return config
    added = {"name", "trainable", "dtype"} - set(parameters)
    return {key: value for key, value in config.items() if key not in added}


def is_replayable(layer: Any) -> bool:
    """Whether layer is a model that its own class makes again from a graph of other layers."""
    if not hasattr(layer, "layers") or not graph.is_graph(layer):
        return False
    cls, module = type(layer), compat.keras_of(layer)
    if compat.is_tf_keras(layer):
        return True
    if any(base.__name__ == "Pruned" for base in cls.__mro__):
        return False
    if issubclass(cls, module.Sequential):
        return cls.__init__ is module.Sequential.__init__
    # Keras describes a graph only for a class with the constructor (inputs, outputs, name).
    if not cls.get_config.__module__.startswith("keras."):
        return False
    try:
        return "input_layers" in layer.get_config()
    except NotImplementedError:  # a layer in it without get_config, which `remake` says
        return False


def _replay(model: Any, clone: Callable[[Any], Any]) -> Any:
    module = compat.keras_of(model)
    if compat.is_tf_keras(model):
        return module.models.clone_model(model, clone_function=clone)
    names = {
        id(layer.output): layer.name
        for layer in model._flatten_layers(include_self=False, recursive=False)
        if isinstance(layer, module.layers.InputLayer)
    }

    def again(tensor: Any) -> Any:
        name = names.get(id(tensor), tensor.name)
        return module.Input(batch_shape=tensor.shape, dtype=tensor.dtype, name=name)

    if isinstance(model, module.Sequential):
        layers = [again(model.inputs[0]), *map(clone, model.layers)]
        return type(model)(layers, name=model.name, trainable=model.trainable)
    # clone_model compiles the copy of a compiled model, from a configuration that may not suffice;
    # another model over the same tensors is not compiled.
    view = type(model)(model.input, model.output, name=model.name)
    inputs = tf.nest.map_structure(again, model.input)
    copied = module.models.clone_model(view, input_tensors=inputs, clone_function=clone)
    copied.trainable = model.trainable
    return copied


def remake(layer: Any) -> Any:
    """Another layer from a layer's configuration, with weights of its own, or not built."""
    try:
        if hasattr(layer, "make_unpruned"):
            made = layer.make_unpruned()
        else:
            made = type(layer).from_config(accepted(type(layer), layer.get_config()))
    except Exception as error:  # a user's constructor raises whatever it does
        raise errors.ModelError(
            f"layer {layer.name!r}: received a {type(layer).__name__} that cannot be made again "
            f"from its configuration ({type(error).__name__}: {errors.first_line(error)}); "
            f"expected {type(layer).__name__}.from_config(layer.get_config()) to give another. "
            "Implement get_config so that it returns every argument of the constructor, in "
            "addition to super().get_config()."
        ) from error
    if compat.is_tf_keras(layer):
        # Before it is built: a configuration may leave out the names that Keras numbers.
        for source, target in zip(layer._flatten_layers(), made._flatten_layers(), strict=False):
            if type(target) is type(source):
                rename(target, source.name)
    known = {id(variable) for variable in getattr(layer, "weights", ())}
    if any(id(variable) in known for variable in getattr(made, "weights", ())):
        raise errors.ModelError(
            f"layer {layer.name!r}: received a {type(layer).__name__} whose configuration hands on "
            "its own layers; expected one that describes them. In get_config, use "
            "keras.saving.serialize_keras_object(layer), and in from_config "
            "keras.saving.deserialize_keras_object(config[...])."
        )
    return made


def copy_state(original: Any, copied: Any, values: Sequence[np.ndarray] | None = None) -> None:
    """Builds a copy as the original was built; names and values follow, its own or those given."""
    if values is None:
        values = [variable.numpy() for variable in original.weights]
    if not compat.is_tf_keras(original):
        if len(copied.weights) != len(values):
            copied.build_from_config(original.get_build_config())
        # Neither the names that Keras numbers, dense_3, nor what was frozen later is in the
        # configuration of a layer whose constructor makes others.
        layers = zip(original._flatten_layers(), copied._flatten_layers(), strict=False)
        for source, target in layers:
            rename(target, source.name)
            if target.trainable != source.trainable:
                target.trainable = source.trainable
    expected = [tuple(value.shape) for value in values]
    received = [tuple(variable.shape) for variable in copied.weights]
    if received != expected:
        raise errors.ModelError(
            f"layer {original.name!r}: received a {type(original).__name__} whose copy from its "
            f"configuration has {len(received)} weights of the shapes {received[:6]}; expected "
            f"the {len(expected)} of the layer, {expected[:6]}. Let get_config return every "
            "argument that decides on the weights, and build(input_shape) or __init__ make all of "
            "them (or implement get_build_config and build_from_config)."
        )
    for value, target in zip(values, copied.weights, strict=True):
        target.assign(value)
    for layer in copied._flatten_layers():
        if hasattr(layer, "finalize_state"):  # Normalization computes from copies of its weights
            layer.finalize_state()


def rename(layer: Any, name: str) -> None:
    """Gives a layer a name, in tf_keras before it is built; weights are known by it."""
    if layer.name != name:
        setattr(layer, "_name" if compat.is_tf_keras(layer) else "name", name)
