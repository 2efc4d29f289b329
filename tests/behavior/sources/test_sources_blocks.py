from __future__ import annotations

import errno
import gzip
import io
import os
import zlib
from pathlib import Path
from typing import Any, cast
from unittest import mock

import pyarrow as pa
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from behavior.errors import UserError
from behavior.sources import blocks as blocks_module
from behavior.sources.blocks import TextFile, compression_of, iter_blocks, read_bytes
from behavior.sources.damage import DamagedFileError, UnreadableFileError
from tests.behavior.logs import few, folder_of

texts = st.lists(st.sampled_from([b"a", b"bc", b"\r\n", b"\n", b"\n", b"\xff"]), max_size=30).map(b"".join)


def joined(blocks: list[bytes]) -> list[bytes]:
    """Lines of blocks, each of which must end at a line feed or at the end of the file."""
    return [line for block in blocks for line in block.split(b"\n")[: block.count(b"\n")]]


@few
@given(data=texts, bom=st.booleans(), chunk=st.integers(1, 12), block=st.integers(1, 12))
def test_byte_ranges_give_every_line_once_and_in_order(
    data: bytes, bom: bool, chunk: int, block: int
) -> None:
    data = data + b"\n"
    stored = b"\xef\xbb\xbf" * bom + data
    with folder_of(log=stored) as folder:
        path = str(folder / "log")
        blocks = [
            piece
            for start in range(0, len(stored), chunk)
            for piece in iter_blocks(path, None, start, min(start + chunk, len(stored)), block)
        ]
        whole = list(iter_blocks(path, None, block_bytes=block))
    assert joined(blocks) == data.split(b"\n")[:-1]
    assert b"".join(blocks) == b"".join(whole) == data


def test_a_range_that_ends_at_a_line_end_behind_a_byte_order_mark_stops_there() -> None:
    with folder_of(log=b"\xef\xbb\xbfa,b\nc,d\n") as folder:
        path = str(folder / "log")
        assert list(iter_blocks(path, None, 0, 7)) == [b"a,b\n"]
        assert list(iter_blocks(path, None, 7, 11)) == [b"c,d\n"]


@few
@given(data=texts, block=st.integers(1, 40), codec=st.sampled_from(["gzip", "zstd"]))
def test_compressed_files_give_the_same_bytes(data: bytes, block: int, codec: str) -> None:
    packed = gzip.compress(data) if codec == "gzip" else pa.compress(data, "zstd", asbytes=True)
    with folder_of(log=packed) as folder:
        blocks = list(iter_blocks(str(folder / "log"), codec, block_bytes=block))
        assert read_bytes(str(folder / "log"), codec) == data
    assert b"".join(blocks) == data
    assert all(piece.endswith(b"\n") for piece in blocks[:-1])


def test_gzip_files_may_be_joined_end_to_end() -> None:
    with folder_of(log=gzip.compress(b"a\nb") + gzip.compress(b"c\nd\n")) as folder:
        assert b"".join(iter_blocks(str(folder / "log"), "gzip")) == b"a\nbc\nd\n"


def test_zeros_may_follow_a_gzip_file_and_nothing_else() -> None:
    packed = gzip.compress(b"a\nb\n")
    with folder_of(padded=packed + bytes(700), more=packed + b"rubbish") as folder:
        assert b"".join(iter_blocks(str(folder / "padded"), "gzip")) == b"a\nb\n"
        blocks, error = until_damage(str(folder / "more"), "gzip")
    assert blocks == b"a\nb\n"
    assert error.tail == b""


def test_frames_of_zstd_may_be_joined_and_some_skipped() -> None:
    skipped = (0x184D2A50).to_bytes(4, "little") + (3).to_bytes(4, "little") + b"xyz"
    frames = [pa.compress(b"a\nb", "zstd", asbytes=True), pa.compress(b"c\nd\n", "zstd", asbytes=True)]
    with folder_of(log=skipped + frames[0] + skipped + frames[1]) as folder:
        assert b"".join(iter_blocks(str(folder / "log"), "zstd")) == b"a\nbc\nd\n"


def until_damage(path: str, codec: str, block: int = 1 << 20) -> tuple[bytes, DamagedFileError]:
    """What a damaged file gives, and the error at its end."""
    parts: list[bytes] = []
    with pytest.raises(DamagedFileError) as error:
        parts.extend(iter_blocks(path, codec, block_bytes=block))
    return b"".join(parts), error.value


def long_text(lines: int) -> bytes:
    return b"".join(b"%d,%d\n" % (n, n * n * 7919 % 1_000_003) for n in range(lines))


