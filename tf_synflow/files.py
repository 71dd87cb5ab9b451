"""Files that appear whole or not at all."""

import contextlib
import os
import pathlib
import shutil
from collections.abc import Iterator

from tf_synflow import errors


@contextlib.contextmanager
def whole(path: str | os.PathLike) -> Iterator[pathlib.Path]:
    """A path beside `path` to write to, which takes its place once the block has ended well.

    When the block raises, `path` is as it was and nothing is left beside it.

    Args:
      path: of the file or folder; what is there is replaced, a folder only by a file's name.

    Yields:
      The path to write a file, or make a folder, at; it has the suffix of `path`.

    Raises:
      OutputError: for an OSError in the block or in the end: a folder that is missing or cannot
        be written to, a full disk. Before the block for a device or a pipe, which would be
        replaced rather than written to.

    Example:
      >>> with whole("report.txt") as temporary:
      ...     temporary.write_text("all of it")
    """
    path = pathlib.Path(path)
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise errors.OutputError(
            f"{str(path)!r} is a device, a pipe or a socket; expected the name of a file, for what "
            "is there is replaced. Write a file, and send that where it shall go."
        )
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        raise errors.OutputError(
            f"{str(path)!r} could not be written ({error}); expected a folder that exists, can be "
            "written to and has enough room. Nothing was left there."
        ) from error
    finally:
        with contextlib.suppress(OSError):  # a read-only disk, on which there is nothing to remove
            if temporary.is_dir():
                shutil.rmtree(temporary)
            temporary.unlink(missing_ok=True)
