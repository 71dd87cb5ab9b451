"""What holds for the whole process, changed for a while: settings, and who may speak."""

import contextlib
import functools
import logging
import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager


def shared(
    change: Callable[[], AbstractContextManager[None]],
) -> Callable[[], AbstractContextManager[None]]:
    """Makes a context that changes a setting of the process one that threads can be in together.

    Who comes first changes it and who leaves last puts it back. Each on its own would take what
    another has set for what was there before, and leave it so for good.

    Args:
      change: a context manager that sets and restores.

    Example:
      >>> @shared
      ... @contextlib.contextmanager
      ... def in_english():
      ...     before, os.environ["LANG"] = os.environ["LANG"], "C"
      ...     yield
      ...     os.environ["LANG"] = before
    """
    lock, changed, inside = threading.Lock(), contextlib.ExitStack(), 0

    @contextlib.contextmanager
    def entered() -> Iterator[None]:
        nonlocal inside
        with lock:
            if not inside:
                changed.enter_context(change())
            inside += 1
        try:
            yield
        finally:
            with lock:
                inside -= 1
                if not inside:
                    changed.close()

    return functools.wraps(change)(entered)


@shared
@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keeps warnings, logs and what C++ prints on standard error to itself.

    For the converter and the runtimes, which talk of their start and end. What goes wrong comes as
    an exception. Log levels and standard error are afterwards as before.
    """
    loggers = [logging.getLogger(name) for name in ("absl", "tensorflow")]
    levels = [logger.level for logger in loggers]
    with contextlib.ExitStack() as after:
        after.enter_context(mute())
        for logger, level in zip(loggers, levels, strict=True):
            after.callback(logger.setLevel, level)
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield


@shared
@contextlib.contextmanager
def mute() -> Iterator[None]:
    """Sends what is written to standard error, by C++ too, to nowhere."""
    sys.stderr.flush()
    saved = os.dup(2)
    try:
        with open(os.devnull, "w") as devnull:
            os.dup2(devnull.fileno(), 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
