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
      work: multiplications, or values looked at, in all; one thread does where they are few.
    """
    items = list(items)
    number = 1 if work is not None and work < _WORTH_SHARING else threads()
    if number == 1 or len(items) < 2:
        return [function(item) for item in items]
    return list(_pool(number).map(function, items))


def parts(size: int, work: int) -> list[slice]:
    """Slices of a range for the threads, one where there is too little to share.

    Args:
      size: of the range.
      work: multiplications, or values looked at, in all.
    """
    number = min(threads(), size, 1 + work // _WORTH_SHARING)
    edges = [size * i // number for i in range(number + 1)] if number else []
    return [slice(*pair) for pair in zip(edges, edges[1:], strict=False)]


@contextlib.contextmanager
def one_blas_thread() -> Iterator[None]:
    """BLAS with one thread, as long as it is entered."""
    with threadpoolctl.threadpool_limits(1, user_api="blas"):
        yield


# A tenth of a millisecond for one core, twice what it takes to wake a thread.
_WORTH_SHARING = 2_000_000


@functools.cache
def _pool(number: int) -> concurrent.futures.ThreadPoolExecutor:
    return concurrent.futures.ThreadPoolExecutor(number, thread_name_prefix="tf_synflow")
