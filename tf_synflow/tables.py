"""Numbers and aligned columns as people read them."""

from collections.abc import Collection, Sequence


def table(rows: Sequence[Sequence[str]], left: Collection[int] = (0,)) -> list[str]:
    """Rows as lines; the columns in `left` are aligned on the left, the others on the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if place in left else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def size(number: float) -> str:
    """Bytes in decimal units: `912 B`, `12.30 kB`, `456.0 MB`."""
    for unit, step in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if number >= step:
            return f"{number / step:.{1 if number >= 100 * step else 2}f} {unit}"
    return f"{number:.0f} B"


def share(part: int | None, whole: int) -> str:
    """A percentage; `-` of nothing, and of what is not known."""
    return f"{part / whole:.2%}" if whole and part is not None else "-"


def shortened(name: str, width: int = 40) -> str:
    """The end of a long name, which tells most."""
    return name if len(name) <= width else "…" + name[1 - width :]
