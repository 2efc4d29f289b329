"""The demo's report: one HTML file with its pictures inside."""

from __future__ import annotations

import base64
import html
import io
import json
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from behavior.printable import printable
from behavior.shards.manifest import Manifest
from behavior.shards.names import STATS

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 54rem; margin: 2rem auto; padding: 0 1rem }
body { color: #222 } table { border-collapse: collapse; margin: 1rem 0 }
th, td { padding: .3rem .8rem; border-bottom: 1px solid #ddd }
th { text-align: left } td.number { text-align: right; font-variant-numeric: tabular-nums }
img { max-width: 100%; margin: 1rem 0 } h2 { margin-top: 2.5rem }
"""
_ABOVE = "No floor is above a model, by NDCG@10 or HR@10"


def write_report(
    out: Path,
    record: dict[str, Any],
    tables: tuple[
        list[tuple[str, float, float, str]],
        list[tuple[str, float, float]],
        list[tuple[str, list[tuple[str, str]]]],
    ],
    manifest: Manifest,
    models: dict[str, str],
    below: list[str],
) -> Path:
    """Write `report.html`.

    Args:
        out: folder of the demo, with shards/ and runs/.
        record: results and seconds.
        tables: rows of the result table, and of that of repeat and explore targets; what some people did
            and what is recommended to them.
        manifest: of the shards.
        models: kind -> label of the trained models.
        below: which of them are below which floors, a sentence each.
    """
    stats = json.loads((out / "shards" / STATS).read_text(encoding="utf-8"))
    rows, repeats, people = tables
    parts = [
        "<h1>lrm demo</h1>",
        "<p>A synthetic log of views, carts and purchases, prepared into shards; each model predicts every "
        "user's last purchase among all items. The oracles know how the log was made: one knows the latent "
        "interest at the purchase, the other infers it from the same history the models see.</p>",
        "<h2>Results</h2>",
        _table(("ranker", "NDCG@10", "HR@10", "of the history oracle"), rows),
        _image(_bars(rows), "NDCG@10 of each ranker"),
        "<p>Floors need no training: what counting alone reaches. A target is a repeat target where its item "
        "stands in the user's history, and an explore target where it does not.</p>",
        *(f"<p><strong>{_escaped(line)}.</strong></p>" for line in below or [_ABOVE]),
        _table(("ranker", "NDCG@10 of repeat targets", "of explore targets"), repeats),
        "<h2>Recommendations</h2>",
        "<p>What HSTU, trained anew on every event, expects some people to buy next, as the log ends.</p>",
        *(
            f"<h3>{_escaped(caption)}</h3>{_table(('did last, newest first', 'recommended'), each)}"
            for caption, each in people
        ),
        "<h2>The data</h2>",
        _table(("", "number"), list(manifest.counts.model_dump().items())),
        _table(("behavior", "events"), list(stats["behaviors"].items())),
        _image(_lengths(stats), "sequence lengths"),
    ]
    for kind, label in models.items():
        parts.append(f"<h2>Training {_escaped(label)}</h2>")
        for picture in sorted((out / "runs" / kind / "curves").glob("*.png")):
            parts.append(_image(picture.read_bytes(), f"{label}: {picture.stem}"))
    times = [(name, round(value, 1)) for name, value in record["seconds"].items()]
    parts += ["<h2>Where the time went</h2>", _table(("step", "seconds"), times)]
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>lrm demo</title>'
        f"<style>{_STYLE}</style></head><body>{''.join(parts)}</body></html>"
    )
    path = out / "report.html"
    path.write_text(page, encoding="utf-8")
    return path


def _table(header: tuple[str, ...], rows: list[Any]) -> str:
    head = "".join(f"<th>{_escaped(name)}</th>" for name in header)
    body = "".join(f"<tr>{''.join(_cell(value) for value in row)}</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"


def _escaped(text: str) -> str:
    """A name that is neither markup nor a control character."""
    return html.escape(printable(text))


def _cell(value: Any) -> str:
    if isinstance(value, str):
        return f"<td>{_escaped(value)}</td>"
    text = f"{value:,}" if isinstance(value, int) else f"{value:.4g}"
    return f'<td class="number">{text}</td>'


def _image(png: bytes, alternative: str) -> str:
    data = base64.b64encode(png).decode()
    return f'<img alt="{_escaped(alternative)}" src="data:image/png;base64,{data}">'


def _figure(height: float) -> tuple[Figure, Any]:
    figure = Figure(figsize=(8, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.add_subplot()


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()


def _bars(rows: list[tuple[str, float, float, str]]) -> bytes:
    figure, axes = _figure(2.8)
    labels = [row[0] for row in reversed(rows)]
    colors = ["#bbb" if "oracle" in label else "#3b6ea5" for label in labels]
    axes.barh(labels, [row[1] for row in reversed(rows)], color=colors)
    axes.set_xlabel("NDCG@10")
    return _png(figure)


def _lengths(stats: dict[str, Any]) -> bytes:
    figure, axes = _figure(2.8)
    bins = stats["sequence_length"]["histogram"]
    axes.bar([f"{entry['from']}-{entry['below'] - 1}" for entry in bins], [entry["number"] for entry in bins])
    axes.set_xlabel("events of a user")
    axes.set_ylabel("users")
    return _png(figure)
