from __future__ import annotations

import datetime
import errno
import io
from pathlib import Path
from unittest import mock

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from behavior.errors import UserError
from behavior.sources import UnreadableFileError, parquet, plan_input, read_chunk
from behavior.sources.parquet import is_damage, open_parquet, read_row_groups
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
    with open_parquet(str(tmp_path / "log.parquet")) as file:
        places = [raw.places.tolist() for raw in read_row_groups(file, None, ["x"])]
        assert places == [[0, 1, 2], [0, 1, 2], [0]]
        assert [raw.columns["x"].to_pylist() for raw in read_row_groups(file, [2], ["x"])] == [[6]]


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


def damage(path: Path, group: int, column: int = 0) -> None:
    """Overwrite the pages of a column in one row group."""
    chunk = pq.ParquetFile(path).metadata.row_group(group).column(column)
    start = chunk.dictionary_page_offset or chunk.data_page_offset
    data = bytearray(path.read_bytes())
    data[start : start + chunk.total_compressed_size] = b"\xff" * chunk.total_compressed_size
    path.write_bytes(data)


def test_a_damaged_row_group_is_one_reject_and_the_others_are_read(tmp_path: Path) -> None:
    numbers = pa.array(range(90))
    write(tmp_path, 3, user=numbers, item=numbers, time=numbers)
    damage(tmp_path / "log.parquet", 1, 2)
    got = read_log(spec_of(), tmp_path)
    assert got.rows("user") == [(n,) for n in [*range(30), *range(60, 90)]]
    [(place, reason)] = got.reasons
    assert place == 0
    assert reason.startswith("the row group is damaged here: what follows in it is lost: ")
    assert got.read == 61
    with open_parquet(str(tmp_path / "log.parquet")) as file:
        raws = list(read_row_groups(file, None, ["user", "time"]))
    assert [(raw.row_group, raw.num_rows, raw.damaged is not None) for raw in raws] == [
        (0, 30, False),
        (1, 0, True),
        (2, 30, False),
    ]


