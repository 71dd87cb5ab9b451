"""The rows of a benchmark in its CSV file: written as they come, so that a run can be resumed."""

import csv
import pathlib
from collections.abc import Sequence
from typing import Any


def read(path: pathlib.Path) -> list[dict[str, Any]]:
    """All rows, each cell as text; none where there is no file yet."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def write(
    path: pathlib.Path, rows: Sequence[dict[str, Any]], columns: Sequence[str] | None = None
) -> None:
    """All rows, by default with the columns of the first, or the file stays as it was."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.tmp")
    with temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns or list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    temporary.replace(path)
