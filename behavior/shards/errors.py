"""Errors of the storage, said so that the user can put them right."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from behavior.errors import UserError
from behavior.shards.storage import Folder

_FULL = {errno.ENOSPC, errno.EDQUOT}
_NO_ROOM = {*_FULL, errno.EROFS}
_IN_BUCKETS = {"gs", "gcs", "s3", "s3a"}
_KNOWN = {*_NO_ROOM, errno.EACCES, errno.EPERM}


@contextmanager
def errors_told(out: Folder, what: str) -> Iterator[None]:
    """Turn the errors of a folder, and of nothing else, into the user's."""
    try:
        yield
    except OSError as error:
        fix = "check the folder and its disk" if out.is_local else "check the address and credentials"
        if error.errno in _FULL:
            fix = "free some space, or write to another folder with --out"
        scheme, _, path = out.url.partition("://")
        if isinstance(error, FileNotFoundError) and scheme in _IN_BUCKETS and what != "cannot read":
            reason = f"there is no bucket '{path.partition('/')[0]}'"  # the error has an address of the API
            raise UserError(f"{what} '{out}': {reason}", where="--out", fix=fix) from error
        where = str(error.filename or "--out")
        raise UserError(f"{what} '{out}': {error.strerror or error}", where=where, fix=fix) from error


def explained(error: OSError, out: Folder, *others: Folder) -> UserError | None:
    """What the user can do about storage that is full or forbidden; None for any other error.

    Args:
        error: of an input file, or of a file that is written.
        out: the output folder.
        others: other folders that are written to.
    """
    if error.errno not in _KNOWN:
        return None
    problem, file = error.strerror or str(error), str(error.filename or "")
    inside = any(_bare(file).startswith(own) for own in _bare_all((out, *others)))
    if error.errno not in _NO_ROOM and not inside:
        return UserError(problem, where=file or None, fix="check the permissions")
    return UserError(
        f"cannot write: {problem}",
        where=file or str(out),
        fix="free some space, or write to another folder with --out",
    )


def _bare_all(folders: Iterable[Folder]) -> list[str]:
    return [_bare(str(folder)) for folder in folders]


def _bare(path: str) -> str:
    """A path as any system may write it in an error: without scheme or leading slash; ends with one."""
    return f"{path.partition('://')[2] or path}/".lstrip("/")