def test_what_comes_before_a_damaged_page_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "BATCH_ROWS", 1000)
    path = tmp_path / "log.parquet"
    table = pa.table({"x": pa.array(range(50_000))})
    pq.write_table(table, path, use_dictionary=False, data_page_size=8000, compression="none")
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : -2000] = b"\xff" * (len(data) - len(data) // 2 - 2000)
    path.write_bytes(data)
    with open_parquet(str(path)) as file:
        raws = list(read_row_groups(file, None, ["x"]))
    rows = sum(raw.num_rows for raw in raws)
    assert rows > 10_000
    assert [place for raw in raws for place, _, _ in raw.rejects] == [rows]
    assert [raw.damaged is not None for raw in raws] == [False] * (len(raws) - 1) + [True]


class Failing(io.BytesIO):
    """A file that fails with `error` once there is one."""

    error: BaseException | None = None

    def read(self, size: int | None = -1, /) -> bytes:
        if self.error is not None:
            raise self.error
        return super().read(size)


PASSING = [
    TimeoutError("the read timed out"),
    ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"),
    OSError(errno.EIO, "Input/output error"),
    OSError("the server is busy"),
    PermissionError("the token is no longer valid"),
    MemoryError("malloc failed"),
]


@pytest.mark.parametrize("error", PASSING, ids=repr)
def test_an_error_of_the_storage_is_no_damage(tmp_path: Path, error: Exception) -> None:
    write(tmp_path, 3, x=pa.array(range(90)))
    stored = Failing((tmp_path / "log.parquet").read_bytes())
    raws = read_row_groups(pq.ParquetFile(stored), None, ["x"])
    assert next(raws).num_rows == 30
    stored.error = error
    with pytest.raises(type(error), match=str(error.args[-1])):
        next(raws)
    # Another attempt reads everything.
    stored.error = None
    assert [raw.num_rows for raw in read_row_groups(pq.ParquetFile(stored), None, ["x"])] == [30] * 3


def test_arrow_without_memory_is_no_damage() -> None:
    assert not is_damage(pa.ArrowMemoryError("malloc of size 123 failed"))


@pytest.mark.parametrize("compression", ["none", "snappy", "gzip", "brotli", "lz4", "zstd"])
def test_whatever_bytes_are_damaged_is_damage(tmp_path: Path, compression: str) -> None:
    table = pa.table({"x": range(300), "y": [f"u{n % 50}" for n in range(300)]})
    pq.write_table(table, tmp_path / "x", compression=compression, row_group_size=100)
    whole = (tmp_path / "x").read_bytes()
    end = max(pq.ParquetFile(tmp_path / "x").metadata.row_group(2).column(c).data_page_offset for c in (0, 1))
    lost = 0
    for place in range(4, end, 29):
        broken = whole[:place] + bytes(255 - byte for byte in whole[place : place + 3]) + whole[place + 3 :]
        with pq.ParquetFile(io.BytesIO(broken)) as file:
            lost += any(raw.damaged is not None for raw in read_row_groups(file, None, ["x", "y"]))
    assert lost


def test_a_file_that_grew_shorter_is_damaged(tmp_path: Path) -> None:
    write(tmp_path, 2, x=pa.array(range(1000)))
    with open_parquet(str(tmp_path / "log.parquet")) as file:
        with (tmp_path / "log.parquet").open("r+b") as cut:
            cut.truncate(100)
        assert [raw.damaged is not None for raw in read_row_groups(file, None, ["x"])] == [True, True]


@pytest.mark.parametrize(
    "error", [error for error in PASSING if type(error) is not PermissionError], ids=repr
)
def test_a_file_that_cannot_be_opened_now_is_not_unreadable(error: Exception) -> None:
    with mock.patch.object(pq, "ParquetFile", side_effect=error), pytest.raises(type(error)):
        open_parquet("log.parquet")


def test_a_file_that_may_not_be_opened_is_unreadable(tmp_path: Path) -> None:
    denied = PermissionError(errno.EACCES, "Permission denied")
    with mock.patch.object(pq, "ParquetFile", side_effect=denied), pytest.raises(UnreadableFileError):
        open_parquet("log.parquet")
    with pytest.raises(UnreadableFileError, match="is a directory"):
        open_parquet(str(tmp_path))


def test_bad_files_are_set_aside_on_request(tmp_path: Path) -> None:
    numbers = pa.array([1, 2])
    write(tmp_path, 1, "a.parquet", user=numbers, thing=numbers, time=numbers)
    (tmp_path / "b.parquet").write_bytes(b"PAR1 rubbish PAR1")
    write(tmp_path, 1, "c.parquet", user=numbers, item=numbers, time=numbers)
    (tmp_path / "d.parquet").write_bytes(b"")
    spec = make_spec({"files": "*.parquet", "columns": COLUMNS})
    with pytest.raises(UserError, match="no column 'item'") as error:
        plan_input(spec, str(tmp_path))
    assert str(error.value.where).endswith("a.parquet")
    assert "--skip-bad-files" in str(error.value.fix)
    plan = plan_input(spec, str(tmp_path), skip_bad_files=True)
    assert [(bad.name, bad.source, bad.file) for bad in plan.bad_files] == [
        ("a.parquet", 0, 0),
        ("b.parquet", 0, 1),
        ("d.parquet", 0, 3),
    ]
    assert [chunk.path for chunk in plan.chunks] == [str(tmp_path / "c.parquet")]
    assert plan.user_type == "integer"
    reject = plan.bad_files[1].reject
    assert (reject.file, reject.place, reject.where) == ("b.parquet", 0, "b.parquet")
    assert str(tmp_path) not in reject.reason
    (tmp_path / "c.parquet").unlink()
    with pytest.raises(UserError, match="no column 'item'"):
        plan_input(spec, str(tmp_path), skip_bad_files=True)


def test_each_file_is_opened_once_to_plan_and_once_a_chunk_to_read(tmp_path: Path) -> None:
    numbers = pa.array(range(9))
    write(tmp_path, 3, user=numbers, item=numbers, time=numbers)
    write(tmp_path, 1, "more.parquet", user=numbers, item=numbers, time=numbers)
    spec = make_spec({"files": "*.parquet", "columns": COLUMNS})
    with mock.patch.object(pq, "ParquetFile", wraps=pq.ParquetFile) as opened:
        plan = plan_input(spec, str(tmp_path), 1)
        assert len(plan.with_chunk_bytes(1 << 20).chunks) == 2
        assert opened.call_count == 2
        list(read_chunk(spec.events[0], plan.chunks[0], ["user"]))
        assert opened.call_count == 3
    assert [(c.file, c.start, c.end) for c in plan.chunks] == [(0, 0, 1), (0, 1, 2), (0, 2, 3), (1, 0, 1)]
    assert all(chunk.bytes > 0 for chunk in plan.chunks)


def test_ids_are_integers_only_where_they_are_in_every_file(tmp_path: Path) -> None:
    numbers = pa.array([7])
    write(tmp_path, 1, "a.parquet", user=numbers, item=numbers, time=numbers)
    write(tmp_path, 1, "b.parquet", user=pa.array([8], pa.int16()), item=pa.array(["x"]), time=numbers)
    got = read_log(make_spec({"files": "*.parquet", "columns": COLUMNS}), tmp_path)
    assert got.rows("user", "item") == [(7, "7"), (8, "x")]


def test_text_that_is_not_utf_8_costs_its_own_row_only(tmp_path: Path) -> None:
    words = pa.array([b"a", b"\xff\xfe", b"c"]).view(pa.string())
    for kind in (pa.string(), pa.large_string()):
        text = (
            words
            if kind == pa.string()
            else pa.array([b"a", b"\xff\xfe", b"c"], pa.large_binary()).view(kind)
        )
        write(tmp_path, 1, user=text, item=pa.array(["x"] * 3), time=pa.array([1, 2, 3]))
        got = read_log(spec_of(), tmp_path)
        assert got.rows("user") == [("a",), ("c",)]
        assert got.reasons == [(1, "user '\\\\xff\\\\xfe' is not an id")]


def test_times_that_python_cannot_hold_are_rejected(tmp_path: Path) -> None:
    far = pa.array([5, 10**17, -(10**17)], pa.timestamp("us"))
    write(tmp_path, 1, user=pa.array([1, 2, 3]), item=pa.array([1, 2, 3]), time=far)
    got = read_log(spec_of(), tmp_path)
    assert got.rows("user", "timestamp") == [(1, 0)]
    assert [place for place, _ in got.reasons] == [1, 2]
    assert all(reject.text for reject in got.rejects)


def test_a_column_that_stands_there_twice_is_an_error(tmp_path: Path) -> None:
    column = pa.array([1])
    pq.write_table(
        pa.Table.from_arrays([column] * 4, ["user", "item", "item", "time"]), tmp_path / "log.parquet"
    )
    with pytest.raises(UserError, match="several columns 'item'"):
        plan_input(spec_of(), str(tmp_path))
