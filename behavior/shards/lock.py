"""One writer a folder."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from behavior.errors import UserError
from behavior.files import check_local
from behavior.shards.storage import Folder

# What `flock` says on mounts that know no locks.
_NO_LOCKS = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}


@contextmanager
def exclusive(out: Folder) -> Iterator[None]:
    """Hold an output folder (of a data set, a run, an ablation) for one job; one that is made here goes again
    if it is left empty.

    Remote folders, and those on mounts without locks, cannot be held: that two jobs never write to the same
    one is up to who starts them.

    Raises:
        UserError: another job is writing there, or it cannot be a folder of ours.
    """
    if not out.is_local:
        yield
        return
    check_local(out.path, "--out")
    if out.path.exists() and not out.path.is_dir():
        raise UserError(f"'{out}' is a file, not a folder", where="--out", fix="name another folder")
    try:
        handle, made = _locked(out)
    except OSError as error:
        raise UserError(
            f"the folder '{out}' cannot be used: {error.strerror}", where="--out", fix="name another folder"
        ) from None
    try:
        yield
    finally:
        if made:
            _remove_empty(out.path)
        os.close(handle)


def _locked(out: Folder) -> tuple[int, bool]:
    """The folder, open and locked, and whether it was made here."""
    while True:
        made = _make(out.path)
        try:
            # The folder itself is locked: no file of ours lies about, and the lock goes with the process.
            handle = os.open(out.path, os.O_RDONLY)
        except FileNotFoundError:
            if out.path.is_symlink():  # to nothing
                raise
            continue  # who made it has just taken it away again
        try:
            _lock(handle, out, made)
            if _is_still(out.path, handle):
                return handle, made
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)


def _make(path: Path) -> bool:
    """Make a folder; false where it was there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        path.mkdir()
    except FileExistsError:
        return False
    return True


def _is_still(path: Path, handle: int) -> bool:
    """Whether an open folder still has this name: it may go before it is locked, and another be made."""
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def _remove_empty(path: Path) -> None:
    with suppress(OSError):
        path.rmdir()  # fails, as it should, where anything is in it


def _lock(handle: int, out: Folder, made: bool) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UserError(
            f"another job is writing to '{out}'", where="--out", fix="wait for it, or name another folder"
        ) from None
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            if made:
                _remove_empty(out.path)
            raise UserError(
                f"the folder '{out}' cannot be locked: {error.strerror}",
                where="--out",
                fix="name another folder",
            ) from error
