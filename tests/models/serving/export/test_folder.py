"""A folder is filled, or left as it was."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from behavior.errors import UserError
from models.serving.export.folder import new_folder


def fill(folder: Path, error: BaseException) -> None:
    (folder / "items.parquet").write_bytes(b"half")
    (folder / "vocabulary").mkdir()
    (folder / "vocabulary" / "genre.parquet").write_bytes(b"")
    raise error


@pytest.mark.parametrize("error", [KeyboardInterrupt(), MemoryError(), RuntimeError("no room")])
def test_what_does_not_come_to_its_end_leaves_nothing(error: BaseException, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for name, is_left in (("empty", True), ("deep/new", False)):
        with pytest.raises(type(error)), new_folder(tmp_path / name) as folder:
            fill(folder, error)
        assert folder.exists() is is_left
        assert not is_left or not list(folder.iterdir())
        with new_folder(folder) as again:
            (again / "a").touch()
        assert (folder / "a").exists()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_a_full_disk_is_told(number: int, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=os.strerror(number)) as caught, new_folder(tmp_path / "a") as folder:
        fill(folder, OSError(number, "as Arrow says it"))
    assert (caught.value.where, str(folder) in caught.value.what) == ("--out", True)
    assert not folder.exists()


def test_what_is_there_stays(tmp_path: Path) -> None:
    (tmp_path / "mine").touch()
    with pytest.raises(UserError, match="is not empty: mine"), new_folder(tmp_path):
        pass
    assert (tmp_path / "mine").exists()
