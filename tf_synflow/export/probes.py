"""The inputs on which a file is compared with its model."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from tf_synflow import errors
from tf_synflow.export.signature import Input, Signature
from tf_synflow.flow import weights

FREE_SIZE = 32
"""What stands for a free dimension other than the batch, unless samples tell better."""

_RANDOM = 6
_CHUNK = 32

Batch = dict[str, np.ndarray]


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
          128) and for models with an Embedding (below its vocabulary).
    """
    inputs = signature.inputs
    given = _by_name(inputs, samples) if samples is not None else {}
    shapes = {item.name: _shape(item, given) for item in inputs}
    vocabulary = _vocabulary(signature.model)
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
        yield from _chunks(given, batch_size)


def _vocabulary(model: Any) -> int | None:
    """What the smallest Embedding in the model can look up; None if there is none."""
    sizes = [
        layer.input_dim
        for _, layer in weights.layers_of(model)
        if any(base.__name__ == "Embedding" for base in type(layer).__mro__)
    ]
    return min(sizes, default=None)


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


def _by_name(inputs: tuple[Input, ...], samples: Any) -> Batch:
    """The samples as arrays by input name, checked."""
    names = [item.name for item in inputs]
    if not isinstance(samples, Mapping):
        listed = [samples] if len(inputs) == 1 and not _is_list_of_one(samples) else list(samples)
        if len(listed) != len(names):
            raise errors.DataError(
                f"samples holds {len(listed)} arrays; expected one for each input: {names}."
            )
        samples = dict(zip(names, listed, strict=True))
    if set(samples) != set(names):
        raise errors.DataError(f"samples names {sorted(samples)}; expected the inputs {names}.")
    arrays = {item.name: _checked(item, samples[item.name]) for item in inputs}
    if len({len(array) for array in arrays.values()}) != 1:
        counts = {name: len(array) for name, array in arrays.items()}
        raise errors.DataError(f"samples differ in number: {counts}; expected as many of each.")
    return arrays


def _is_list_of_one(samples: Any) -> bool:
    return isinstance(samples, list | tuple) and len(samples) == 1


def _checked(item: Input, values: Any) -> np.ndarray:
    array = np.asarray(values)
    fits = array.ndim == len(item.shape) and all(
        want is None or want == got
        for want, got in zip(item.shape[1:], array.shape[1:], strict=True)
    )
    if not fits or not len(array):
        raise errors.DataError(
            f"samples for input {item.name!r} have shape {array.shape}; expected at least one of "
            f"shape {item.shape[1:]}, counted along a first axis."
        )
    if array.dtype.kind not in "fiub" or not np.isfinite(array).all():
        raise errors.DataError(
            f"samples for input {item.name!r} are {array.dtype} or not finite; expected finite "
            f"numbers of {item.dtype}."
        )
    return array.astype(item.dtype)


def _chunks(given: Batch, batch_size: int | None) -> Iterator[tuple[str, Batch]]:
    """The samples in batches; the last is filled up by repetition where the batch is fixed."""
    count = len(next(iter(given.values())))
    step = batch_size or _CHUNK
    for start in range(0, count, step):
        chosen = np.arange(start, min(start + step, count))
        if batch_size:
            chosen = np.resize(chosen, batch_size)
        yield "sample", {name: array[chosen] for name, array in given.items()}
