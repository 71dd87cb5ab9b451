"""The progress bar on everything that takes over two seconds."""

import sys
from typing import Any

import tqdm

from tf_synflow import errors

DELAY_SECONDS = 2
# A bar redraws itself on a terminal; in a log every drawing is one more line to read.
SECONDS_BETWEEN_LOG_LINES = 10


def bar(*args: Any, verbose: bool | str = "auto", **kwargs: Any) -> tqdm.tqdm:
    """A tqdm bar on standard error.

    Args:
      *args: those of `tqdm.tqdm`.
      verbose: True shows the bar at once, False never, `"auto"` once two seconds have passed.
      **kwargs: those of `tqdm.tqdm`.

    Raises:
      UnknownNameError: another `verbose`.

    Example:
      >>> for item in bar(items, desc="pruning", unit="round"):
      ...     work(item)
    """
    check_verbose(verbose)
    return tqdm.tqdm(
        *args,
        disable=not verbose,
        delay=DELAY_SECONDS if verbose == "auto" else 0,
        mininterval=0.1 if sys.stderr.isatty() else SECONDS_BETWEEN_LOG_LINES,
        **kwargs,
    )


def check_verbose(verbose: Any) -> None:
    """`UnknownNameError` unless it is True, False (1 and 0 too) or `"auto"`."""
    if verbose not in (True, False, "auto"):
        raise errors.UnknownNameError("verbose", verbose, ("True", "False", "'auto'"))
