"""Flatbuffers read with every offset checked: hostile bytes cost little and raise cleanly.

A flatbuffer is tables that point at tables; where pointers meet, or a length lies, a reader that
trusts them loops for hours on a small file. Here each byte that is visited is paid for from a
budget in proportion to the file.
"""

import struct
from collections.abc import Iterator

import numpy as np

from tf_synflow import errors

# A file of the converter visits each byte about once, and shared vtables a few times more. A table
# costs as much as this many bytes, however small it is.
_VISITS = 16
_TABLE = 60


class Source:
    """The bytes of a file, read within bounds and within a budget.

    Args:
      content: the file's bytes.
    """

    def __init__(self, content: bytes):
        self.content = content
        self._budget = _VISITS * len(content) + 4096

    def scalar(self, code: str, position: int) -> int:
        """The little-endian number of struct's `code` at a position."""
        if not 0 <= position <= len(self.content) - struct.calcsize("<" + code):
            raise damaged(f"it points at byte {position} of {len(self.content)}")
        return struct.unpack_from("<" + code, self.content, position)[0]

    def span(self, position: int, size: int) -> np.ndarray:
        """The bytes of a range, not copied."""
        if position < 0 or size < 0 or position + size > len(self.content):
            raise damaged(
                f"it asks for {size} bytes at {position}, and has {len(self.content)} in all"
            )
        self.pay(size)
        return np.frombuffer(self.content, np.uint8, size, position)

    def pay(self, size: int) -> None:
        """Takes a visit of that many bytes off the budget."""
        self._budget -= size
        if self._budget < 0:
            raise damaged("its tables share their parts too often to be read in reasonable time")

    def table(self, position: int) -> "Table":
        """The table that an offset stored at `position` points at."""
        return Table(self, position + self.scalar("I", position))


class Table:
    """One table; fields go by their number in the schema, and an absent one has its default.

    Args:
      source: the file.
      position: where the table begins.
    """

    def __init__(self, source: Source, position: int):
        source.pay(_TABLE)
        self._source = source
        self._position = position
        vtable = position - source.scalar("i", position)
        size = source.scalar("H", vtable)
        self._fields = source.span(vtable, size)[4:].view("<u2") if size % 2 == 0 else ()

    def _field(self, number: int) -> int | None:
        """Where a field lies; None if it is absent."""
        if number >= len(self._fields) or not self._fields[number]:
            return None
        return self._position + int(self._fields[number])

    def number(self, field: int, code: str = "i", default: int = 0) -> int:
        """A scalar by its struct code."""
        position = self._field(field)
        return default if position is None else self._source.scalar(code, position)

    def table(self, field: int) -> "Table | None":
        """A table, or the member of a union."""
        position = self._field(field)
        return None if position is None else self._source.table(position)

    def array(self, field: int, dtype: str = "<i4") -> np.ndarray:
        """A vector of scalars, not copied; empty if it is absent."""
        position = self._field(field)
        if position is None:
            return np.empty(0, dtype)
        start = position + self._source.scalar("I", position)
        size = self._source.scalar("I", start) * np.dtype(dtype).itemsize
        return self._source.span(start + 4, size).view(dtype)

    def text(self, field: int) -> str:
        """A string, with `?` for what a terminal should not be sent."""
        letters = self.array(field, "<u1").tobytes().decode(errors="replace")
        return "".join(letter if letter.isprintable() else "?" for letter in letters)

    def tables(self, field: int) -> Iterator["Table"]:
        """A vector of tables."""
        position = self._field(field)
        if position is None:
            return
        start = position + self._source.scalar("I", position)
        count = self._source.scalar("I", start)
        self._source.span(start + 4, 4 * count)
        for i in range(count):
            yield self._source.table(start + 4 + 4 * i)


def damaged(what: str) -> errors.ModelError:
    """The error of a file that contradicts itself."""
    return errors.ModelError(
        f"The TFLite file is truncated or damaged: {what}; expected a whole .tflite file. Export "
        "or copy it again."
    )
