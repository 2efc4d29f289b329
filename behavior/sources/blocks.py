"""Bytes of text files as blocks of whole lines, from a byte range or from a compressed stream."""

from __future__ import annotations

import errno
import io
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType
from typing import BinaryIO, cast

import fsspec

from behavior.errors import UserError
from behavior.sources.compressed import Decompressed
from behavior.sources.damage import SKIP_HINT, UnreadableFileError, damaged, unreadable
from behavior.sources.magic import HEAD_BYTES, advice, kind_of_bytes

BLOCK_BYTES = 8 << 20
MAX_LINE_BYTES = 64 << 20
"""A longer line is not text: reading it would fill the memory."""
UTF8_BOM = b"\xef\xbb\xbf"
# Of the machine or the network rather than of the file: another attempt may succeed.
_PASSING = {
    *(errno.EAGAIN, errno.EINTR, errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.ESTALE),
    *(errno.ETIMEDOUT, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETDOWN, errno.ENETUNREACH),
}


def compression_of(path: str, setting: str) -> str | None:
    """gzip, zstd or None, by the setting or by the file's name."""
    if setting != "auto":
        return None if setting == "none" else setting
    lower = path.lower()
    if lower.endswith(".gz"):
        return "gzip"
    return "zstd" if lower.endswith((".zst", ".zstd")) else None


class TextFile:
    """A text file, opened once and decompressed.

    Where a compressed file is cut off or damaged, reading ends as at the end of a file; `damage` says why.

    Args:
        path: local, or a URL that fsspec knows.
        compression: gzip, zstd or None.

    Raises:
        UnreadableFileError: the file cannot be opened; or, from any method, nothing of it read.
        UserError: from any method, reading fails in the middle of the file, or for a reason that may pass.
    """

    def __init__(self, path: str, compression: str | None) -> None:
        self.path = path
        self.position = 0
        """Bytes read so far, decompressed."""
        self.lines = 0
        """Lines that `readline` gave."""
        self._compression = compression
        self._begun = False  # whether anything came out of the file, or is known to be before what is read
        self._peeked = b""
        self._file: BinaryIO | Decompressed
        if compression is None:
            self._file = _open(path)
        else:
            self._file = Decompressed(lambda: _open(path), compression)

    def __enter__(self) -> TextFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    @property
    def damage(self) -> str | None:
        """Why reading ended before the end of the file; None as long as it did not."""
        return self._file.damage if isinstance(self._file, Decompressed) else None

    def read(self, size: int) -> bytes:
        """The next bytes; fewer than `size` only near the end."""
        result, self._peeked = self._peeked[:size], self._peeked[size:]
        if len(result) < size:
            result += self._read(size - len(result))
        self.position += len(result)
        return result

    def readline(self) -> bytes:
        """The rest of the line, with its line feed."""
        if isinstance(self._file, io.BufferedReader) and not self._peeked:
            return self._native_line(self._file)
        parts: list[bytes] = []
        size, step = 0, 1 << 10
        while size <= MAX_LINE_BYTES:
            piece = self._peeked or self._read(step)
            self._peeked = b""
            end = piece.find(b"\n") + 1
            if not piece or end:
                parts.append(piece[:end])
                self._peeked = piece[end:]
                return self._counted(b"".join(parts))
            parts.append(piece)
            size, step = size + len(piece), 1 << 16
        raise self._endless()

    def _native_line(self, file: io.BufferedReader) -> bytes:
        try:
            if not self._begun:
                self._check_text(file.peek(HEAD_BYTES))
            line = file.readline(MAX_LINE_BYTES + 1)
        except OSError as error:
            raise self._failed(error) from error
        self._begun |= bool(line)
        if len(line) > MAX_LINE_BYTES:
            raise self._endless()
        return self._counted(line)

    def _counted(self, line: bytes) -> bytes:
        self.position += len(line)
        self.lines += bool(line)
        return line

    def _endless(self) -> UnreadableFileError:
        return UnreadableFileError(
            f"'{self.path}' holds a line of more than {MAX_LINE_BYTES >> 20} MiB",
            fix=f"correct 'format' or 'compression' in the spec; {SKIP_HINT}",
        )

    def peek_line(self) -> bytes:
        """The line that comes next, which stays there."""
        line = self.readline()
        self.position -= len(line)
        self.lines -= bool(line)
        self._peeked = line + self._peeked
        return line

    def seek(self, position: int) -> None:
        """Go elsewhere in a file that is not compressed."""
        self._peeked = b""
        self._begun |= position > 0
        self.position = position
        cast(BinaryIO, self._file).seek(position)

    def _read(self, size: int) -> bytes:
        try:
            data = self._file.read(size)
        except (OSError, ValueError, EOFError) as error:
            raise self._failed(error) from error
        if not self._begun:
            self._check_text(data)
        self._begun |= bool(data)
        if not self._begun and self.damage is not None:
            problem = f"{self.damage} (is it {self._compression}?)"
            raise unreadable(self.path, problem, "get the file again or correct 'compression' in the spec")
        return data

    def _check_text(self, head: bytes) -> None:
        """Refuse a file that is compressed otherwise, or no text at all, before it is taken for lines."""
        kind = kind_of_bytes(head)
        if kind is not None:
            problem, fix = advice(kind)
            within = f" (within {self._compression})" if self._compression else ""
            raise UnreadableFileError(f"'{self.path}' {problem}{within}", fix=f"{fix}; {SKIP_HINT}")

    def _failed(self, error: Exception) -> UserError:
        if self._begun:
            # Rows of the file were given: it must not be set aside as one of which nothing can be read.
            return _stopped(self.path, error, "cannot be read to its end")
        if _may_pass(error):
            return _stopped(self.path, error, "cannot be read now")
        return unreadable(self.path, error)


