"""Decompression that gives everything up to the place where a file is cut off or damaged."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any, BinaryIO

import zstandard

# Little enough that what a step unpacks to fits memory, whoever packed it.
_STEP = {"gzip": 1 << 16, "zstd": 1 << 14}
_ERRORS = (zlib.error, zstandard.ZstdError)


class Decompressed:
    """A stream of one or several gzip members or zstd frames.

    Reading never fails over the compressed content: it ends there, and `damage` says why.

    Args:
        open_raw: opens the compressed file; called again where damage is met, to squeeze out the last bytes
            before it.
        codec: gzip or zstd.
    """

    def __init__(self, open_raw: Callable[[], BinaryIO], codec: str) -> None:
        self.damage: str | None = None
        self._open_raw = open_raw
        self._codec = codec
        self._raw = open_raw()
        self._decoder = _Decoder(codec)
        self._fed = 0  # compressed bytes that went through without an error
        self._ready = bytearray()
        self._ended = False

    def read(self, size: int) -> bytes:
        """The next `size` bytes; fewer only at the end or before damage."""
        while len(self._ready) < size and not self._ended:
            self._fill()
        result = bytes(self._ready[:size])
        del self._ready[:size]
        return result

    def close(self) -> None:
        self._raw.close()

    def _fill(self) -> None:
        piece = self._raw.read(_STEP[self._codec])
        if not piece:
            self._ended = True
            if not self._decoder.complete:
                self.damage = f"the {self._codec} stream ends too early"
            return
        try:
            self._ready += self._decoder.feed(piece)
        except _ERRORS as error:
            self._ended = True
            self.damage = str(error)
            self._ready += self._before_damage(piece)
        else:
            self._fed += len(piece)

    def _before_damage(self, piece: bytes) -> bytes:
        """What the piece that failed gives before it fails: a decoder drops the output of a step that fails.

        So everything is fed once more, and the piece byte by byte.
        """
        decoder, left, result = _Decoder(self._codec), self._fed, bytearray()
        raw = self._open_raw()
        try:
            while left:
                again = raw.read(min(left, _STEP[self._codec]))
                if not again:
                    return b""  # someone cut the file in the meantime
                decoder.feed(again)
                left -= len(again)
            for place in range(len(piece)):
                result += decoder.feed(piece[place : place + 1])
        except _ERRORS:
            pass  # here it is
        finally:
            raw.close()
        return bytes(result)


class _Decoder:
    """Feeds members or frames, one after the other, to decompressors of their own."""

    def __init__(self, codec: str) -> None:
        self._codec = codec
        self._current: Any = None
        self._first = True

    @property
    def complete(self) -> bool:
        """Whether the input may end here."""
        return self._current is None

    def feed(self, piece: bytes) -> bytes:
        parts: list[bytes] = []
        while piece:
            if self._current is None:
                if self._codec == "gzip" and not self._first:
                    piece = piece.lstrip(b"\0")  # tapes and block devices pad with zeros
                    if not piece:
                        break
                self._current, self._first = self._new(), False
            parts.append(self._current.decompress(piece))
            if not self._current.eof:
                break
            piece = self._current.unused_data
            self._current = None
        return b"".join(parts)

    def _new(self) -> Any:
        if self._codec == "gzip":
            return zlib.decompressobj(wbits=31)
        return zstandard.ZstdDecompressor().decompressobj()
