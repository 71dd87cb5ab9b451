"""A deployment report as one HTML page that needs nothing else: no network, no script."""

import html
import pathlib
from typing import Any

from tf_synflow.deployment.charts import bar, strip
from tf_synflow.deployment.machine import is_host
from tf_synflow.deployment.style import CSS
from tf_synflow.tables import share, size
from tf_synflow.targets import TARGETS

_MANY = 6
"""Layers that are listed at once; of more, on demand."""
_FEW = 0.05
"""Share of zeros under which a file is dense: rounding makes zeros of the smallest weights."""


def page(report: Any) -> str:
    """The page of a `DeploymentReport`."""
    name = html.escape(pathlib.Path(report.path).name)
    parts = (
        _head,
        _tiles,
        _notes,
        _sizes,
        _reasons,
        _chains,
        _measured,
        _layers,
        _constants,
        _footer,
    )
    body = "\n".join(filter(None, (part(report) for part in parts)))
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{name}: deployment report</title><style>{CSS}</style></head>\n"
        f"<body><main>\n{body}\n</main></body></html>"
    )


def _head(report: Any) -> str:
    counts, total = report.counts(), len(report.ops)
    lead = f"{share(report.zeros, report.elements)} of its {report.elements:,} weights are zero. "
    if counts["refused"]:
        lead += f"{counts['refused']} of {total} ops with weights do not run there, or run wrongly."
    elif counts["sparse"]:
        lead += f"{counts['sparse']} of {total} ops with weights skip their zeros there."
    elif report.zeros < _FEW * report.elements:
        lead += "Nothing is left to skip: a smaller file of this kind has smaller layers."
    else:
        lead += "No op skips those zeros there: they may make the file smaller, not faster."
    return (
        f'<header><p class="eyebrow">Deployment report · {html.escape(TARGETS[report.target])}</p>'
        f"<h1>{html.escape(pathlib.Path(report.path).name)}</h1>"
        f'<p class="lead">{lead}</p></header>'
    )


def _tiles(report: Any) -> str:
    counts = report.counts()
    tiles = [(size(report.file_bytes), "file", _times(report.baseline_bytes, report.file_bytes))]
    tiles.append((share(report.zeros, report.elements), "of the weights are zero", ""))
    tiles.append((f"{counts['sparse']} of {len(report.ops)}", "ops run sparse", ""))
    own = report.measured.of(report.path) if report.measured else None
    base = report.measured.of(report.baseline) if own and report.baseline else None
    if own is None:
        tiles += [("–", what, "not measured") for what in ("latency", "load time", "peak memory")]
    else:
        ratio = own.times_faster / base.times_faster if base else 1
        faster = f"{ratio:.2f} times as fast as the baseline" if base else ""
        where = "" if is_host(report.target) else f" here, not on {report.target}"
        tiles.append((_milliseconds(own.latency_ms), f"latency{where}", faster))
        tiles.append(
            (
                _milliseconds(own.load_ms),
                f"load time{where}",
                f"baseline {_milliseconds(base.load_ms)}" if base else "",
            )
        )
        peak = "–" if own.peak_bytes is None else size(own.peak_bytes)
        other = f"baseline {size(base.peak_bytes)}" if base and base.peak_bytes else ""
        tiles.append((peak, f"peak memory{where}", other if own.peak_bytes else "not measured"))
    return (
        '<div class="tiles">'
        + "".join(
            f'<div class="tile"><b>{value}</b><span>{what}</span><span>{more}</span></div>'
            for value, what, more in tiles
        )
        + "</div>"
    )


def _sizes(report: Any) -> str:
    rows = [("this file", report.file_bytes), ("with zlib", report.zlib_bytes)]
    rows.append(("with zstd", report.zstd_bytes))
    rows.append(("entropy floor", report.floor_bytes))
    if report.baseline_bytes:
        rows.insert(0, (f"baseline, {pathlib.Path(report.baseline).name}", report.baseline_bytes))
    widest = max(value for _, value in rows)
    lines = []
    for name, value in rows:
        drawn = bar([("kept", value)], widest, f"{name}: {value} bytes")
        lines.append(
            f"<div><span>{html.escape(name)}</span>{drawn}"
            f'<span class="num">{size(value)}</span></div>'
        )
    return (
        "<section><h2>Size</h2>"
        f'<div class="bars">{"".join(lines)}</div>'
        '<p class="soft" style="margin-top:12px">Entropy floor: ideally coded positions and '
        "the kept values, floats as they are, whole numbers by their entropy; the graph itself is "
        "not counted. A compressor that finds patterns in floats gets below it.</p></section>"
    )


