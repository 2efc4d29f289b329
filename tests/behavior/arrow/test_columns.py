"""Columns put together, ordered and filtered: what Arrow's own functions give, whatever lies in a file."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from behavior.arrow import coded
from behavior.arrow.coded import encoded, looked_up
from behavior.arrow.columns import filtered, joined, lists_taken, taken
from behavior.runtime import scratch

RNG = np.random.default_rng(0)
COLUMNS = {
    "integers": pa.array(RNG.integers(-9, 9, 500)),
    "small": pa.array(RNG.integers(0, 9, 500), pa.int8()),
    "floats": pa.array([*RNG.random(499), float("nan")], pa.float32()),
    "text": pa.array([f"t{number % 37}" for number in range(500)]),
    "nulls": pa.array([None if number % 7 == 0 else number for number in range(500)]),
    "coded": pa.array([f"t{number % 37}" for number in range(500)]).dictionary_encode(),
    "lists": pa.array([list(range(number % 4)) for number in range(500)]),
}


@pytest.fixture(autouse=True, params=[0, scratch.LARGE_BYTES], ids=["in files", "in memory"])
def large(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scratch, "LARGE_BYTES", request.param)


def same(one: pa.Array, other: pa.Array) -> bool:
    """Equal, NaN and all."""
    return one.type == other.type and repr(one.to_pylist()) == repr(other.to_pylist())


@pytest.mark.parametrize("name", list(COLUMNS))
def test_as_arrow_does(name: str) -> None:
    column = COLUMNS[name]
    rows, keep = RNG.integers(0, 500, 700), RNG.random(500) < 0.3
    chunks = pa.chunked_array([column.slice(0, 120), column.slice(120, 1), column.slice(121)])
    assert same(joined(chunks), column)
    assert same(taken(column, rows), column.take(pa.array(rows)))
    assert same(filtered(column, keep, int(keep.sum())), column.filter(pa.array(keep)))


@pytest.mark.parametrize("name", list(COLUMNS))
def test_lists(name: str) -> None:
    offsets = np.sort(np.concatenate(([0, 0], RNG.integers(0, 500, 30), [500]))).astype(np.int32)
    lists = pa.ListArray.from_arrays(pa.array(offsets), COLUMNS[name])
    for some in (lists, lists.slice(4, 20)):
        rows = RNG.permutation(len(some))
        found = lists_taken(some, rows)
        found.validate(full=True)
        assert same(found, some.take(pa.array(rows)))
        assert found.offsets[0].as_py() == 0


@pytest.mark.parametrize("rows_at_once", [1, 7, 1 << 18])
@pytest.mark.parametrize("name", ["text", "integers", "coded"])
def test_distinct_values_come_in_the_order_of_their_first(
    name: str, rows_at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coded, "_ROWS_AT_ONCE", rows_at_once)
    column = COLUMNS[name]
    chunks = pa.chunked_array([column.slice(first, 60) for first in range(0, 500, 60)])
    found = encoded(chunks)
    assert found.indices.type == pa.int32()
    assert found.cast(found.dictionary.type).to_pylist() == column.to_pylist()
    firsts = list(dict.fromkeys(column.to_pylist()))
    assert found.dictionary.to_pylist() == firsts


def test_looked_up() -> None:
    table, codes = RNG.random(40), RNG.integers(0, 40, 500).astype(np.int32)
    assert pc.equal(pa.array(looked_up(table, codes)), pa.array(table[codes])).to_numpy(False).all()
