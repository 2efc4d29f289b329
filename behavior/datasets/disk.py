"""Writing to disk, with errors that say what to do."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path
from typing import BinaryIO

from behavior.errors import UserError
from behavior.files import check_local

BLOCK_BYTES = 1 << 20


def make_folder(path: Path) -> None:
    """Make a folder where there is none.

    Raises:
        UserError: that cannot be done.
    """
    check_local(path, "--out")
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"the folder '{path}' cannot be made: {error.strerror}", where="--out", fix="name another folder"
        ) from None


def require_space(folder: Path, needed: int, what: str) -> None:
    """Check that a file of `needed` bytes fits before it is written.

    Raises:
        UserError: it does not.
    """
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise UserError(
            f"{what} needs {needed:,} bytes, and {free:,} are free",
            where=str(folder),
            fix="make space, or name a folder on a larger disk",
        )


def open_to_write(path: Path, mode: str, *, buffering: int = -1) -> BinaryIO:
    """Open a file for writing.

    Raises:
        UserError: it cannot be opened.
    """
    try:
        return open(path, mode, buffering)  # type: ignore[return-value]
    except OSError as error:
        raise _cannot_write(path, error) from None


def write(handle: BinaryIO, block: bytes, path: Path) -> None:
    """Write a block through to the operating system, so that a full disk shows here and not later.

    Raises:
        UserError: the disk is full, or the block cannot be written for another reason.
    """
    try:
        handle.write(block)
        handle.flush()
    except OSError as error:
        raise _cannot_write(path, error) from None


def _cannot_write(path: Path, error: OSError) -> UserError:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return UserError(
        "the disk is full" if full else f"this file cannot be written: {error.strerror}",
        where=str(path),
        fix="make space and run the same command again: it goes on where it stopped"
        if full
        else "check the folder, or name another one",
    )
