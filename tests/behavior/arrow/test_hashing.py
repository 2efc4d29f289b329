from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from behavior.arrow.hashing import split_by_hash, stable_hash
from tests.behavior.logs import few

MASK = 2**64 - 1


def finalized(value: int) -> int:
    """The finalizer of MurmurHash3 (fmix64), in whole numbers of Python."""
    value ^= value >> 33
    value = value * 0xFF51AFD7ED558CCD & MASK
    value ^= value >> 33
    value = value * 0xC4CEB9FE1A85EC53 & MASK
    return value ^ value >> 33


def fnv1a(data: bytes) -> int:
    """FNV-1a of 64 bits."""
    value = 0xCBF29CE484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 & MASK
    return value


def test_the_oracle_gives_published_values() -> None:
    # From the test vectors of the FNV reference code.
    assert fnv1a(b"") == 0xCBF29CE484222325
    assert fnv1a(b"a") == 0xAF63DC4C8601EC8C
    assert fnv1a(b"foobar") == 0x85944171F73967E8


@pytest.mark.parametrize(
    ("ids", "hashes"),
    [
        (pa.array([0, 1, 2, -1]), [0, 0xB456BCFC34C2CB2C, 0x3ABF2A20650683E7, 0x64B5720B4B825F21]),
        (pa.array(["", "1", "user"]), [0xEFD01F60BA992926, 0x7C3832DDE020D3D6, 0x37543DE63AA9BAC7]),
    ],
)
def test_hashes_never_change(ids: pa.Array, hashes: list[int]) -> None:
    assert [int(value) for value in stable_hash(ids)] == hashes


@few
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]))), st.integers(0, 3))
def test_text_against_plain_python(texts: list[str], start: int) -> None:
    array = pa.array(texts, pa.string()).slice(start)
    assert [int(v) for v in stable_hash(array)] == [finalized(fnv1a(text.encode())) for text in texts[start:]]


@few
@given(st.lists(st.integers(-(2**63), 2**63 - 1)))
def test_integers_against_plain_python(numbers: list[int]) -> None:
    assert [int(v) for v in stable_hash(pa.array(numbers, pa.int64()))] == [
        finalized(n & MASK) for n in numbers
    ]


def test_narrow_integers_hash_as_wide_ones() -> None:
    assert stable_hash(pa.array([-3, 7], pa.int8())).tolist() == stable_hash(pa.array([-3, 7])).tolist()


@few
@given(st.lists(st.integers(0, 9), max_size=30), st.integers(1, 5))
def test_parts_hold_every_row_once_and_in_order(users: list[int], parts: int) -> None:
    batch = pa.RecordBatch.from_pydict(
        {"user": pa.array(users, pa.int64()), "row": pa.array(range(len(users)))}
    )
    got = {part: rows.column("row").to_pylist() for part, rows in split_by_hash(batch, "user", parts)}
    expected = {
        part: own
        for part in range(parts)
        if (own := [row for row, user in enumerate(users) if finalized(user) % parts == part]) or parts == 1
    }
    assert got == expected
    assert list(got) == sorted(got)
