"""Masks → a model in which they are frozen: a removed weight is exactly zero at every moment."""

import json
import os
import pathlib
import types
import zipfile
from typing import Any

from tf_synflow import compat, errors
from tf_synflow.flow import graph, weights
from tf_synflow.inject import compiling, fitting, replicas
from tf_synflow.masks.masks import Masks

WRAPPERS = ("auto", "tfmot", "keras")


def prepared(model: Any, wrapper: str = "auto") -> Any:
    """The model that masks are frozen into, checked before anything long is done.

    Args:
      model: of either Keras.
      wrapper: `"tfmot"`: TFMOT's wrappers, in a tf_keras model, into which a Keras 3 model is
        converted; `"keras"`: pruned Keras 3 layers; `"auto"`: the model's own Keras.

    Returns:
      The model itself, or its conversion to tf_keras, compared on random input.

    Raises:
      UnknownNameError: an unknown wrapper.
      ModelError: a model without weights, of another Keras than the wrapper, or one whose
        conversion differs.
      MaskError: the model is pruned already, or workers hold different weights.
    """
    if wrapper not in WRAPPERS:
        raise errors.UnknownNameError("wrapper", wrapper, WRAPPERS)
    graph.check_model(model)
    if wrapper == "keras" and compat.is_tf_keras(model):
        raise errors.ModelError(
            f"model {model.name!r}: received a tf_keras model with wrapper='keras'; expected a "
            "Keras 3 model. Use wrapper='tfmot' or 'auto' for this one, or build it with "
            "`import keras`."
        )
    if compat.is_tf_keras(model) and not graph.is_graph(model):
        raise errors.ModelError(
            f"model {model.name!r}: received a subclassed {type(model).__name__} of tf_keras; "
            "expected a Sequential or Functional model, for TFMOT's wrappers need a graph to be "
            "put into. Build it as one from the same layers, or with Keras 3, whose subclassed "
            "models can be pruned."
        )
    wrapped = [layer.name for layer in weights.wrappers(model)]
    if wrapped:
        raise errors.MaskError(
            f"model {model.name!r}: received a model that is pruned already (wrapped: "
            f"{', '.join(wrapped[:4])}{', ...' if len(wrapped) > 4 else ''}); expected a plain "
            "one. Call tf_synflow.strip_pruning(model) first."
        )
    replicas.check_scope(model)
    replicas.check_same_weights(model)
    if wrapper != "tfmot" or compat.is_tf_keras(model):
        return model
    from tf_synflow.inject import convert

    with replicas.scope_of(model):
        return convert.to_tf_keras(model)


def inject(model: Any, masks: Masks) -> Any:
    """A copy of a model that holds the masks, which fit it, in the model's own Keras."""
    wrapper = _of(model)
    with replicas.scope_of(model):
        pruned = compiling.checked(wrapper.inject(model, masks))
    return fitting.masks_gradients(pruned, wrapper.masked)


def strip_pruning(model: Any, like: Any = None) -> Any:
    """A plain copy of a pruned model: removed weights are exactly zero, and nothing masks them.

    Args:
      model: what `prune_at_init` or `apply_masks` gave, trained or not, or a model under TFMOT's
        own wrappers; it stays as it was. A model that is not pruned is copied.
      like: the Keras 3 model that was pruned with `wrapper="tfmot"`, to get one like it.

    Returns:
      A new, uncompiled model of the same Keras with the layers' own names; with `like`, a Keras 3
      model of its architecture with the trained weights.

    Raises:
      ModelError: not a model that can be copied, or another architecture than that of `like`.

    Example:
      >>> final = tf_synflow.strip_pruning(pruned)
      >>> final.save("model.keras")
    """
    graph.check_model(model)
    if like is None:
        return _of(model).strip(model)
    graph.check_model(like)
    if compat.is_tf_keras(like) or not compat.is_tf_keras(model):
        raise errors.ModelError(
            f"like: received the {_keras_name(like)} model {like.name!r} for the "
            f"{_keras_name(model)} model {model.name!r}; expected a Keras 3 model that was pruned "
            "with wrapper='tfmot'. Leave like= out to get a model of the same Keras."
        )
    from tf_synflow.inject import convert

    return convert.to_keras3(_of(model).strip(model), like)


