"""Model files of either Keras: read whichever it is, write whole or not at all."""

import os
from pathlib import Path
from typing import Any

from tf_synflow import files
from tf_synflow.errors import OutputError

SUFFIXES = (".keras", ".h5", "")


def load(path: str) -> Any:
    """Loads a `.keras` or `.h5` file or a SavedModel folder; pruned models too.

    Raises:
      OutputError: There is no such file or folder.
      ModelError: It is not a model, or damaged.
    """
    import tf_synflow

    return tf_synflow.load_model(path, compile=False)


def check_free(path: str, suffixes: tuple[str, ...]) -> None:
    """Checks, before anything long is done, that a path can be written and is free.

    Raises:
      OutputError: It exists, has another suffix, or its folder is missing or not writable.
    """
    target = Path(path)
    if target.suffix not in suffixes:
        expected = ", ".join(suffix or "none (a SavedModel folder)" for suffix in suffixes)
        raise OutputError(
            f"Output {path!r} received with suffix {target.suffix!r}; expected one of: {expected}."
        )
    if target.exists():
        raise OutputError(
            f"Output {path!r} exists already; expected a path that is free. Choose another, or "
            "remove it."
        )
    if not target.parent.is_dir() or not os.access(target.parent, os.W_OK):
        raise OutputError(
            f"Output folder {str(target.parent)!r} is missing or not writable; expected one that "
            "exists and can be written to."
        )


def save(model: Any, path: str) -> None:
    """Saves a model; the file or folder appears whole or not at all."""
    with files.whole(path) as temporary:
        model.save(temporary)