def _layers(report: Any) -> str:
    if not report.ops:
        return "<section><h2>Layers</h2><p>No op of this file holds weights.</p></section>"
    density = [
        (f"{op.layer}: {_kept(op)} kept", [("kept", op.content.density or 0)]) for op in report.ops
    ]
    bytes_ = [(f"{op.layer}: {size(op.content.bytes)}", _stored(op)) for op in report.ops]
    largest = max(op.content.bytes for op in report.ops)
    densest = max(op.content.density or 0 for op in report.ops)
    strips = (
        f'<div><div class="ends"><b>Density</b><span>top: {densest:.2%}</span></div>'
        f"{strip(density, 'Density of each layer')}"
        '<p class="key">layers in the order they run, from the left</p></div>'
        f'<div><div class="ends"><b>Bytes</b><span>top: {size(largest)}</span></div>'
        f"{strip(bytes_, 'Bytes of each layer')}"
        '<p class="key">layers in the order they run, from the left</p></div>'
    )
    head = ("layer", "density", "", "bytes", "", "runs")
    rows = "".join(_layer(op, largest) for op in report.ops)
    return (
        f'<section><h2>Layers</h2><div class="strips">{strips}</div>'
        '<p class="key"><i style="background:var(--kept)"></i>values'
        '<i style="background:var(--index)"></i>indices of sparse encoding</p>'
        f'<div class="layers"><div class="head">{"".join(f"<span>{h}</span>" for h in head)}</div>'
        f"{rows}</div></section>"
    )


def _layer(op: Any, largest: int) -> str:
    content = op.content
    shape = "×".join(map(str, content.shape))
    kept = bar([("kept", content.density or 0)], 1, f"{_kept(op)} kept")
    stored = bar(_stored(op), largest, f"{content.bytes:,} bytes, {content.index_bytes:,} indices")
    dense = "" if content.encoding == "dense" else f" of {size(content.dense_bytes)}"
    return (
        f'<div><span class="name"><b>{html.escape(op.layer)}</b>'
        f"<small>{html.escape(op.kind)} · {shape} {content.dtype} · {_encoding(content)}</small>"
        "</span>"
        f'<span class="chart">{kept}</span><span class="num density">{_kept(op)}</span>'
        f'<span class="chart">{stored}</span><span class="num">{size(content.bytes)}{dense}</span>'
        f"<span>{_badge(op.runs)}</span></div>"
    )


def _reasons(report: Any) -> str:
    if not report.ops:
        return ""
    items = []
    for runs, why, layers in report.reasons():
        names = html.escape(", ".join(layers))
        if len(layers) > _MANY:
            names = f"<details><summary>{len(layers)} ops</summary>{names}</details>"
        items.append(_why(runs, why, names))
    return (
        f"<section><h2>What {html.escape(report.target)} makes of it</h2>"
        f'<ul class="why">{"".join(items)}</ul></section>'
    )


def _chains(report: Any) -> str:
    if not report.chains:
        return ""
    items = []
    for chain in report.chains:
        zeros = share(chain.zeros, chain.weights)
        runs = "dense" if chain.broken or report.target == "cpu-x86" else "sparse"
        why = chain.broken or "unbroken from a padded 3×3 stem to a global mean"
        ops = f"ops {min(chain.ops)} to {max(chain.ops)}"
        if len(chain.ops) == 1:
            ops = f"op {min(chain.ops)}"
        said = f"{ops}: {zeros} of {chain.weights:,} weights of 1×1 convolutions are zero."
        items.append(_why(runs, why, said))
    off = " On an x86 CPU with AVX it is switched off." if report.target == "cpu-x86" else ""
    return (
        "<section><h2>XNNPACK's sparse inference</h2>"
        '<p class="soft">Chains of 1×1 convolutions run sparse together or not at all: from a 3×3 '
        "stem with stride 2, padded by 1, to a global mean, in float, with more than two thirds of "
        f"the 1×1 weights zero and stored sparse.{off}</p>"
        f'<ul class="why">{"".join(items)}</ul></section>'
    )


