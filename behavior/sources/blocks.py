"""Bytes of text files as blocks of whole lines, from a byte range or from a compressed stream."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO, cast

import fsspec
import pyarrow as pa

from behavior.errors import UserError

BLOCK_BYTES = 8 << 20
UTF8_BOM = b"\xef\xbb\xbf"


def compression_of(path: str, setting: str) -> str | None:
    """gzip, zstd or None, by the setting or by the file's name."""
    if setting != "auto":
        return None if setting == "none" else setting
    lower = path.lower()
    if lower.endswith(".gz"):
        return "gzip"
    return "zstd" if lower.endswith((".zst", ".zstd")) else None


def open_bytes(path: str, compression: str | None) -> BinaryIO:
    """Open a local or remote file for reading, decompressed.

    Raises:
        UserError: there is no such file, or it cannot be opened.
    """
    try:
        file = fsspec.open(path, "rb").open()
    except FileNotFoundError:
        raise UserError(f"there is no file '{path}'", fix="check the path in the spec") from None
    except (OSError, ValueError) as error:
        raise UserError(f"'{path}' cannot be opened: {error}") from error
    if compression is None:
        return cast(BinaryIO, file)
    return cast(BinaryIO, pa.CompressedInputStream(file, compression))


def iter_blocks(
    path: str, compression: str | None, start: int = 0, end: int | None = None, block_bytes: int = BLOCK_BYTES
) -> Iterator[bytes]:
    """Blocks of whole lines of a file, or of the lines that begin in the byte range [start, end).

    The last line may lack its line feed. Neighboring ranges give every line exactly once.

    Raises:
        UserError: the file cannot be read to its end.
    """
    with open_bytes(path, compression) as file:
        position = start
        if start:
            # A line belongs to the range its first byte is in: skip what the range before us owns.
            file.seek(start - 1)
            skipped = _to_line_end(file, path)
            position = start - 1 + len(skipped)
        while end is None or position < end:
            size = block_bytes if end is None else min(block_bytes, end - position)
            block = _read(file, size, path)
            if not block:
                return
            if not block.endswith(b"\n"):
                block += _to_line_end(file, path)
            at_start = position == 0
            position += len(block)
            yield block.removeprefix(UTF8_BOM) if at_start else block


def first_line(path: str, compression: str | None, encoding: str) -> str:
    """The first line of a file, without its line feed; empty for an empty file."""
    with open_bytes(path, compression) as file:
        line = _to_line_end(file, path)
    return line.removeprefix(UTF8_BOM).decode(encoding, errors="replace").rstrip("\r\n")


def is_empty(path: str, compression: str | None) -> bool:
    """Whether a file holds nothing, decompressed."""
    with open_bytes(path, compression) as file:
        return not _read(file, 1, path)


def _to_line_end(file: BinaryIO, path: str) -> bytes:
    """Read up to and including the next line feed (pyarrow's streams have no readline)."""
    parts: list[bytes] = []
    if hasattr(file, "readline") and not isinstance(file, pa.NativeFile):
        try:
            return file.readline()
        except OSError as error:
            raise _unreadable(path, error) from error
    while byte := _read(file, 1, path):
        parts.append(byte)
        if byte == b"\n":
            break
    return b"".join(parts)


def _read(file: BinaryIO, size: int, path: str) -> bytes:
    try:
        return file.read(size)
    except (OSError, EOFError, pa.ArrowException) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: str, error: Exception) -> UserError:
    return UserError(
        f"'{path}' cannot be read to its end: {error}", fix="the file may be cut off or damaged: get it again"
    )
