from __future__ import annotations

import gzip

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from behavior.errors import UserError
from behavior.sources.blocks import compression_of, first_line, is_empty, iter_blocks
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
        assert is_empty(str(folder / "log"), codec) == (not data)
    assert b"".join(blocks) == data
    assert all(piece.endswith(b"\n") for piece in blocks[:-1])


def test_gzip_files_may_be_joined_end_to_end() -> None:
    with folder_of(log=gzip.compress(b"a\nb") + gzip.compress(b"c\nd\n")) as folder:
        assert b"".join(iter_blocks(str(folder / "log"), "gzip")) == b"a\nbc\nd\n"


@pytest.mark.parametrize("codec", ["gzip", "zstd"])
def test_a_truncated_file_is_an_error_that_names_it(codec: str) -> None:
    data = b"".join(b"%d,%d\n" % (n, n * n) for n in range(5000))
    packed = gzip.compress(data) if codec == "gzip" else pa.compress(data, codec, asbytes=True)
    with (
        folder_of(half=packed[: len(packed) // 2]) as folder,
        pytest.raises(UserError, match=r"half' cannot be read to its end") as error,
    ):
        list(iter_blocks(str(folder / "half"), codec))
    assert "cut off or damaged" in str(error.value)


@pytest.mark.parametrize("codec", ["gzip", "zstd"])
def test_a_file_that_is_not_compressed_after_all_is_an_error(codec: str) -> None:
    with folder_of(log=b"user,item\n1,2\n") as folder, pytest.raises(UserError, match="log' cannot be read"):
        list(iter_blocks(str(folder / "log"), codec))


def test_a_missing_file_is_an_error() -> None:
    with pytest.raises(UserError, match=r"there is no file '/nowhere/log.csv'"):
        list(iter_blocks("/nowhere/log.csv", None))


@pytest.mark.parametrize(
    ("data", "line"), [(b"", ""), (b"\xef\xbb\xbfa,b\r\nc", "a,b"), (b"a", "a"), (b"\na", "")]
)
def test_first_line(data: bytes, line: str) -> None:
    with folder_of(log=data, packed=gzip.compress(data)) as folder:
        assert first_line(str(folder / "log"), None, "utf-8") == line
        assert first_line(str(folder / "packed"), "gzip", "utf-8") == line


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
