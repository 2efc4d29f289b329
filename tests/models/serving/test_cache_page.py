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
    blocks, names = BLOCK.findall(section), {"__name__": "serving"}
    assert len(blocks) == 2
    monkeypatch.chdir(tmp_path)
    for code, shown in blocks:
        with redirect_stdout(printed := StringIO()):
            exec(compile(code, "serving.md", "exec", dont_inherit=True), names)
        assert printed.getvalue() == shown
