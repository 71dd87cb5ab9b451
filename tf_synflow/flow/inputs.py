"""What a model is fed: ones for its scoring, random numbers where two models are compared."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tf_synflow import errors
from tf_synflow.flow import weights

Shape = Sequence[int]


def shapes(inputs: Sequence[Any], input_shape: Any = None, *, model: str) -> list[tuple[int, ...]]:
    """The shape of one example for each input of a model.

    Args:
      inputs: symbolic inputs, batch first, in which a dimension may be undefined.
      input_shape: shapes that fill in what is undefined, without the batch: one for a single
        input, a list in the order of the inputs, or a mapping by input name.
      model: name, for the errors.

    Raises:
      ModelError: a dimension is undefined and not given, or the given one contradicts the model.
    """
    given = _by_input(inputs, input_shape, model)
    found = []
    for tensor, shape in zip(inputs, given, strict=True):
        own = tuple(tensor.shape)[1:]
        if shape is None and None in own:
            raise errors.ModelError(
                f"model {model!r}: received an input {_name(tensor)!r} of shape {(None, *own)}; "
                "expected every dimension but the batch to be defined, as SynFlow feeds it an "
                "example of ones. Say which shape the model will be used with, without the batch: "
                f"input_shape={tuple(64 if n is None else n for n in own)}."
            )
        shape = own if shape is None else tuple(shape)
        fits = len(shape) == len(own) and all(
            isinstance(n, int) and n > 0 and known in (None, n)
            for n, known in zip(shape, own, strict=False)
        )
        if not fits:
            raise errors.ModelError(
                f"input_shape: received {shape} for the input {_name(tensor)!r} of model "
                f"{model!r}; expected a shape without the batch that fits {own}, where None "
                "stands for any size."
            )
        found.append(shape)
    return found


def _by_input(inputs: Sequence[Any], input_shape: Any, model: str) -> list[Shape | None]:
    if input_shape is None:
        return [None] * len(inputs)
    if isinstance(input_shape, Mapping):
        names = [_name(tensor) for tensor in inputs]
        unknown = [name for name in input_shape if name not in names]
        if unknown:
            raise errors.UnknownNameError(f"input of model {model!r}", unknown[0], names)
        return [input_shape.get(name) for name in names]
    if not isinstance(input_shape, Sequence) or isinstance(input_shape, str):
        raise errors.ModelError(
            f"input_shape: received {input_shape!r}; expected a shape without the batch, as "
            "(64, 64, 3), a list of them for several inputs, or a mapping by input name."
        )
    shapes = list(input_shape)
    if all(isinstance(n, int) for n in shapes):
        shapes = [shapes]
    if len(shapes) != len(inputs):
        raise errors.ModelError(
            f"input_shape: received {len(shapes)} shapes for the {len(inputs)} inputs of model "
            f"{model!r}; expected one for each, without the batch, in their order or by name."
        )
    return shapes


def _name(tensor: Any) -> str:
    return str(tensor.name).split(":")[0]


def random(model: Any, size: int, *, batch: int = 2, seed: int = 0) -> list[tf.Tensor]:
    """Random values for a model's inputs, flat: standard normal, or tokens that it can look up.

    Args:
      model: built Sequential or Functional model of either Keras.
      size: of the dimensions that the model leaves open.
      batch: of the examples, where the model leaves it open.
      seed: of the numbers.
    """
    generator = np.random.RandomState(seed)
    rows = vocabulary(model)

    def draw(tensor: Any) -> tf.Tensor:
        known, *sizes = tuple(tensor.shape)
        shape = [known or batch, *(n or size for n in sizes)]
        dtype = tf.as_dtype(tensor.dtype)
        if dtype == tf.string:
            return tf.fill(shape, "a")
        if not dtype.is_floating:  # tokens
            return tf.cast(
                generator.randint(0, min(rows or 100, 2 if dtype.is_bool else 100), shape), dtype
            )
        # An embedding reads a fraction as token 0.
        values = generator.random_sample(shape) if rows else generator.standard_normal(shape)
        return tf.cast(values, dtype)

    return [draw(tensor) for tensor in model.inputs]


def sizes(model: Any) -> tuple[int, ...]:
    """Sizes to try one after the other for what a model leaves open; one where it does not."""
    is_open = any(None in tuple(tensor.shape)[1:] for tensor in model.inputs)
    return (32, 64, 128, 224) if is_open else (32,)


def vocabulary(model: Any) -> int | None:
    """How many tokens every layer of a model that looks them up knows; None where none does."""
    rows = [
        getattr(layer, attribute)
        for _, layer in weights.layers_of(model)
        for attribute in ("input_dim", "num_tokens")
        if isinstance(getattr(layer, attribute, None), int)
    ]
    return min(rows, default=None)
