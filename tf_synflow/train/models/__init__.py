"""The models, by name. One file a family: a new model is one new file with `@register`.

Every model is defined once, for either Keras, and ends in float32 logits.
"""

import importlib
import pkgutil
from types import ModuleType
from typing import Any

from tf_synflow.errors import ModelError, QuantityError
from tf_synflow.train.models.layer_kit import LayerKit
from tf_synflow.train.models.registry import look_up, registered

for _family in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_family.name}")


def names() -> tuple[str, ...]:
    """Names that `build` takes, sorted."""
    return registered()


def build(
    name: str,
    *,
    input_shape: tuple[int, int, int],
    num_classes: int,
    width: float = 1.0,
    keras: ModuleType,
    seed: int = 0,
    dtype: str = "float32",
) -> Any:
    """Builds a model of the paper with freshly drawn weights.

    Args:
      name: One of `names()`.
      input_shape: Height, width and channels of an image.
      num_classes: Units of the head, at least 1.
      width: Factor on the channels of every layer but the head, above 0; no layer gets fewer
        than 8 channels.
      keras: The module to build with, `tf_keras` or `keras`.
      seed: All weights follow from it and from the layer names.
      dtype: Policy of the layers: `"float32"`, `"mixed_bfloat16"` or `"mixed_float16"`; the head
        computes in float32 under each.

    Returns:
      An uncompiled functional model that maps images to logits.

    Raises:
      UnknownNameError: No model has this name.
      QuantityError: `width` or `num_classes` is out of range.
      ModelError: The images are too small for the model.

    Example:
      >>> import tf_keras
      >>> model = build("mlp", input_shape=(8, 8, 1), num_classes=10, keras=tf_keras)
      >>> model.output_shape
      (None, 10)
    """
    entry = look_up(name)
    if not width > 0:
        raise QuantityError(f"width received: {width!r}; expected a number above 0 (1: paper's).")
    if num_classes < 1:
        raise QuantityError(f"num_classes received: {num_classes!r}; expected at least 1.")
    if min(input_shape[:2]) < entry.min_size:
        raise ModelError(
            f"Model {name!r} received images of {input_shape[0]}x{input_shape[1]}; expected at "
            f"least {entry.min_size}x{entry.min_size}. Use a larger image size or another model."
        )
    kit = LayerKit(keras, seed=seed, dtype=dtype, width=width)
    image = keras.Input(shape=tuple(input_shape), name="image")
    return keras.Model(image, entry.build(kit, image, num_classes), name=name)