def _notes(report: Any) -> str:
    notes = [note for note in report.notes() if note != report.unmeasured]
    said = "".join(f"<p>{html.escape(note)}</p>" for note in notes)
    return f"<section><h2>Mind</h2>{said}</section>" if notes else ""


def _measured(report: Any) -> str:
    notes = f"<p>{html.escape(report.unmeasured)}</p>" if report.unmeasured else ""
    if report.measured is None:
        return f"<section><h2>Measured</h2>{notes}</section>"
    head = (
        "file",
        "threads",
        "latency",
        "half of the rounds",
        "times as fast",
        "load",
        "peak memory",
    )
    names = report.measured.names()
    rows = [
        (
            html.escape(names[m.path]) + _runtime(m.runtime),
            str(m.threads),
            _milliseconds(m.latency_ms),
            f"{_milliseconds(m.latency_low_ms)} to {_milliseconds(m.latency_high_ms)}",
            f"{m.times_faster:.2f}",
            _milliseconds(m.load_ms),
            "not measured" if m.peak_bytes is None else size(m.peak_bytes),
        )
        for m in report.measured.measurements
    ]
    said = "".join(f'<p class="soft">{html.escape(s)}</p>' for s in report.measured.conditions())
    return f"<section><h2>Measured</h2>{_table(head, rows)}<br>{said}{notes}</section>"


def _constants(report: Any) -> str:
    head = ("tensor", "shape", "type", "encoding", "zeros", "bytes", "dense", "floor")
    rows = [
        (
            html.escape(tensor.name),
            "×".join(map(str, tensor.shape)) or "scalar",
            tensor.dtype,
            _encoding(tensor),
            "–" if tensor.zeros is None else share(tensor.zeros, tensor.elements),
            f"{tensor.bytes:,}",
            f"{tensor.dense_bytes:,}",
            f"{tensor.floor_bytes:,.0f}",
        )
        for tensor in report.tensors
    ]
    return (
        f"<section><details><summary>All {len(rows)} constants</summary>"
        f"{_table(head, rows, words=4)}</details></section>"
    )


def _footer(report: Any) -> str:
    said = ", ".join(f"{name} {version}" for name, version in report.versions.items())
    return f"<footer>{html.escape(report.path)} · {html.escape(said)}</footer>"


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]], words: int = 1) -> str:
    """A table; the first `words` columns are words, the others numbers."""
    kinds = ["long"] + [""] * (words - 1) + ["num"] * (len(head) - words)
    first = "".join(f'<th class="{k}">{h}</th>' for k, h in zip(kinds, head, strict=True))
    body = "".join(
        "<tr>"
        + "".join(f'<td class="{k}">{c}</td>' for k, c in zip(kinds, row, strict=True))
        + "</tr>"
        for row in rows
    )
    return f'<div class="scroll"><table><tr>{first}</tr>{body}</table></div>'


def _why(runs: str, reason: str, more: str) -> str:
    """A verdict as an item of a list; `more` is HTML."""
    sentence = html.escape(reason[:1].upper() + reason[1:])
    return f'<li>{_badge(runs)}<div><p>{sentence}.</p><p class="soft">{more}</p></div></li>'


def _badge(runs: str) -> str:
    return f'<span class="badge {runs}">{runs}</span>'


def _stored(op: Any) -> list[tuple[str, float]]:
    content = op.content
    return [("kept", content.bytes - content.index_bytes), ("index", content.index_bytes)]


def _encoding(content: Any) -> str:
    return content.encoding + (", densified" if content.densified else "")


def _kept(op: Any) -> str:
    return "–" if op.content.density is None else f"{op.content.density:.2%}"


def _times(baseline: int | None, own: int) -> str:
    return f"{baseline / own:.2f} times smaller than the baseline" if baseline else ""


def _runtime(name: str) -> str:
    return "" if name == "interpreter" else f", {html.escape(name)}"


def _milliseconds(value: float) -> str:
    return f"{value:.3g} ms" if value >= 1 else f"{1000 * value:.3g} µs"
