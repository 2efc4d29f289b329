"""The digest of a table's content: the same however it is stored, another for any other value."""

from __future__ import annotations

from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from behavior.shards.content import content_digest
from behavior.shards.write import write_table

TABLE = pa.table(
    {
        "user": pa.array(["ada", "", None, "zoë", "bob", "ada"]),
        "item": pa.array([[1, 2], [], [3], [4, 5, 6], None, [7]], pa.list_(pa.int32())),
        "value": pa.array([[0.5, None], [], [float("nan")], [1, 2, 3], None, [7]], pa.list_(pa.float32())),
        "words": pa.array([["a", "bc"], [], ["abc"], [None, "", "d"], None, ["e"]], pa.list_(pa.string())),
        "count": pa.array([1, None, 3, 4, 5, 6], pa.int64()),
        "train_end": pa.array([1, 2, 3, 4, 5, 6], pa.int32()),
        "mean": pa.array([0.0, 1.5, None, 2.5, -1.0, 1e10]),
        "known": pa.array([True, False, None, True, True, False]),
    }
)


@pytest.mark.parametrize(
    "options",
    [
        {"compression": "none"},
        {"compression": "snappy", "row_group_size": 2},
        {"compression": "zstd", "row_group_size": 1, "use_dictionary": False},
        {"version": "1.0", "data_page_version": "2.0", "store_schema": False},
        {"use_compliant_nested_type": False, "write_statistics": False},
    ],
    ids=str,
)
def test_how_a_table_is_written_does_not_matter(options: dict[str, Any], tmp_path: Path) -> None:
    pq.write_table(TABLE, tmp_path / "table.parquet", **options)
    assert content_digest(pq.read_table(tmp_path / "table.parquet")) == content_digest(TABLE)


def test_chunks_slices_and_metadata_do_not_matter() -> None:
    expected = content_digest(TABLE)
    for cuts in ([0, 2, 6], [0, 1, 1, 3, 4, 6]):
        parts = [TABLE.slice(a, b - a) for a, b in pairwise(cuts)]
        assert content_digest(pa.concat_tables(parts)) == expected
    twice = pa.concat_tables([TABLE, TABLE]).combine_chunks()
    assert content_digest(twice.slice(6)) == content_digest(twice.slice(0, 6)) == expected
    assert content_digest(twice.slice(3, 6)) != expected
    assert content_digest(TABLE.replace_schema_metadata({"made": "today"})) == expected


def test_what_lies_under_nulls_does_not_matter() -> None:
    mask = np.array([False, True, False])
    for values in ([1, 2, 3], ["a", "b", "c"], [1.5, 2.5, 3.5]):
        hidden = pa.array(values, mask=mask)
        assert content_digest(pa.table({"x": hidden})) == content_digest(
            pa.table({"x": pa.array([values[0], None, values[2]])})
        )
    under = pa.ListArray.from_arrays(
        pa.array([0, 1, 3, 4], pa.int32()), pa.array([1, 2, 3, 4]), mask=pa.array(mask)
    )
    assert content_digest(pa.table({"x": under})) == content_digest(pa.table({"x": [[1], None, [4]]}))


@pytest.mark.parametrize("name", TABLE.column_names)
def test_any_other_value_gives_another_digest(name: str) -> None:
    rows, digests = TABLE.column(name).to_pylist(), {content_digest(TABLE)}
    changes = 0
    for row, value in enumerate(rows):
        for other in _others(value, rows):
            changed = pa.array([*rows[:row], other, *rows[row + 1 :]], TABLE.schema.field(name).type)
            place = TABLE.column_names.index(name)
            digests.add(content_digest(TABLE.set_column(place, name, changed)))
            changes += 1
    assert len(digests) == 1 + changes


def _others(value: Any, rows: list[Any]) -> list[Any]:
    """Values near to one: null or not, an element more, less or another."""
    if value is None:
        return [next(row for row in rows if row is not None)]
    if isinstance(value, list):
        return [None, [*value, None], *([value[:-1]] if value else [])]
    if isinstance(value, str):
        return [None, value + "x"]
    return [None, not value] if isinstance(value, bool) else [None, value + 1]


def test_values_do_not_flow_from_one_place_into_the_next() -> None:
    tables = [
        pa.table({"a": ["ab", "c"], "b": ["", "d"]}),
        pa.table({"a": ["a", "bc"], "b": ["", "d"]}),
        pa.table({"a": ["ab", "cd"], "b": ["", ""]}),
        pa.table({"b": ["ab", "c"], "a": ["", "d"]}),
        pa.table({"b": ["", "d"], "a": ["ab", "c"]}),
        pa.table({"a": [[1, 2], [3]]}),
        pa.table({"a": [[1], [2, 3]]}),
        pa.table({"a": [1, 2, 3]}),
        pa.table({"a": pa.array([1, 2, 3], pa.int32())}),
        pa.table({"a": pa.array([1, 2, 3], pa.float32())}),
        pa.table({"a": pa.array([], pa.int32())}),
        pa.table({}),
    ]
    assert len({content_digest(table) for table in tables}) == len(tables)


def test_a_digest_that_must_never_change() -> None:
    """Finished runs are found by it; the number follows from the docstring, not from a version of pyarrow."""
    table = pa.table({"id": pa.array([1, 2], pa.int32())})
    assert content_digest(table) == _by_hand("id", "int32", np.array([1, 2], "<i4").tobytes(), rows=2)


def _by_hand(name: str, kind: str, data: bytes, rows: int) -> str:
    column = f"{rows} {sha256(b'').hexdigest()} {kind} {sha256(data).hexdigest()}"
    line = f"{len(name)} {name} {sha256(column.encode()).hexdigest()}\n"
    return sha256(line.encode()).hexdigest()


def test_a_type_without_a_digest_is_an_error() -> None:
    with pytest.raises(TypeError, match="dictionary"):
        content_digest(pa.table({"a": pa.array(["x"]).dictionary_encode()}))
    with pytest.raises(TypeError, match="timestamp"):
        content_digest(pa.table({"a": pa.array([1], pa.timestamp("s"))}))


def test_files_of_a_data_set_are_entered_with_it(tmp_path: Path) -> None:
    assert write_table(TABLE, tmp_path, "a.parquet").content == content_digest(TABLE)
