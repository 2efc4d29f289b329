"""Taking some members out of a zip or tar archive, by name only: nothing lands outside the folder."""

from __future__ import annotations

import gzip
import os
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO

from behavior.datasets.disk import BLOCK_BYTES, open_to_write, require_space, write
from behavior.errors import UserError

_BROKEN = (
    zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError, NotImplementedError,
    RuntimeError,
)  # fmt: skip

Entry = tuple[str, int, Callable[[], IO[bytes] | None]]
"""A regular file of an archive: its path there, its size, and how to open it."""


def unpack(archive: Path, kind: str, members: list[str], folder: Path) -> list[Path]:
    """Take members out of an archive; each is put into `folder` under its last name.

    A file that is there with the right size stays.

    Args:
        archive: the file.
        kind: zip or tar.
        members: paths in the archive, or patterns with *; each must match at least one file.
        folder: where to put them.

    Returns:
        The files, in the archive's order.

    Raises:
        UserError: a damaged archive, a member that is missing or would overwrite another file, or no space.
    """
    missing = set(members)
    made: list[Path] = []
    try:
        for path, size, open_entry in _zip_entries(archive) if kind == "zip" else _tar_entries(archive):
            matching = {pattern for pattern in members if fnmatchcase(path, pattern)}
            if not matching:
                continue
            missing -= matching
            target = folder / _name_of(path, archive)
            if target in made:
                raise UserError(f"the archive has two files called '{target.name}'", where=str(archive))
            _extract(open_entry, size, target)
            made.append(target)
    except _BROKEN as error:
        raise UserError(
            f"the archive is damaged: {error}",
            where=str(archive),
            fix="remove it and run the same command again",
        ) from None
    if missing:
        raise UserError(
            f"the archive has no file '{min(missing)}'",
            where=str(archive),
            fix="it may have changed: see the home page of the data set",
        )
    return made


def _zip_entries(archive: Path) -> Iterator[Entry]:
    with zipfile.ZipFile(archive) as opened:
        for info in opened.infolist():
            if not info.is_dir():
                yield info.filename, info.file_size, partial(opened.open, info)


def _tar_entries(archive: Path) -> Iterator[Entry]:
    # As a stream: to go back in a compressed archive means to read it anew.
    with tarfile.open(archive, "r|*") as opened:
        for member in opened:
            if member.isreg():
                yield member.name, member.size, partial(opened.extractfile, member)


def _name_of(path: str, archive: Path) -> str:
    # Some archives were made on Windows.
    name = PureWindowsPath(PurePosixPath(path).name).name
    if name in ("", ".", ".."):
        raise UserError(f"the archive has a file without a name: '{path}'", where=str(archive))
    return name


def _extract(open_entry: Callable[[], IO[bytes] | None], size: int, target: Path) -> None:
    if target.exists():
        if target.is_file() and target.stat().st_size == size:
            return
        raise UserError(
            f"'{target}' is there already and is not the published file",
            where="--out",
            fix="remove it, or name another folder",
        )
    require_space(target.parent, size, f"'{target.name}'")
    part = target.with_name(target.name + ".part")
    content = open_entry()
    assert content is not None  # only links and folders of a tar have none
    with content, open_to_write(part, "wb") as handle:
        while block := content.read(BLOCK_BYTES):
            write(handle, block, part)
    if part.stat().st_size != size:
        raise EOFError(f"'{target.name}' ends too early")
    os.replace(part, target)
