"""How `lrm evaluate` reads `--baselines`: alone, or with names."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import Any

from typer.core import TyperCommand

ALL = "all"
"""What `--baselines` alone means."""


class EvaluateCommand(TyperCommand):
    """A command whose `--baselines` may do without a value, which options of the parser cannot."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, with_names(args))


def with_names(args: list[str]) -> list[str]:
    """The words of a command line, with a value for each `--baselines`.

    >>> with_names(["--baselines", "runs/a"])
    ['--baselines=all', 'runs/a']
    >>> with_names(["runs/a", "--baselines", "markov,open"])
    ['runs/a', '--baselines=markov,open']
    >>> with_names(["runs/a", "--baselines", "nosuch"])
    ['runs/a', '--baselines=nosuch']
    """
    words: list[str] = []
    rest = list(args)
    while rest:
        word = rest.pop(0)
        if word == "--":
            return [*words, word, *rest]
        if word == "--baselines":
            named = bool(rest) and (_are_names(rest[0]) or _can_only_be_names(rest[0], words))
            word = f"--baselines={rest.pop(0) if named else ALL}"
        words.append(word)
    return words


def _are_names(word: str) -> bool:
    """Whether a word names baselines, rightly or nearly, and is no folder: a wrong name is to be told as
    one."""
    from models.evaluation.floors.names import FLOORS
    from models.rankers.names import RANKERS

    known = [*FLOORS, *RANKERS]
    names = word.split(",")
    if all(name in known for name in names):
        return True
    return not Path(word).exists() and any(get_close_matches(name.strip(), known) for name in names)


def _can_only_be_names(word: str, before: list[str]) -> bool:
    """Whether the run was named already, so that no other word without a flag can follow."""
    return not word.startswith("-") and bool(before) and not before[0].startswith("-")


def names_of(baselines: list[str] | None) -> bool | list[str]:
    """What to evaluate: False for nothing, True for all that make sense, or names."""
    names = [name.strip() for value in baselines or [] for name in value.split(",")]
    if not names:
        return False
    return True if ALL in names else names
