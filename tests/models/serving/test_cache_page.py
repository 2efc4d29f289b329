"""The section of docs/serving.md on cached histories runs, and prints what it shows."""

from __future__ import annotations

from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import pytest

from tests.pages import BLOCK, DOCS


def test_the_section_prints_what_it_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (DOCS / "serving.md").read_text(encoding="utf-8")
    section = page.partition("\n## Cached histories\n")[2].partition("\n## ")[0]
    [(code, shown)] = BLOCK.findall(section)
    monkeypatch.chdir(tmp_path)
    with redirect_stdout(printed := StringIO()):
        exec(compile(code, "serving.md", "exec", dont_inherit=True), {"__name__": "serving"})
    assert printed.getvalue() == shown
