"""The only importer of keras, tf_keras and TFMOT, each by name and each only when it is needed."""

import importlib
import os
import types

from tf_synflow import errors


def _load(module: str, package: str) -> types.ModuleType:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise errors.DependencyError(
            f"{package} could not be imported ({error}). Expected it beside tf_synflow: "
            f"pip install {package}"
        ) from error


def keras() -> types.ModuleType:
    """Keras 3 on its TensorFlow backend."""
    module = _load("keras", "keras")
    if not module.__version__.startswith("3."):
        raise errors.DependencyError(
            f"keras {module.__version__} is installed; expected Keras 3: pip install 'keras>=3'."
        )
    if module.backend.backend() != "tensorflow":
        raise errors.DependencyError(
            f"Keras runs on its {module.backend.backend()!r} backend; expected 'tensorflow'. "
            "Set KERAS_BACKEND=tensorflow before Keras is imported."
        )
    return module


def tf_keras() -> types.ModuleType:
    """Keras 2, as the package tf-keras keeps it."""
    return _load("tf_keras", "tf-keras")


def tfmot() -> types.ModuleType:
    """TensorFlow Model Optimization, which leaves the environment as it found it.

    Its import sets TF_USE_LEGACY_KERAS, and with it turns a later `tf.keras` of the user's into
    another Keras; by then TFMOT holds its own tf_keras, so the variable can go again.
    """
    before = os.environ.get("TF_USE_LEGACY_KERAS")
    tf_keras()
    try:
        return _load("tensorflow_model_optimization", "tensorflow-model-optimization")
    finally:
        if before is None:
            os.environ.pop("TF_USE_LEGACY_KERAS", None)
        else:
            os.environ["TF_USE_LEGACY_KERAS"] = before


def keras_of(thing: object) -> types.ModuleType | None:
    """The Keras that a model, layer or class belongs to: tf_keras, keras, or None for neither.

    Looked up by the modules of its base classes, so that asking imports no Keras that the caller
    does not already use.
    """
    cls = thing if isinstance(thing, type) else type(thing)
    roots = {base.__module__.split(".")[0] for base in cls.__mro__}
    if "tf_keras" in roots:
        return tf_keras()
    if "keras" in roots:
        return keras()
    return None


def is_tf_keras(thing: object) -> bool:
    """Whether a model, layer or class is of tf_keras."""
    module = keras_of(thing)
    return module is not None and module.__name__ == "tf_keras"