@pytest.mark.parametrize("codec", ["gzip", "zstd"])
def test_a_truncated_file_gives_its_whole_lines_and_then_an_error_that_names_it(codec: str) -> None:
    data = long_text(60_000)
    packed = gzip.compress(data) if codec == "gzip" else pa.compress(data, codec, asbytes=True)
    with folder_of(half=packed[: len(packed) // 2]) as folder:
        whole, error = until_damage(str(folder / "half"), codec)
    assert len(whole) > len(data) // 3
    assert whole.endswith(b"\n")
    assert data.startswith(whole + error.tail)
    assert b"\n" not in error.tail
    assert "half' cannot be read to its end: " in str(error)
    assert "the file may be cut off or damaged" in str(error)
    assert error.reason.startswith("the file is cut off or damaged here: what follows is lost: ")


@few
@given(cut=st.integers(21, 170), block=st.sampled_from([1, 7, 1 << 20]))
def test_gzip_cut_anywhere_loses_nothing_that_could_be_read(cut: int, block: int) -> None:
    data = long_text(40)
    packed = gzip.compress(data)
    readable = zlib.decompressobj(wbits=31).decompress(packed[:cut])
    with folder_of(torn=packed[:cut]) as folder:
        try:
            whole, error = until_damage(str(folder / "torn"), "gzip", block)
        except UnreadableFileError:
            assert readable == b""
            return
    assert whole + error.tail == readable


@pytest.mark.parametrize("codec", ["gzip", "zstd"])
def test_a_block_damaged_in_the_middle_costs_what_follows_only(codec: str) -> None:
    data = long_text(400_000)
    checked = zstandard.ZstdCompressor(write_checksum=True)
    packed = gzip.compress(data, 1) if codec == "gzip" else checked.compress(data)
    middle = len(packed) // 2
    broken = packed[:middle] + b"\xff" * 300 + packed[middle + 300 :]
    with folder_of(log=broken) as folder:
        whole, error = until_damage(str(folder / "log"), codec)
    same = next((n for n, (a, b) in enumerate(zip(data, whole, strict=False)) if a != b), len(whole))
    # A decoder goes on for a while before it notices; what came before is right.
    assert same > len(data) * 0.4
    assert error.tail == b"" or b"\n" not in error.tail


def test_a_wrong_checksum_is_damage_behind_the_last_line() -> None:
    packed = bytearray(gzip.compress(b"a\nb\n"))
    packed[-6] ^= 1
    with folder_of(log=bytes(packed)) as folder:
        whole, error = until_damage(str(folder / "log"), "gzip")
    assert (whole, error.tail) == (b"a\nb\n", b"")


@pytest.mark.parametrize("codec", ["gzip", "zstd"])
@pytest.mark.parametrize("content", [b"user,item\n1,2\n", b"\x1f", b"\x28\xb5\x2f"])
def test_a_file_that_is_not_compressed_after_all_is_an_error(codec: str, content: bytes) -> None:
    with (
        folder_of(log=content) as folder,
        pytest.raises(UnreadableFileError, match=f"log' cannot be read: .*is it {codec}") as error,
    ):
        list(iter_blocks(str(folder / "log"), codec))
    assert "--skip-bad-files" in str(error.value.fix)


@pytest.mark.parametrize("codec", ["gzip", "zstd", None])
def test_an_empty_file_is_empty(codec: str) -> None:
    with folder_of(log=b"") as folder:
        assert list(iter_blocks(str(folder / "log"), codec)) == []


def test_files_that_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFileError, match=r"there is no file '/nowhere/log.csv'") as error:
        list(iter_blocks("/nowhere/log.csv", None))
    assert "--skip-bad-files" in str(error.value.fix)
    with pytest.raises(UnreadableFileError, match="cannot be opened: Is a directory"):
        list(iter_blocks(str(tmp_path), None))


def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"a")
    with (
        mock.patch("builtins.open", side_effect=PermissionError(13, "Permission denied")),
        pytest.raises(UnreadableFileError, match="log' cannot be opened: Permission denied"),
    ):
        list(iter_blocks(str(tmp_path / "log"), "gzip"))


@pytest.mark.parametrize("codec", [None, "gzip"])
def test_a_line_without_end_is_refused_before_it_fills_the_memory(codec: str | None) -> None:
    data = b"x" * 5000
    with (
        folder_of(log=data if codec is None else gzip.compress(data)) as folder,
        mock.patch.object(blocks_module, "MAX_LINE_BYTES", 1 << 11),
        pytest.raises(UnreadableFileError, match="log' holds a line of more than"),
    ):
        list(iter_blocks(str(folder / "log"), codec, block_bytes=100))


