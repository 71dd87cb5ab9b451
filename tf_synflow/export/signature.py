"""What goes into a model and comes out of it, by name, the same for both Kerases."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from tf_synflow import errors


class Input(NamedTuple):
    """One input: its name in the file, its shape with the batch first (None: free), its dtype."""

    name: str
    shape: tuple[int | None, ...]
    dtype: str


class Signature:
    """Calls a Keras model in inference mode with named tensors, and names what it returns.

    Args:
      model: a built tf_keras or Keras 3 model.
      names: of the inputs, in the model's order, to be made identifiers; by default those that the
        model gives them.

    Attributes:
      model: the model.
      inputs: the `Input`s, in the model's order.
    """

    def __init__(self, model: Any, names: Sequence[str] | None = None):
        tensors = getattr(model, "inputs", None)
        if not tensors:
            raise errors.ModelError(
                f"Model {model.name!r} has no defined inputs; expected a built Sequential or "
                "Functional model: give it an Input layer, or call build(input_shape)."
            )
        self.model = model
        names = _identifiers(names or [tensor.name for tensor in tensors])
        self.inputs = tuple(
            Input(name, tuple(tensor.shape), dtype_name(tensor.dtype))
            for name, tensor in zip(names, tensors, strict=True)
        )
        for item in self.inputs:
            if item.dtype == "string":
                raise errors.ModelError(
                    f"Input {item.name!r} takes strings; expected numbers or booleans. Export the "
                    "part of the model behind the text processing."
                )

    def __call__(self, **inputs: Any) -> dict[str, Any]:
        """The model's outputs by name, for tensors given by input name."""
        flat = [inputs[item.name] for item in self.inputs]
        outputs = self.model(self._arranged(flat), training=False)
        return self._named(outputs)

    def _arranged(self, flat: list) -> Any:
        """The tensors in the structure that the model's call takes."""
        structure = getattr(self.model, "input", None)  # a new Keras 3 Sequential has none
        if isinstance(structure, Mapping):
            place = {id(tensor): i for i, tensor in enumerate(self.model.inputs)}
            return {key: flat[place[id(tensor)]] for key, tensor in structure.items()}
        # Keras 3 warns where a model that was made with a list of one is called with the one.
        return flat if len(flat) > 1 or isinstance(structure, list | tuple) else flat[0]

    def _named(self, outputs: Any) -> dict[str, Any]:
        import tensorflow as tf

        flat = tf.nest.flatten(outputs)
        if isinstance(outputs, Mapping) and len(outputs) == len(flat):
            names = sorted(outputs)  # the order of tf.nest.flatten
        else:
            # A Keras 3 Sequential has no output_names; its last layer's is what tf_keras gives.
            names = getattr(self.model, "output_names", None) or [self.model.layers[-1].name]
            if len(names) != len(flat):
                names = [f"output_{i}" for i in range(len(flat))]
        return dict(zip(_identifiers(names), flat, strict=True))


def dtype_name(dtype: Any) -> str:
    """`float32` for Keras 3's string and for tf_keras' DType alike."""
    return dtype if isinstance(dtype, str) else dtype.name


def _identifiers(names: Sequence[str]) -> list[str]:
    """The names as distinct Python identifiers, which is what a TFLite signature can hold."""
    taken: list[str] = []
    for name in names:
        plain = re.sub(r"\W", "_", name.split(":")[0])
        plain = plain if plain[:1].isalpha() else f"x{plain}"
        stem, i = plain, 1
        while plain in taken:
            plain, i = f"{stem}_{i}", i + 1
        taken.append(plain)
    return taken