def masks_of(model: Any) -> Masks:
    """The masks that are frozen into a pruned model.

    Raises:
      MaskError: the model holds none.

    Example:
      >>> tf_synflow.masks_of(pruned).density
      0.01
    """
    graph.check_model(model)
    return _of(model).masks_of(model)


def load_model(path: Any, **kwargs: Any) -> Any:
    """Loads a saved pruned model: its Keras' own `load_model`, knowing how it was pruned.

    A new process needs it whatever the format: Keras looks for the classes of pruned layers among
    those that it knows already.

    Args:
      path: a `.keras` or `.h5` file of either Keras, or a SavedModel folder of tf_keras.
      **kwargs: those of `keras.saving.load_model` or `tf_keras.models.load_model`.

    Raises:
      OutputError: there is no such file or folder.
      ModelError: it is not a model, or damaged, or of layers that are not registered.

    Example:
      >>> pruned = tf_synflow.load_model("run/model.keras")
    """
    if not os.path.exists(path):
        raise errors.OutputError(
            f"model {str(path)!r} does not exist; expected a .keras or .h5 file or a SavedModel "
            "folder."
        )
    try:
        model = _loaded(path, kwargs)
    except errors.TfSynflowError:
        raise
    except Exception as error:  # Keras raises whatever its reading trips over
        raise errors.ModelError(
            f"{str(path)!r} could not be read as a model ({type(error).__name__}: "
            f"{errors.first_line(error)}); expected a .keras or .h5 file or a SavedModel folder, "
            "with all custom layers registered. It may be truncated, something else, or a "
            "quantization-aware model in .keras, which tf_keras cannot read: save that as .h5. "
            "Of an .h5 of Keras 3 try compile=False, or save .keras: it holds more kinds of layers."
        ) from error
    if compat.keras_of(model) is None:
        raise errors.ModelError(
            f"{str(path)!r}: received a SavedModel for serving, as export() of Keras 3 writes it; "
            "expected a model that can be trained. Save it by model.save('model.keras')."
        )
    return model


def _loaded(path: str | os.PathLike, arguments: dict[str, Any]) -> Any:
    if _is_of_keras_3(pathlib.Path(path)):
        from tf_synflow.inject import keras  # registers pruned layers

        del keras
        return compat.keras().saving.load_model(path, **arguments)
    # Registers the wrapper, what it may hold, and what quantizes.
    from tf_synflow.inject import activations, quantize, tfmot

    del activations
    # In HDF5 a Sequential within a model holds its layers under their bare names.
    given = arguments.pop("custom_objects", None) or {}
    custom = {"PruneLowMagnitude": tfmot.PruneLowMagnitude, **given}
    with quantize.scope():
        return compat.tf_keras().models.load_model(path, custom_objects=custom, **arguments)


def _of(model: Any) -> types.ModuleType:
    """The module that freezes masks into models of this one's Keras."""
    if compat.is_tf_keras(model):
        from tf_synflow.inject import tfmot

        return tfmot
    from tf_synflow.inject import keras

    return keras


def _keras_name(model: Any) -> str:
    return "tf_keras" if compat.is_tf_keras(model) else "Keras 3"


def _is_of_keras_3(path: pathlib.Path) -> bool:
    metadata = None
    if path.is_dir() and (path / "metadata.json").exists():  # Keras 3's save(zipped=False)
        metadata = (path / "metadata.json").read_text(encoding="utf-8")
    elif path.is_file() and zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            metadata = archive.read("metadata.json")
    elif path.suffix in (".h5", ".hdf5"):
        import h5py

        with h5py.File(path) as file:
            return str(file.attrs.get("keras_version", "2")).startswith("3")
    return metadata is not None and json.loads(metadata)["keras_version"].startswith("3")
