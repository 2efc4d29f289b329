"""The HTML of a report: sections of text, plots and tables, without a script."""

from __future__ import annotations

import csv
import html
from collections.abc import Sequence
from dataclasses import dataclass, field
from io import StringIO
from typing import Any

from matplotlib.figure import Figure

from behavior.printable import printable
from models.scaling.report.svg import as_svg

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 74rem; margin: 2rem auto; padding: 0 1rem }
body { color: #222 }
table { border-collapse: collapse; margin: 1rem 0; font-size: 13px }
th, td { padding: .2rem .7rem; border-bottom: 1px solid #ddd; text-align: left }
td.number { text-align: right; font-variant-numeric: tabular-nums }
svg.plot { max-width: 100%; height: auto; display: block; margin: 1rem 0 }
h2 { margin-top: 2.5rem; border-bottom: 2px solid #eee } .wide { overflow-x: auto }
pre { background: #f6f6f6; padding: .7rem; overflow-x: auto; font-size: 12px } .note { color: #666 }
nav a { margin-right: 1rem }
"""


@dataclass
class Table:
    """A table of the report, which is a CSV file, too."""

    name: str
    header: Sequence[str]
    rows: Sequence[Sequence[Any]]

    def csv(self) -> str:
        """As a file."""
        text = StringIO(newline="")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerows([self.header, *self.rows])
        return text.getvalue()

    def html(self) -> str:
        """As an element."""
        head = "".join(f"<th>{escaped(name)}</th>" for name in self.header)
        body = "".join(f"<tr>{''.join(_cell(value) for value in row)}</tr>" for row in self.rows)
        return f'<div class="wide"><table><tr>{head}</tr>{body}</table></div>'


@dataclass
class Page:
    """A report in the making."""

    title: str
    parts: list[str] = field(default_factory=list)
    sections: list[str] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    plots: int = 0

    def section(self, title: str) -> None:
        """Begin one."""
        self.sections.append(title)
        self.parts.append(f'<h2 id="section-{len(self.sections)}">{escaped(title)}</h2>')

    def say(self, text: str) -> None:
        """A paragraph."""
        self.parts.append(f"<p>{escaped(text)}</p>")

    def note(self, text: str) -> None:
        """What is told beside."""
        self.parts.append(f'<p class="note">{escaped(text)}</p>')

    def plain(self, text: str) -> None:
        """Settings, commands."""
        self.parts.append(f"<pre>{escaped(text)}</pre>")

    def plot(self, figure: Figure | None, title: str, without: str) -> None:
        """A figure under its title; where there is none, why."""
        if figure is None:
            self.note(f"{title}: {without}")
            return
        self.plots += 1
        self.parts.append(f"<h3>{escaped(title)}</h3>{as_svg(figure, str(self.plots), title)}")

    def table(self, table: Table, *, most: int | None = None) -> None:
        """A table; with `most`, no more rows than that are shown, all are in the file."""
        self.tables.append(table)
        shown = table if most is None else Table(table.name, table.header, table.rows[:most])
        self.parts.append(shown.html())
        left = len(table.rows) - len(shown.rows)
        more = f"; {left:,} more rows are there" if left else ""
        self.note(f"as a file: {table.name}.csv{more}")

    def html(self) -> str:
        """The whole page."""
        titles = enumerate(self.sections, 1)
        links = "".join(f'<a href="#section-{number}">{escaped(title)}</a>' for number, title in titles)
        parts = [
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">',
            f"<title>{escaped(self.title)}</title>",
            # An icon of nothing, so that browsers look for none.
            f'<link rel="icon" href="data:,"><style>{_STYLE}</style></head>',
            f"<body><h1>{escaped(self.title)}</h1><nav>{links}</nav>",
        ]
        return "".join([*parts, *self.parts, "</body></html>\n"])


def escaped(text: object) -> str:
    """Text that stands in HTML whatever its letters."""
    return html.escape(printable(str(text)))


def _cell(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return f"<td>{'' if value is None else 'yes' if value else 'no'}</td>"
    if isinstance(value, int):
        return f'<td class="number">{value:,}</td>'
    if isinstance(value, float):
        shown = f"{value:.4f}" if 1e-3 <= abs(value) < 1e4 else f"{value:.3g}"
        return f'<td class="number">{shown}</td>'
    return f"<td>{escaped(value)}</td>"
