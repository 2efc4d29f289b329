"""What is shown of long work where there is no terminal."""

from __future__ import annotations

import sys

import pytest

import cli.console
from cli.console import progress_bars
from cli.progress import Evaluating


@pytest.mark.parametrize(("every", "quiet", "shown"), [(-1.0, False, 2), (3600.0, False, 0), (-1.0, True, 0)])
def test_lines_say_what_is_evaluated(
    every: float,
    quiet: bool,
    shown: int,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Only where something has taken a while."""
    monkeypatch.setattr(cli.console.err, "_file", sys.stderr)
    with progress_bars(quiet=quiet) as bars:
        told = Evaluating(bars, quiet=quiet, every=every)
        told("the model")
        told("bias, buy")
    assert capsys.readouterr().err.splitlines() == ["evaluating the model", "evaluating bias, buy"][:shown]
