"""Figures as SVG that stands in a page: text stays text, nothing refers to anything outside."""

from __future__ import annotations

import html
import io
from collections.abc import Sequence
from typing import Any

import matplotlib
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000", "#999999")
"""Told apart with any color vision (Okabe and Ito 2008)."""


def as_svg(figure: Figure, name: str, title: str) -> str:
    """An `<svg>` element.

    Args:
        figure: drawn.
        name: of the plot, unlike all others of the page.
        title: what it shows, for those who cannot see it.
    """
    text = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        FigureCanvasSVG(figure).print_svg(text, metadata={"Date": None, "Creator": None, "Type": None})
    whole = text.getvalue()
    svg = whole[whole.index("<svg") :]
    start, rest = svg.split(">", 1)
    metadata = rest.find("<metadata>")
    if metadata >= 0:
        rest = rest[:metadata] + rest[rest.index("</metadata>") + len("</metadata>") :]
    shown = html.escape(title, quote=True)
    own = f'{start} class="plot" id="plot-{name}" role="img" aria-label="{shown}">'
    # Several figures of a page have elements of the same name.
    for kind in ("figure", "axes", "patch", "text", "line2d", "legend", "matplotlib", "xtick", "ytick"):
        rest = rest.replace(f'id="{kind}', f'id="{name}-{kind}')
    return own + rest


def figure_of(
    columns: int, rows: int = 1, *, height: float = 3.4, width: float = 3.6
) -> tuple[Figure, list[Any]]:
    """A figure and its axes, row by row."""
    figure = Figure(figsize=(max(width * columns, 5.0), height * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat:
        axis.grid(alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
    return figure, list(axes.flat)


def colors_of(names: Sequence[str]) -> dict[str, str]:
    """A color for each name: of all points of a page, so that it is the same in each of its figures."""
    return {name: COLORS[number % len(COLORS)] for number, name in enumerate(dict.fromkeys(names))}
