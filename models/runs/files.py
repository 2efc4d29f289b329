"""The files of a run: read only where they are files, and written whole or not at all."""

from __future__ import annotations

import errno
import os
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from behavior.errors import UserError
from behavior.files import check_regular

_NO_ROOM = "make room and go on (lrm train: with --resume), or write to another folder with --out"
_FIXES = {
    **dict.fromkeys((errno.EACCES, errno.EPERM), "check the permissions"),
    **dict.fromkeys((errno.EISDIR, errno.EINVAL), "put a file in its place"),
}


def has_file(path: Path) -> bool:
    """Whether there is such a file; of a pipe or a device, which would be waited for, it is an error.

    Raises:
        UserError: it is no regular file (nor a link to one), or may not be looked at.
    """
    with told(path, "cannot read"):
        try:
            check_regular(path)
        except (FileNotFoundError, NotADirectoryError):
            return False
    return True


def read_file(path: Path) -> bytes | None:
    """The contents of a file; None where there is none.

    Raises:
        UserError: it is no regular file, or cannot be read.
    """
    if not has_file(path):
        return None
    with told(path, "cannot read"):
        return path.read_bytes()


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file under a temporary name, make it durable, and rename it.

    Raises:
        UserError: it cannot be written: the disk is full, say.
    """
    write_together({path: content})


def write_shared(path: Path, content: bytes) -> None:
    """Write a file, whole or not at all, that other processes may be writing as well: the last one stays.

    What a process leaves of it that is killed meanwhile has a name of its own and stays: for small files.

    Raises:
        UserError: it cannot be written.
    """
    own = path.with_name(f"{path.name}.{uuid.uuid4().hex}.tmp")
    with told(path, "cannot write"):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            _write(own, content)
            own.replace(path)
        except OSError:
            with suppress(OSError):
                own.unlink()
            raise


def write_together(contents: Mapping[Path, bytes]) -> None:
    """Write several files under temporary names, make them durable, and only then rename one after the other.

    Raises:
        UserError: one cannot be written.
    """
    for path, content in contents.items():
        with told(path, "cannot write"):
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                _write(_temporary(path), content)
            except OSError:
                with suppress(OSError):  # half a file would take what room there is
                    _temporary(path).unlink()
                raise
    for path in contents:
        with told(path, "cannot write"):
            _temporary(path).replace(path)


@contextmanager
def told(path: Path, what: str) -> Iterator[None]:
    """Turn what the operating system says of a file of a run into the user's error."""
    try:
        yield
    except OSError as error:
        fix = _FIXES.get(error.errno or 0, _NO_ROOM if what == "cannot write" else "check the disk")
        raise UserError(f"{what}: {error.strerror or error}", where=str(path), fix=fix) from error


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _temporary(path: Path) -> Path:
    return path.with_name(path.name + ".tmp")
