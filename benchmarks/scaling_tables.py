"""Tables and figures of the scaling experiments' scripts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import matplotlib
from matplotlib.figure import Figure

from behavior.errors import UserError

NDCG, HR = "test ndcg@10", "test hr@10"
FoundT = TypeVar("FoundT")


def show_table(title: str, header: Sequence[Any], rows: Sequence[Sequence[Any]]) -> None:
    """As Markdown."""
    print(f"\n**{title}**\n\n| {' | '.join(map(str, header))} |\n|{' --- |' * len(header)}")
    for row in rows:
        print(f"| {' | '.join(map(str, row))} |")


def short(value: float, digits: int = 4) -> str:
    """Without the zero before the point."""
    return f"{value:.{digits}f}".replace("0.", ".", 1) if abs(value) < 1 else f"{value:.{digits}f}"


def save(figure: Figure, path: Path) -> None:
    """As SVG, the same for the same points."""
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": path.stem}):
        figure.savefig(path, metadata={"Date": None})


def or_none(make: Callable[..., FoundT], *given: Any) -> FoundT | None:
    """What is made of something; None where it cannot be."""
    try:
        return make(*given)
    except UserError:
        return None