class Failing(io.BufferedReader):
    """A file that fails at a place in it."""

    def __init__(self, data: bytes, place: int, error: Exception) -> None:
        super().__init__(cast(Any, io.BytesIO(data)))
        self.place, self.error = place, error

    def read(self, size: int | None = -1, /) -> bytes:
        if self.tell() + max(size or 0, 1) > self.place:
            raise self.error
        return super().read(size)

    def readline(self, size: int | None = -1, /) -> bytes:
        if self.tell() >= self.place:
            raise self.error
        return super().readline(size)


DISK, TIME = OSError(errno.EIO, "Input/output error"), TimeoutError("too slow")
BUSY, RESET = OSError(errno.EMFILE, "Too many open files"), ConnectionResetError(errno.ECONNRESET, "reset")


@pytest.mark.parametrize("codec", [None, "gzip"])
@pytest.mark.parametrize("error", [DISK, TIME, BUSY, RESET], ids=repr)
def test_an_error_in_the_middle_of_a_file_does_not_make_it_unreadable(
    error: Exception, codec: str | None
) -> None:
    data = os.urandom(150_000).hex().encode().replace(b"0", b"\n")
    stored = data if codec is None else gzip.compress(data)
    with mock.patch("builtins.open", return_value=Failing(stored, 100_000, error)):
        blocks = iter_blocks("log", codec, block_bytes=1000)
        assert data.startswith(next(blocks))
        with pytest.raises(UserError, match="'log' cannot be read to its end: ") as raised:
            list(blocks)
    assert not isinstance(raised.value, UnreadableFileError)
    assert "--skip-bad-files" not in str(raised.value)


def test_an_error_behind_the_header_or_in_a_later_range_does_not_make_a_file_unreadable() -> None:
    with mock.patch("builtins.open", return_value=Failing(b"a\nb\nc\n", 2, DISK)):
        file = TextFile("log", None)
        assert file.readline() == b"a\n"
        for read in (file.readline, lambda: file.read(10)):
            with pytest.raises(UserError, match="cannot be read to its end: Input/output error") as raised:
                read()
            assert not isinstance(raised.value, UnreadableFileError)
        with pytest.raises(UserError, match="cannot be read to its end") as raised:
            list(iter_blocks("log", None, 4, 6))
        assert not isinstance(raised.value, UnreadableFileError)


@pytest.mark.parametrize(("error", "gone"), [(DISK, True), (TIME, False), (BUSY, False), (RESET, False)])
def test_an_error_at_the_start_makes_a_file_unreadable_unless_it_may_pass(
    error: Exception, gone: bool
) -> None:
    for codec in (None, "gzip"):
        for fails in ({"return_value": Failing(b"a\nb\n", 0, error)}, {"side_effect": error}):
            with (
                mock.patch("builtins.open", **fails),
                pytest.raises(UserError, match="'log' cannot be") as raised,
            ):
                list(iter_blocks("log", codec))
            assert isinstance(raised.value, UnreadableFileError) == gone
            assert ("--skip-bad-files" in str(raised.value)) == gone


@pytest.mark.parametrize("codec", [None, "gzip"])
@pytest.mark.parametrize("data", [b"", b"a,b\r\nc", b"a", b"\na", b"a\n" * 3000])
def test_a_line_may_be_looked_at_before_it_is_read(data: bytes, codec: str | None) -> None:
    with (
        folder_of(log=data if codec is None else gzip.compress(data)) as folder,
        TextFile(str(folder / "log"), codec) as file,
    ):
        line = file.peek_line()
        assert line == data.split(b"\n")[0] + b"\n" * (b"\n" in data)
        assert (file.position, file.lines) == (0, 0)
        assert file.readline() == line
        assert (file.position, file.lines) == (len(line), int(data != b""))
        assert file.read(1 << 20) == data[len(line) :]


@pytest.mark.parametrize(
    ("path", "setting", "codec"),
    [
        ("a.csv", "auto", None),
        ("a.csv.GZ", "auto", "gzip"),
        ("a.zst", "auto", "zstd"),
        ("a.zstd", "auto", "zstd"),
        ("a.gz", "none", None),
        ("a.csv", "gzip", "gzip"),
    ],
)
def test_compression_goes_by_the_setting_then_by_the_name(path: str, setting: str, codec: str | None) -> None:
    assert compression_of(path, setting) == codec
