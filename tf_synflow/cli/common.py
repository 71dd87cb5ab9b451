"""What the command-line tools share."""

import atexit
import importlib
import os
import sys
from collections.abc import Callable

from absl import app, flags, logging

from tf_synflow import process
from tf_synflow.errors import QuantityError, TfSynflowError


def run(main: Callable[..., None], module: str, *, positional: bool = False) -> None:
    """Parses the flags, runs `main`, prints a typed error as one message and exits with 1.

    Args:
      main: The tool; it takes no arguments, or the list of those that are no flags.
      module: `__name__` of the module that defines the tool and its flags.
      positional: Whether it takes that list; otherwise such an argument is an error.
    """
    # TensorFlow's start-up notes would bury the table; its errors are Python exceptions too.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    atexit.register(_end_quietly)  # the first to be registered runs last
    _show_own_flags_in_help(module)
    app.run(lambda argv: _guarded(main, argv, positional))


def import_tensorflow() -> None:
    """Imports TensorFlow without the notes that its C++ prints before it reads its settings."""
    with process.mute():
        importlib.import_module("tensorflow")


def usage_error(flag: str, received: object, expected: str) -> QuantityError:
    """The error of a flag whose value is not understood."""
    return QuantityError(f"--{flag} received: {received!r}; expected {expected}.")


def _end_quietly() -> None:
    """LiteRT's C++ announces the end of its accelerators when all has been said."""
    sys.stderr.flush()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


def _guarded(main: Callable[..., None], argv: list[str], positional: bool) -> int:
    if len(argv) > 1 and not positional:
        _print_error(f"unexpected argument {argv[1]!r}; expected flags only. See --help.")
        return 1
    if not flags.FLAGS["verbosity"].present:
        logging.set_verbosity(logging.WARNING)
    try:
        main(*([argv[1:]] if positional else []))
    except TfSynflowError as error:
        _print_error(error)
        return 1
    except KeyboardInterrupt:
        _print_error("interrupted")
        return 130  # as of a process that the signal ends
    return 0


def _print_error(message: object) -> None:
    print(f"{os.path.basename(sys.argv[0])}: error: {message}", file=sys.stderr)


def _show_own_flags_in_help(module: str) -> None:
    """The help of absl shows the flags of sys.argv[0], which a console script does not define."""
    for flag in flags.FLAGS.get_flags_for_module(module):
        flags.FLAGS.register_key_flag_for_module(sys.argv[0], flag)
    sys.modules["__main__"].__doc__ = sys.modules[module].__doc__
