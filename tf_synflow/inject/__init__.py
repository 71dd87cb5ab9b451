"""Masks → a model in which they are frozen: a removed weight is exactly zero at every moment."""

from typing import Any

from tf_synflow import compat, errors
from tf_synflow.flow import graph, weights
from tf_synflow.masks.masks import Masks

WRAPPERS = ("auto", "tfmot")


def check_can_wrap(model: Any, wrapper: str = "auto") -> None:
    """Checks that masks can be frozen into a model, before anything long is done.

    Raises:
      UnknownNameError: an unknown wrapper.
      ModelError: no graph, or a Keras 3 model.
      MaskError: the model is pruned already.
    """
    if wrapper not in WRAPPERS:
        raise errors.UnknownNameError("wrapper", wrapper, WRAPPERS)
    graph.check_model(model)
    if not compat.is_tf_keras(model):
        raise errors.ModelError(
            f"model {model.name!r}: received a Keras 3 model; masks can be frozen into tf_keras "
            "models only, as yet. Build it with tf_keras (import tf_keras as keras); or take the "
            "masks alone, tf_synflow.compute_masks(model, ...), which works for both."
        )
    wrapped = [layer.name for layer in weights.wrappers(model)]
    if wrapped:
        raise errors.MaskError(
            f"model {model.name!r}: received a model that is pruned already (wrapped: "
            f"{', '.join(wrapped[:4])}{', ...' if len(wrapped) > 4 else ''}); expected a plain "
            "one. Call tf_synflow.strip_pruning(model) first."
        )


def inject(model: Any, masks: Masks) -> Any:
    """A copy of a tf_keras model under TFMOT wrappers that hold the masks."""
    from tf_synflow.inject import tfmot

    return tfmot.inject(model, masks)


def strip_pruning(model: Any) -> Any:
    """A plain copy of a pruned model: the wrappers are gone, removed weights are exactly zero.

    Args:
      model: what `prune_at_init` or `apply_masks` gave, trained or not, or a model under TFMOT's
        own wrappers; it stays as it was. A model without wrappers is copied.

    Returns:
      A new, uncompiled tf_keras model with the layers' own names.

    Raises:
      ModelError: not a Sequential or Functional tf_keras model.

    Example:
      >>> final = tf_synflow.strip_pruning(pruned)
      >>> final.save("model.keras")
    """
    graph.check_model(model)
    if not compat.is_tf_keras(model):
        raise errors.ModelError(
            f"model {model.name!r}: received a Keras 3 model, which holds no TFMOT wrappers; "
            "expected the tf_keras model that prune_at_init returned."
        )
    from tf_synflow.inject import tfmot

    return tfmot.strip(model)


def masks_of(model: Any) -> Masks:
    """The masks that are frozen into a pruned model.

    Raises:
      MaskError: the model holds none.

    Example:
      >>> tf_synflow.masks_of(pruned).density
      0.01
    """
    graph.check_model(model)
    from tf_synflow.inject import tfmot

    return tfmot.masks_of(model)


def load_model(path: Any, **kwargs: Any) -> Any:
    """Loads a saved pruned model: tf_keras' own `load_model`, knowing the pruning wrapper.

    A new process needs it whatever the format: tf_keras looks for the wrapper among the classes
    it knows already.

    Args:
      path: a `.keras` or `.h5` file or a SavedModel folder.
      **kwargs: those of `tf_keras.models.load_model`.

    Raises:
      OutputError: there is no such file or folder.

    Example:
      >>> pruned = tf_synflow.load_model("run/model.keras")
    """
    import os

    if not os.path.exists(path):
        raise errors.OutputError(
            f"model {str(path)!r} does not exist; expected a .keras or .h5 file or a SavedModel "
            "folder."
        )
    from tf_synflow.inject import tfmot  # registers the wrapper

    del tfmot
    return compat.tf_keras().models.load_model(path, **kwargs)
