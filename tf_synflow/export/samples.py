"""Real inputs that a user gives: to compare on, and to calibrate int8 with."""

import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from tf_synflow import errors
from tf_synflow.export.signature import Input

Batch = dict[str, np.ndarray]
"""Arrays by input name; the first axis counts the samples."""

MOST_REPRESENTATIVE = 1024
"""How many samples calibrate at most: the ranges settle after a few hundred."""

_MOST_MAGNITUDE = 1e30
"""Above it a range may not fit into float32, where TFLite's calibrator takes the process down."""


def by_name(inputs: tuple[Input, ...], samples: Any, what: str) -> Batch:
    """Samples as arrays by input name, checked.

    Args:
      inputs: those of the model.
      samples: an array for a single input, a list of arrays in the order of the inputs, or a
        dictionary by input name; the first axis counts the samples.
      what: the name of the argument, for the errors.

    Raises:
      DataError: names, numbers or shapes that do not fit, no samples at all, NaN or infinity.
    """
    names = [item.name for item in inputs]
    if not isinstance(samples, Mapping):
        listed = [samples] if len(inputs) == 1 and not _is_list_of_one(samples) else list(samples)
        if len(listed) != len(names):
            raise errors.DataError(
                f"{what} holds {len(listed)} arrays; expected one for each input: {names}."
            )
        samples = dict(zip(names, listed, strict=True))
    if set(samples) != set(names):
        raise errors.DataError(f"{what} names {sorted(samples)}; expected the inputs {names}.")
    arrays = {item.name: _checked(item, samples[item.name], what) for item in inputs}
    if len({len(array) for array in arrays.values()}) != 1:
        counts = {name: len(array) for name, array in arrays.items()}
        raise errors.DataError(f"{what} differ in number: {counts}; expected as many of each.")
    return arrays


def representative(inputs: tuple[Input, ...], data: Any) -> Batch:
    """Calibration data as arrays by input name, checked; at most `MOST_REPRESENTATIVE` samples.

    Args:
      inputs: those of the model.
      data: as in `by_name`; or a tf.data.Dataset, a generator or another iterable of batches, each
        an array, a list or a dictionary as there, or a tuple of those and labels, as `fit` takes
        them; or a function that returns one of these, as TFLite's converter takes it.

    Raises:
      DataError: as in `by_name`; nothing was given, one value throughout, or one above 1e30.
    """
    what = "representative_data"
    if data is None:
        raise errors.DataError(
            f"{what} is missing; expected a few hundred real inputs, prepared as in training, from "
            "which the range of every activation is measured: representative_data=x_train[:500], a "
            "list or dictionary of arrays for several inputs, or a tf.data.Dataset of batches."
        )
    if isinstance(data, str | os.PathLike):
        raise errors.DataError(
            f"{what} is the path {str(data)!r}; expected arrays. Read it: numpy.load(path)."
        )
    if callable(data):
        data = data()
    if isinstance(data, Mapping | list | tuple | np.ndarray) or hasattr(data, "shape"):
        return _first(by_name(inputs, data, what))
    if not isinstance(data, Iterable):
        raise errors.DataError(
            f"{what} is a {type(data).__name__}; expected an array, a list or dictionary of "
            "arrays, or an iterable of batches."
        )
    batches, count = [], 0
    for item in data:
        batch = by_name(inputs, item[0] if isinstance(item, tuple) else item, what)
        batches.append(batch)
        count += len(next(iter(batch.values())))
        if count >= MOST_REPRESENTATIVE:
            break
    if not batches:
        raise errors.DataError(f"{what} yields no batch; expected at least one.")
    try:
        joined = {i.name: np.concatenate([batch[i.name] for batch in batches]) for i in inputs}
    except ValueError as error:
        raise errors.DataError(
            f"{what} yields samples of several shapes ({error}); expected one shape."
        ) from error
    return _first(joined)


def spread(given: Batch, most: int) -> Batch:
    """At most so many samples, from all over: what is listed by class has one class in front."""
    count = len(next(iter(given.values())))
    if count <= most:
        return given
    chosen = np.linspace(0, count - 1, most).astype(int)
    return {name: array[chosen] for name, array in given.items()}


def in_batches(given: Batch, size: int, whole: bool = True) -> Iterator[Batch]:
    """The samples in batches of `size`; with `whole` the last is filled up by repetition."""
    count = len(next(iter(given.values())))
    for start in range(0, count, size):
        chosen = np.arange(start, min(start + size, count))
        if whole:
            chosen = np.resize(chosen, size)
        yield {name: array[chosen] for name, array in given.items()}


def _first(given: Batch) -> Batch:
    """The samples that calibrate, if any range can be measured on them."""
    given = spread(given, MOST_REPRESENTATIVE)
    arrays = [array for array in given.values() if array.dtype.kind != "b"]
    if arrays and all(array.min() == array.max() for array in arrays):
        raise errors.DataError(
            f"representative_data hold {arrays[0].flat[0]:g} throughout; expected real inputs, "
            "prepared as in training: on one value no range can be measured, and the file would "
            "clip every other."
        )
    most = max((float(np.abs(a).max()) for a in arrays if a.dtype.kind == "f"), default=0)
    if most > _MOST_MAGNITUDE:
        raise errors.DataError(
            f"representative_data hold {most:g}; expected magnitudes up to {_MOST_MAGNITUDE:g}, of "
            "real inputs, prepared as in training."
        )
    return given


def _is_list_of_one(samples: Any) -> bool:
    return isinstance(samples, list | tuple) and len(samples) == 1


def _checked(item: Input, values: Any, what: str) -> np.ndarray:
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise errors.DataError(
            f"{what} for input {item.name!r}: {error}; expected one array. Join a list of batches: "
            "numpy.concatenate(batches)."
        ) from error
    fits = array.ndim == len(item.shape) and all(
        want is None or want == got
        for want, got in zip(item.shape[1:], array.shape[1:], strict=True)
    )
    is_batches = isinstance(values, list | tuple) and array.ndim == len(item.shape) + 1
    if not fits or not len(array):
        raise errors.DataError(
            f"{what} for input {item.name!r} have shape {array.shape}; expected at least one of "
            f"shape {item.shape[1:]}, counted along a first axis"
            + (": a single one is x[None]." if array.shape == item.shape[1:] else ".")
            + (" Join a list of batches: numpy.concatenate(batches)." if is_batches else "")
        )
    if array.dtype.kind not in "fiub":
        raise errors.DataError(
            f"{what} for input {item.name!r} are {array.dtype}; expected finite numbers of "
            f"{item.dtype}."
        )
    if broken := np.count_nonzero(~np.isfinite(array)):
        where = np.argmax(~np.isfinite(array).reshape(len(array), -1).all(axis=1))
        raise errors.DataError(
            f"{what} for input {item.name!r} hold {broken:,} values that are not finite, the first "
            f"in sample {where}; expected finite numbers of {item.dtype}."
        )
    with np.errstate(invalid="ignore", over="ignore"):
        cast = array.astype(item.dtype)
    if cast.dtype.kind != "f" and (changed := np.count_nonzero(cast != array)):
        raise errors.DataError(
            f"{what} for input {item.name!r} hold {changed:,} values that {item.dtype} does not, "
            f"{array[cast != array][0]:g} for one; expected whole numbers in its range, as the "
            "model is fed."
        )
    return cast
