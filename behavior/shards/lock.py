"""One writer a folder."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from behavior.errors import UserError
from behavior.shards.storage import Folder

# What `flock` says on mounts that know no locks.
_NO_LOCKS = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}


@contextmanager
def exclusive(out: Folder) -> Iterator[None]:
    """Hold an output folder for one job; one that is made here goes again if it is left empty.

    Remote folders, and those on mounts without locks, cannot be held: that two jobs never write to the same
    one is up to who starts them.

    Raises:
        UserError: another job is writing there, or it cannot be a folder of ours.
    """
    if not out.is_local:
        yield
        return
    if out.path.exists() and not out.path.is_dir():
        raise UserError(f"'{out}' is a file, not a folder", where="--out", fix="name another folder")
    made = not out.path.exists()
    try:
        out.make()
        # The folder itself is locked: no file of ours lies about, and the lock goes with the process.
        handle = os.open(out.path, os.O_RDONLY)
    except OSError as error:
        raise UserError(
            f"the folder '{out}' cannot be used: {error.strerror}", where="--out", fix="name another folder"
        ) from None
    try:
        _lock(handle, out)
        yield
    finally:
        os.close(handle)
        if made:
            with suppress(OSError):
                out.path.rmdir()  # fails, as it should, where anything is in it


def _lock(handle: int, out: Folder) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UserError(
            f"another job is writing to '{out}'", where="--out", fix="wait for it, or name another folder"
        ) from None
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise UserError(
                f"the folder '{out}' cannot be locked: {error.strerror}",
                where="--out",
                fix="name another folder",
            ) from error
