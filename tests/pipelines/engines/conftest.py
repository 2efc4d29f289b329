"""What holds for all tests of engines."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def own_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What engines have said is kept for the user, in a temporary file: here it goes with the test."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
