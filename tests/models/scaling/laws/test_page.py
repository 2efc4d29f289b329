"""docs/scaling-laws.md runs and prints what it shows."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.pages import run_page


def test_the_page_prints_what_it_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, [(printed, shown)] = run_page("scaling-laws.md", tmp_path, monkeypatch)
    assert printed == shown
