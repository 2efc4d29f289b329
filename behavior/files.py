"""Local files: read only where they are files, and written whole or not at all."""

from __future__ import annotations

import errno
import os
import stat
import uuid
from contextlib import suppress
from pathlib import Path

from behavior.errors import UserError

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


_STORES = ["s3", "s3a", "gs", "gcs", "hdfs", "abfs", "abfss", "az", "adl", "wasb", "wasbs"]
_SCHEMES = {f"{name}:" for name in (*_STORES, "http", "https", "ftp", "sftp", "file", "local")}


def check_local(path: str | os.PathLike[str], where: str) -> None:
    """Refuse an address of another file system where what is written lies on this machine.

    As a path, `s3://bucket/run` is a folder `s3:` in the current one.

    Raises:
        UserError: it is one.
    """
    if any(part.lower() in _SCHEMES for part in Path(path).parts):
        raise UserError(
            f"'{path}' is an address, and this is written to a path of this machine only",
            where=where,
            fix="name a path here, and copy what is written",
        )


def check_regular(path: str | os.PathLike[str]) -> None:
    """Refuse what is no file (nor a link to one), before it is opened: a pipe would be waited for.

    Raises:
        OSError: there is nothing, it may not be looked at, or it is something else; `strerror` says which.
    """
    kind = stat.S_IFMT(os.stat(path).st_mode)
    if kind != stat.S_IFREG:
        number = errno.EISDIR if kind == stat.S_IFDIR else errno.EINVAL
        raise OSError(number, f"it is {_KINDS.get(kind, 'something else')}, not a file", str(path))


def check_readable(path: str | os.PathLike[str], where: str) -> None:
    """Say what is wrong with a file that the user names.

    Args:
        path: of the file.
        where: the flag or argument that names it.

    Raises:
        UserError: there is none, it is no file, or it may not be read.
    """
    try:
        check_regular(path)
        with open(path, "rb"):
            pass
    except FileNotFoundError:
        raise UserError(f"there is no file '{path}'", where=where, fix="check the path") from None
    except PermissionError as error:
        raise UserError(
            f"'{path}' cannot be read: {error.strerror}", where=where, fix="check the permissions"
        ) from None
    except OSError as error:
        raise UserError(
            f"'{path}' cannot be read: {error.strerror or error}", where=where, fix="name a file"
        ) from None


def write_whole(path: Path, data: bytes, where: str) -> None:
    """Write a file that the user names whole or not at all, in place of one that is there.

    Args:
        path: of the file.
        data: its contents.
        where: the flag that names it.

    Raises:
        UserError: it cannot be written, is an address, or something that is no file is there.
    """
    check_local(path, where)
    try:
        target = path.resolve() if path.is_symlink() else path  # a link stays one
        with suppress(FileNotFoundError):
            check_regular(target)
        temporary = target.with_name(f".{uuid.uuid4().hex}.tmp")
        try:
            temporary.write_bytes(data)
            os.replace(temporary, target)
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise
    except OSError as error:
        raise UserError(
            f"cannot write '{path}': {error.strerror or error}", where=where, fix="name another file"
        ) from None
