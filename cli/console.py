"""Output of all commands: lines, tables, errors, progress bars, JSON.

Nothing else prints. What is shown is text: a name in it is never markup, and its control characters are
escaped.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from behavior.errors import UserError
from behavior.printable import complain, printable, printable_json

Bars = Progress
"""The progress bars of a command; see `progress_bars`."""

out = Console()
err = Console(stderr=True)

_UNWRAPPED = 10_000
"""Columns of a table's line in a file or a pipe, at most."""


@contextmanager
def _printing() -> Iterator[None]:
    """Around what goes to standard output, which may be on a full disk; that nobody reads it is no error."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise not_printed(error) from error


def not_printed(error: OSError) -> UserError:
    """Standard output takes nothing."""
    return UserError(
        f"the result cannot be printed: {error.strerror or error}",
        where="standard output",
        fix="make room, or send it elsewhere",
    )


def say(text: str, *, style: str = "") -> None:
    """A line of the result, on standard output."""
    with _printing():
        out.print(shown(text, style), soft_wrap=True)


def note(text: str, *, style: str = "") -> None:
    """A line about the work, on standard error: standard output stays clean."""
    err.print(shown(text, style), soft_wrap=True)


def warn(text: str) -> None:
    """Something went otherwise than one would think, on standard error."""
    note(f"warning: {text}", style="yellow")


def shown(text: str, style: str = "") -> Text:
    """Text as it is: square brackets and colons mean nothing, control characters are escaped."""
    return Text(printable(text), style=style)


def print_error(error: UserError, code: int = 1, *, json: bool = False) -> None:
    """One message: what, where, what to do.

    Args:
        error: what is said.
        code: the exit code.
        json: standard output has it as JSON, too.
    """
    if json:
        about = {"what": error.what, "where": error.where, "fix": error.fix}
        with suppress(UserError, OSError):  # it may be standard output that is told about
            print_json({"error": about, "exit_code": code})
    parts = (
        ("error: ", "bold red", error.what),
        ("where: ", "bold", error.where),
        ("to do: ", "bold", error.fix),
    )
    for label, style, text in parts:
        if text:
            err.print(shown(label, style) + shown(text), soft_wrap=True)


def print_trace(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """A stack trace, for `sys.excepthook`: messages in it may carry text of a log, too."""
    complain("".join(traceback.format_exception(kind, error, trace)).rstrip())


def print_interrupted(advice: str, code: int, *, json: bool = False) -> None:
    """That Ctrl-C ended the command, and what there is to do; nothing, if that is empty."""
    note(f"interrupted; {advice}" if advice else "interrupted")
    if json:
        error = {"what": "interrupted", "where": None, "fix": advice or None}
        print_json({"error": error, "exit_code": code})


def print_json(record: Any) -> None:
    """One JSON document on standard output, and nothing else."""
    with _printing():
        sys.stdout.write(printable_json(record, default=str) + "\n")


def print_table(title: str, header: Iterable[str], rows: Iterable[Iterable[Any]]) -> None:
    """A table; columns without text are aligned to the right."""
    lines = [list(row) for row in rows]
    table = Table()
    for place, name in enumerate(header):
        # Names are looked for and copied: the first column is not folded if that can be.
        width = (
            min(24, max((len(printable(cell(line[0]))) for line in lines), default=0)) if place == 0 else None
        )
        right = bool(lines) and all(not isinstance(line[place], str) for line in lines)
        table.add_column(shown(name), justify="right" if right else "left", overflow="fold", min_width=width)
    for line in lines:
        table.add_row(*(shown(cell(value)) for value in line))
    # Not as the table's own title, which would be wrapped to a narrow table's width.
    say(title, style="bold")
    with _printing():
        if out.is_terminal:
            out.print(table)
        else:  # nothing is wrapped for a terminal that is not there
            Console(file=out.file, width=_UNWRAPPED).print(table)


def cell(value: Any) -> str:
    """A value as text: numbers with thousands separators, metrics with four places."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: ""}[value]
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4f}" if isinstance(value, float) else str(value)


class _Words(ProgressColumn):
    """Words about a task, as they are."""

    def __init__(self, words: Callable[[Task], str]) -> None:
        super().__init__()
        self._words = words

    def render(self, task: Task) -> Text:
        return shown(self._words(task))


def progress_bars(*, quiet: bool = False) -> Bars:
    """Progress bars on standard error, so that standard output stays clean; they disappear when done."""
    return Progress(
        _Words(lambda task: task.description),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        _Words(lambda task: task.fields["note"]),
        console=err,
        transient=True,
        disable=quiet or not err.is_terminal,
    )
