"""The inputs on which a file is compared with its model."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from tf_synflow.export.samples import Batch, by_name, in_batches
from tf_synflow.export.signature import Input, Signature
from tf_synflow.flow.inputs import vocabulary as vocabulary_of

FREE_SIZE = 32
"""What stands for a free dimension other than the batch, unless samples tell better."""

_RANDOM = 6
_CHUNK = 32


def probes(
    signature: Signature,
    *,
    batch_size: int | None,
    samples: Any = None,
    seed: int = 0,
) -> Iterator[tuple[str, Batch]]:
    """Yields what a probe is called and its batch: zeros, ones, random ones, then the samples.

    Args:
      signature: the model, by its named inputs.
      batch_size: the file's batch; None where it takes any, and then single items and
          larger batches both occur.
      samples: an array for a single input, a list of arrays in the order of the inputs, or a
          dictionary by input name; the first axis counts the samples.
      seed: of the random inputs: standard normal, or whole numbers for integer inputs (below
          128) and for models with an Embedding or the like (below its vocabulary).
    """
    inputs = signature.inputs
    given = by_name(inputs, samples, "samples") if samples is not None else {}
    shapes = {item.name: _shape(item, given) for item in inputs}
    vocabulary = vocabulary_of(signature.model)
    single = batch_size or 1
    for name, value in (
        ("zeros", 0),
        ("ones", 1 if vocabulary is None else min(1, vocabulary - 1)),
    ):
        yield name, {i.name: np.full((single, *shapes[i.name]), value, i.dtype) for i in inputs}
    rng = np.random.default_rng(seed)
    sizes = [single] * _RANDOM if batch_size else [1, _RANDOM - 1]
    for size in sizes:
        yield (
            "random",
            {i.name: _random(rng, (size, *shapes[i.name]), i.dtype, vocabulary) for i in inputs},
        )
    if given:
        for batch in in_batches(given, batch_size or _CHUNK, whole=batch_size is not None):
            yield "sample", batch


def _random(
    rng: np.random.Generator, shape: tuple[int, ...], dtype: str, vocabulary: int | None
) -> np.ndarray:
    kind = np.dtype(dtype).kind
    if kind == "b":
        return rng.random(shape) < 0.5
    if kind == "f" and vocabulary is None:
        return rng.standard_normal(shape).astype(dtype)
    # Keras gives token inputs a float dtype too, unless told otherwise.
    return rng.integers(0, min(vocabulary or 128, 128), shape).astype(dtype)


def _shape(item: Input, given: Batch) -> tuple[int, ...]:
    """The shape of one item, a free dimension filled in."""
    if item.name in given:
        return given[item.name].shape[1:]
    return tuple(FREE_SIZE if size is None else size for size in item.shape[1:])
