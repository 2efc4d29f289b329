"""Parts of files, many at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import pyarrow as pa

from behavior.shards.remote import open_system, storage_errors
from behavior.shards.storage import Folder

_AT_ONCE = 64
"""Ranges of a remote folder that are asked for together, at most."""
_BYTES_AT_ONCE = 64 << 20
"""So many bytes of them, unless a single one has more."""


class FileRange(NamedTuple):
    """Bytes of a file, from `start` to before `end`."""

    name: str
    start: int
    end: int


def read_ranges(folder: Folder, ranges: Sequence[FileRange]) -> Iterator[pa.Buffer]:
    """Read parts of files of a folder; those of local files are mapped into memory.

    Of a remote folder many are asked for at once, so that they do not wait for each other.

    Raises:
        OSError: a file is not there, or ends before.
    """
    if folder.is_local:
        for name, start, end in ranges:
            with folder.input_file(name) as source:
                source.seek(start)
                yield _whole(source.read_buffer(end - start), FileRange(name, start, end), folder)
        return
    system, root = open_system(folder.url)
    for some in _together(ranges):
        with storage_errors():
            paths = [f"{root.rstrip('/')}/{asked.name}" for asked in some]
            starts, ends = [asked.start for asked in some], [asked.end for asked in some]
            found = system.cat_ranges(paths, starts, ends, on_error="raise")
        for data, asked in zip(found, some, strict=True):
            yield _whole(pa.py_buffer(data), asked, folder)


def _together(ranges: Sequence[FileRange]) -> Iterator[list[FileRange]]:
    some: list[FileRange] = []
    size = 0
    for asked in ranges:
        length = asked.end - asked.start
        if some and (len(some) == _AT_ONCE or size + length > _BYTES_AT_ONCE):
            yield some
            some, size = [], 0
        some.append(asked)
        size += length
    if some:
        yield some


def _whole(data: pa.Buffer, asked: FileRange, folder: Folder) -> pa.Buffer:
    if len(data) != asked.end - asked.start:
        raise OSError(f"'{folder.where(asked.name)}' ends before byte {asked.end}")
    return data
