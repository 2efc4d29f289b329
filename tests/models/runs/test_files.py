"""Files of runs that several processes write."""

from __future__ import annotations

from pathlib import Path

import pytest

from behavior.errors import UserError
from models.runs import files
from models.runs.files import write_shared


def test_a_file_that_another_process_writes_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, write = tmp_path / "deep" / "grid.yaml", files._write

    def slow(path: Path, content: bytes) -> None:
        write(path, content)
        if content == b"first":
            write_shared(file, b"second")  # begun later, done earlier

    monkeypatch.setattr(files, "_write", slow)
    write_shared(file, b"first")
    assert file.read_bytes() == b"first"
    assert [path.name for path in file.parent.iterdir()] == ["grid.yaml"]


def test_what_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "grid.yaml").mkdir()
    with pytest.raises(UserError, match="cannot write"):
        write_shared(tmp_path / "grid.yaml", b"text")
    assert [path.name for path in tmp_path.iterdir()] == ["grid.yaml"]
