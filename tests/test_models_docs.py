"""docs/models.md runs from top to bottom and prints what it shows."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.pages import run_page


def test_the_page_prints_what_it_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, outputs = run_page("models.md", tmp_path, monkeypatch)
    assert len(outputs) >= 8
    for printed, shown in outputs:
        assert printed == shown
