"""Pages of docs/ whose code is run from top to bottom."""

from __future__ import annotations

import re
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

DOCS = Path(__file__).parents[1] / "docs"
# A block of Python, and the block of text after it, if any: what it prints.
BLOCK = re.compile(r"```python\n(.*?)```(?:\n\n```text\n(.*?)```)?", re.DOTALL)


def run_page(
    name: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """Run a page in a folder: the names it leaves, and what each block printed beside what is shown."""
    monkeypatch.chdir(folder)
    names: dict[str, Any] = {"__name__": Path(name).stem}
    outputs = []
    for number, found in enumerate(BLOCK.finditer((DOCS / name).read_text(encoding="utf-8")), start=1):
        printed = StringIO()
        with redirect_stdout(printed):
            exec(compile(found[1], f"{name}, block {number}", "exec", dont_inherit=True), names)
        outputs.append((printed.getvalue(), found[2] or ""))
    return names, outputs
