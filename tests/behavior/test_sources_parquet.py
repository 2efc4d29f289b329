from __future__ import annotations

import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from behavior.errors import UserError
from behavior.sources.parquet import open_parquet, read_row_groups
from tests.behavior.logs import make_spec, read_log

COLUMNS = {"user": "user", "item": "item", "timestamp": "time"}


def write(folder: Path, groups: int = 3, name: str = "log.parquet", **columns: pa.Array) -> None:
    table = pa.table(columns)
    pq.write_table(table, folder / name, row_group_size=-(-table.num_rows // groups))


def spec_of(**changes: object):
    return make_spec({"files": "log.parquet", "columns": COLUMNS}, **changes)


def test_row_groups_and_chunks_give_every_row_once_and_in_order(tmp_path: Path) -> None:
    users, items, times = range(100, 111), [f"i{n}" for n in range(11)], range(11)
    write(
        tmp_path, 4, user=pa.array(users, pa.int32()), item=pa.array(items), time=pa.array(times, pa.int64())
    )
    expected = list(zip(users, items, times, strict=True))
    for chunk_bytes in (1, 300, 1 << 20):
        got = read_log(spec_of(), tmp_path, chunk_bytes)
        assert got.rows("user", "item", "timestamp") == expected
        assert (got.read, got.rejects, got.filtered) == (11, [], 0)


def test_integer_ids_stay_integers_where_every_source_is_parquet(tmp_path: Path) -> None:
    write(tmp_path, user=pa.array([5, 5], pa.uint64()), item=pa.array(["a", "b"]), time=pa.array([1, 2]))
    events = read_log(spec_of(), tmp_path).events
    assert (events.schema.field("user").type, events.schema.field("item").type) == (pa.int64(), pa.string())


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (pa.timestamp("ms"), [1500, 2500]),
        (pa.timestamp("us", "Europe/Berlin"), [1_500_000, 2_500_000]),
        (pa.timestamp("ns"), [1_500_000_000, 2_500_000_000]),
    ],
)
def test_arrow_timestamps_become_the_unit_of_the_spec(
    tmp_path: Path, kind: pa.DataType, values: list
) -> None:
    write(tmp_path, user=pa.array([1, 1]), item=pa.array([1, 2]), time=pa.array(values, kind))
    assert read_log(spec_of(), tmp_path).rows("timestamp") == [(1,), (2,)]
    assert read_log(spec_of(timestamp_unit="ms"), tmp_path).rows("timestamp") == [(1500,), (2500,)]
    got = read_log(spec_of(timestamp_unit="iso8601"), tmp_path)
    assert got.rows("timestamp") == [(1_500_000,), (2_500_000,)]


def test_arrow_dates_become_midnight_utc(tmp_path: Path) -> None:
    write(tmp_path, user=pa.array([1]), item=pa.array([1]), time=pa.array([datetime.date(1970, 1, 3)]))
    assert read_log(spec_of(), tmp_path).rows("timestamp") == [(2 * 86_400,)]


@pytest.mark.parametrize(
    "kind",
    [
        pa.string(),
        pa.large_string(),
        pa.string_view(),
        pa.binary(),
        pa.large_binary(),
        pa.dictionary(pa.int8(), pa.string()),
    ],
)
def test_text_of_any_arrow_type(tmp_path: Path, kind: pa.DataType) -> None:
    spec = make_spec({"files": "log.parquet", "columns": {**COLUMNS, "value": "stars"}})
    text = {
        "user": ["u", "v", ""],
        "item": ["1", "2", "3"],
        "time": ["7", "x", "9"],
        "stars": ["1.5", "?", ""],
    }
    arrays = {name: pa.array(values).cast(kind) for name, values in text.items()}
    write(tmp_path, 1, **arrays)
    got = read_log(spec, tmp_path)
    assert got.rows("user", "item", "timestamp", "value") == [("u", "1", 7, 1.5)]
    assert got.reasons[0] == (1, "timestamp 'x' is not a whole number")
    assert got.reasons[1] == (2, "user (empty) is not an id")


def test_nulls_are_rejected_with_row_group_and_row(tmp_path: Path) -> None:
    write(
        tmp_path,
        2,
        user=pa.array([1, 2, None, 4]),
        item=pa.array([1, None, 3, 4]),
        time=pa.array([1, 2, 3, 4]),
    )
    got = read_log(spec_of(), tmp_path)
    assert got.rows("user") == [(1,), (4,)]
    assert [(r.row_group, r.place, r.reason) for r in got.rejects] == [
        (0, 1, "item (empty) is not a whole number"),
        (1, 0, "user (empty) is not a whole number"),
    ]
    assert '"row_group": 1, "row": 0' in got.rejects[1].to_json()
    assert got.read == got.events.num_rows + len(got.rejects) == 4


def test_batches_do_not_span_row_groups(tmp_path: Path) -> None:
    write(tmp_path, 3, x=pa.array(range(7)))
    path = str(tmp_path / "log.parquet")
    places = [raw.places.tolist() for raw in read_row_groups(path, None, ["x"])]
    assert places == [[0, 1, 2], [0, 1, 2], [0]]
    assert [raw.columns["x"].to_pylist() for raw in read_row_groups(path, [2], ["x"])] == [[6]]


def test_a_column_of_lists_is_an_error_that_names_it(tmp_path: Path) -> None:
    write(tmp_path, user=pa.array([1]), item=pa.array([[1, 2]]), time=pa.array([1]))
    with pytest.raises(UserError, match=r"the column 'item' holds list<.*int64>, not single values"):
        read_log(spec_of(id_types={"item": "string"}), tmp_path)


def test_files_that_are_not_parquet(tmp_path: Path) -> None:
    write(tmp_path, x=pa.array(range(1000)))
    whole = (tmp_path / "log.parquet").read_bytes()
    (tmp_path / "cut.parquet").write_bytes(whole[:-20])
    (tmp_path / "text.parquet").write_text("user,item\n")
    for name in ("cut.parquet", "text.parquet"):
        with pytest.raises(UserError, match=f"{name}' is not a Parquet file"):
            open_parquet(str(tmp_path / name))
    with pytest.raises(UserError, match="there is no file"):
        open_parquet(str(tmp_path / "none.parquet"))


def test_a_damaged_page_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    pq.write_table(pa.table({"x": pa.array(range(50_000))}), tmp_path / "log.parquet", compression="zstd")
    data = bytearray((tmp_path / "log.parquet").read_bytes())
    data[4:4000] = bytes(3996)
    (tmp_path / "log.parquet").write_bytes(data)
    with pytest.raises(UserError, match="row group 0 cannot be read") as error:
        list(read_row_groups(str(tmp_path / "log.parquet"), None, ["x"]))
    assert error.value.where == str(tmp_path / "log.parquet")
