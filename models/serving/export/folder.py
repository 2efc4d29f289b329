"""A folder that is filled, or left as it was."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from behavior.errors import UserError
from behavior.files import check_local


@contextmanager
def new_folder(out: str | Path) -> Iterator[Path]:
    """A folder to write to; what is in it goes again if the block does not come to its end.

    Raises:
        UserError: there is something in it, it cannot be made, or there is no room in it.
    """
    check_local(out, "--out")
    folder = Path(out)
    there = folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        taken = sorted(entry.name for entry in folder.iterdir())
    except OSError as error:
        raise UserError(
            f"the folder '{out}' cannot be made: {error.strerror or error}",
            where="--out",
            fix="name a new or empty folder",
        ) from None
    if taken:
        raise UserError(
            f"'{out}' is not empty: {', '.join(taken[:3])}", where="--out", fix="name a new or empty folder"
        )
    try:
        yield folder
    except BaseException as error:
        _clear(folder)
        if not there:
            shutil.rmtree(folder, ignore_errors=True)
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO):
            raise UserError(
                f"cannot write to '{out}': {os.strerror(error.errno)}",
                where="--out",
                fix="make room, or name another folder",
            ) from error
        raise


def _clear(folder: Path) -> None:
    for entry in folder.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink(missing_ok=True)
