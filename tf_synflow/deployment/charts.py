"""Bars as SVG that stretches with the page; the words beside them are HTML."""

import html
from collections.abc import Sequence

_COLUMNS = 12
"""Of a strip, at least, so that the bars of a few layers are bars."""


def bar(parts: Sequence[tuple[str, float]], whole: float, label: str) -> str:
    """A horizontal bar on a track.

    Args:
      parts: class and size of each part, from the left.
      whole: what fills the track.
      label: what it shows, for those who hover over it or cannot see it.
    """
    rectangles, start = [], 0.0
    for kind, value in parts:
        width = 100 * value / whole if whole else 0.0
        if value:
            # What is there can be seen: a third of a percent at least.
            rectangles.append(_rectangle(kind, start, 0, max(width, 0.35), 100))
        start += width
    track = _rectangle("track", 0, 0, 100, 100)
    return _svg("bar", "0 0 100 100", [track, *rectangles], label)


def strip(columns: Sequence[tuple[str, Sequence[tuple[str, float]]]], label: str) -> str:
    """Vertical bars side by side, one a layer, on a common scale; any number of them fits.

    Args:
      columns: of each bar its label and its parts, class and size, from the bottom.
      label: what the whole shows.
    """
    highest = max((sum(v for _, v in parts) for _, parts in columns), default=0) or 1
    gap = 0.22 if len(columns) < 120 else 0.0
    rectangles = []
    for place, (name, parts) in enumerate(columns):
        rectangles.append(f"<g><title>{html.escape(name)}</title>")
        rectangles.append(_rectangle("track", place + gap / 2, 0, 1 - gap, 100))
        top = 100.0
        for kind, value in parts:
            height = 100 * value / highest
            top -= height
            if value:
                rectangles.append(
                    _rectangle(kind, place + gap / 2, min(top, 99), 1 - gap, max(height, 1))
                )
        rectangles.append("</g>")
    return _svg("strip", f"0 0 {max(len(columns), _COLUMNS)} 100", rectangles, label)


def _rectangle(kind: str, x: float, y: float, width: float, height: float) -> str:
    return (
        f'<rect class="{kind}" x="{x:.3f}" y="{y:.3f}" width="{width:.3f}" height="{height:.3f}"/>'
    )


def _svg(kind: str, box: str, shapes: Sequence[str], label: str) -> str:
    return (
        f'<svg class="{kind}" viewBox="{box}" preserveAspectRatio="none" role="img" '
        f'aria-label="{html.escape(label)}"><title>{html.escape(label)}</title>'
        f"{''.join(shapes)}</svg>"
    )
