"""Work shared by threads, for what NumPy and BLAS do: both release the interpreter's lock.

BLAS can share out a product by itself, but its threads wait for one another by spinning: on a
machine with other work to do, a product then takes ten times as long. Here BLAS has one thread, and
products are cut into parts.
"""

import concurrent.futures
import contextlib
import functools
import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import threadpoolctl

from tf_synflow import process

T = TypeVar("T")


def threads() -> int:
    """How many threads TensorFlow was told to use within an op, by default all cores."""
    import tensorflow as tf

    told = tf.config.threading.get_intra_op_parallelism_threads()
    if told:
        return told
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def each(function: Callable[[Any], T], items: Iterable[Any], work: int | None = None) -> list[T]:
    """A function of each item, in order; as many at once as there are `threads`.

    Args:
      function: of one item.
      items: what it is called with.
      work: multiplications of a matrix product, or what takes as long; one thread does where it
        is little.
    """
    items = list(items)
    number = 1 if work is not None and work < _WORTH_SHARING else threads()
    helpers = min(number, len(items)) - 1
    if helpers < 1:
        return [function(item) for item in items]
    results, numbers = [None] * len(items), iter(range(len(items)))

    def take() -> None:
        for i in numbers:  # of which each thread gets others
            results[i] = function(items[i])

    others = [_pool(number).submit(take) for _ in range(helpers)]
    try:
        take()  # and does not wait for a thread to wake up
    finally:
        for other in others:
            if not other.cancel():
                other.result()
    return results


def parts(size: int, work: int) -> list[slice]:
    """Slices of a range for the threads, one where there is too little to share.

    Args:
      size: of the range.
      work: see `each`.
    """
    number = min(size, 1 + work // _WORTH_SHARING)
    if number > 1:  # to ask TensorFlow takes as long as a small product
        number = min(number, threads())
    edges = [size * i // number for i in range(number + 1)] if number else []
    return [slice(*pair) for pair in zip(edges, edges[1:], strict=False)]


def blocks(shape: tuple[int, int], work: int) -> list[tuple[slice, slice]]:
    """`parts` of a matrix, along the longer of its axes."""
    rows, columns = shape
    if rows > columns:
        return [(part, slice(0, columns)) for part in parts(rows, work)]
    return [(slice(0, rows), part) for part in parts(columns, work)]


@contextlib.contextmanager
def one_blas_thread() -> Iterator[None]:
    """BLAS with one thread, as long as anyone is inside."""
    # One kind of BLAS has a number of threads for the process, another one for each that calls it.
    with _one_blas_thread(), threadpoolctl.threadpool_limits(1, user_api="blas"):
        yield


@process.shared
@contextlib.contextmanager
def _one_blas_thread() -> Iterator[None]:
    # threadpoolctl heeds one thread at a time, and who leaves last may be another than came first.
    with concurrent.futures.ThreadPoolExecutor(1) as setter:
        limits = setter.submit(threadpoolctl.threadpool_limits, 1, user_api="blas").result()
        try:
            yield
        finally:
            setter.submit(limits.restore_original_limits).result()


# A millisecond for one core, five to ten times what it takes to wake a thread.
_WORTH_SHARING = 16_000_000


@functools.cache
def _pool(number: int) -> concurrent.futures.ThreadPoolExecutor:
    return concurrent.futures.ThreadPoolExecutor(number, thread_name_prefix="tf_synflow")
