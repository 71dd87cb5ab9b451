"""Files that appear whole or not at all."""

import contextlib
import os
import pathlib
import tempfile
from collections.abc import Iterator

from tf_synflow import errors


def check_name(path: str | os.PathLike) -> None:
    """`OutputError` for a name that no file can have: too long, or with a NUL in it."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        pass  # which is no fault of the name
    except (OSError, ValueError) as error:
        raise errors.OutputError(
            f"{str(path)!r} can be no file's name ({error}); expected one to write to."
        ) from error


@contextlib.contextmanager
def whole(path: str | os.PathLike) -> Iterator[pathlib.Path]:
    """A path near `path` to write to, which takes its place once the block has ended well.

    When the block raises, `path` is as it was and nothing is left beside it.

    Args:
      path: of the file or folder; a file that is there is replaced, a folder only if it is empty
        and by a folder. Of a link, what it leads to.

    Yields:
      The path to write a file, or make a folder, at; it has the name of `path`.

    Raises:
      OutputError: for an OSError in the block or in the end: a folder that is missing or cannot
        be written to, a full disk. Before the block for a device or a pipe, which would be
        replaced rather than written to.

    Example:
      >>> with whole("report.txt") as temporary:
      ...     temporary.write_text("all of it")
    """
    path = pathlib.Path(path)
    check_name(path)
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise errors.OutputError(
            f"{str(path)!r} is a device, a pipe or a socket; expected the name of a file, for what "
            "is there is replaced. Write a file, and send that where it shall go."
        )
    target = pathlib.Path(os.path.realpath(path))
    try:
        # On the same disk, and of this writer alone: another thread may be writing there too.
        with tempfile.TemporaryDirectory(
            prefix=".", dir=target.parent, ignore_cleanup_errors=True
        ) as folder:
            temporary = pathlib.Path(folder) / path.name
            yield temporary
            os.replace(temporary, target)
    except errors.OutputError:
        raise
    except OSError as error:
        raise errors.OutputError(
            f"{str(path)!r} could not be written ({error}); expected a folder that exists, can be "
            "written to and has enough room. What was there is as it was."
        ) from error