def iter_blocks(
    source: str | TextFile,
    compression: str | None,
    start: int = 0,
    end: int | None = None,
    block_bytes: int = BLOCK_BYTES,
) -> Iterator[bytes]:
    """Blocks of whole lines of a file, or of the lines that begin in the byte range [start, end).

    The last line may lack its line feed. Neighboring ranges give every line exactly once.

    Args:
        source: a path, or a file that is open; one from which something was read, the header say, goes on
            from there where `start` is 0.
        compression: gzip, zstd or None; of a path.
        start, end: byte range; end is None for the end of the file.
        block_bytes: rough size of the blocks.

    Raises:
        UnreadableFileError: nothing of the file can be read, or it has a line that is too long.
        UserError: reading fails in the middle of the file, or for a reason that may pass.
        DamagedFileError: the file is damaged; after all whole lines before the damage were given.
    """
    opened: AbstractContextManager[TextFile]
    opened = TextFile(source, compression) if isinstance(source, str) else nullcontext(source)
    with opened as file:
        if start:
            # A line belongs to the range its first byte is in: skip what the range before us owns.
            file.seek(start - 1)
            file.readline()
        while end is None or file.position < end:
            at_start = file.position == 0
            block = file.read(block_bytes if end is None else min(block_bytes, end - file.position))
            if block and not block.endswith(b"\n"):
                block += file.readline()
            if at_start:
                block = block.removeprefix(UTF8_BOM)
            tail = b""
            if file.damage is not None and not block.endswith(b"\n"):
                # Half a line must not be taken for a whole one.
                whole = block.rfind(b"\n") + 1
                block, tail = block[:whole], block[whole:]
            if block:
                yield block
            elif file.damage is not None:
                raise damaged(file.path, file.damage, tail)
            else:
                return
            if tail:
                assert file.damage is not None
                raise damaged(file.path, file.damage, tail)


def read_bytes(path: str, compression: str | None) -> bytes:
    """All of a file, decompressed, without a byte order mark.

    Raises:
        UserError: the file cannot be read to its end.
    """
    with TextFile(path, compression) as file:
        parts = list(iter(lambda: file.read(BLOCK_BYTES), b""))
        if file.damage is not None:
            raise damaged(path, file.damage, b"")
    return b"".join(parts).removeprefix(UTF8_BOM)


def _open(path: str) -> BinaryIO:
    try:
        if "://" not in path:
            return open(path, "rb")
        return cast(BinaryIO, fsspec.open(path, "rb").open())
    except FileNotFoundError:
        raise UnreadableFileError(
            f"there is no file '{path}'", fix=f"check the path in the spec; {SKIP_HINT}"
        ) from None
    except (OSError, ValueError) as error:
        if _may_pass(error):
            raise _stopped(path, error, "cannot be opened now") from error
        problem = getattr(error, "strerror", None) or error
        raise UnreadableFileError(
            f"'{path}' cannot be opened: {problem}", fix=f"check its permissions; {SKIP_HINT}"
        ) from error


def _may_pass(error: Exception) -> bool:
    if not isinstance(error, OSError):
        return False
    return isinstance(error, TimeoutError | ConnectionError) or error.errno in _PASSING


def _stopped(path: str, error: Exception, what: str) -> UserError:
    problem = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return UserError(f"'{path}' {what}: {problem}", fix="run the same command again")
