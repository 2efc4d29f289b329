"""Output of all commands: tables, errors, progress bars, JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from behavior.errors import UserError

out = Console()
err = Console(stderr=True)


def print_error(error: UserError) -> None:
    """One message: what, where, what to do."""
    err.print(Text("error: ", style="bold red") + Text(error.what), soft_wrap=True)
    if error.where:
        err.print(Text("where: ", style="bold") + Text(error.where), soft_wrap=True)
    if error.fix:
        err.print(Text("to do: ", style="bold") + Text(error.fix), soft_wrap=True)


def print_interrupted() -> None:
    """What is there to do after Ctrl-C."""
    err.print("interrupted; run the same command again to continue (lrm train: with --resume)")


def print_json(record: Any) -> None:
    """One JSON document on standard output, and nothing else."""
    sys.stdout.write(json.dumps(record, ensure_ascii=False, default=str) + "\n")


def print_table(title: str, header: Iterable[str], rows: Iterable[Iterable[Any]]) -> None:
    """A table; columns without text are aligned to the right."""
    lines = [list(row) for row in rows]
    table = Table()
    for place, name in enumerate(header):
        # Names are looked for and copied: the first column is not folded if that can be.
        width = min(24, max((len(cell(line[0])) for line in lines), default=0)) if place == 0 else None
        right = bool(lines) and all(not isinstance(line[place], str) for line in lines)
        table.add_column(name, justify="right" if right else "left", overflow="fold", min_width=width)
    for line in lines:
        table.add_row(*(Text(cell(value)) for value in line))
    # Not as the table's own title, which would be wrapped to a narrow table's width.
    out.print(Text(title, style="bold"), soft_wrap=True)
    out.print(table)


def cell(value: Any) -> str:
    """A value as text: numbers with thousands separators, metrics with four places."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: ""}[value]
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def progress_bars(*, quiet: bool = False) -> Progress:
    """Progress bars on standard error, so that standard output stays clean; they disappear when done."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}"),
        console=err,
        transient=True,
        disable=quiet or not err.is_terminal,
    )
