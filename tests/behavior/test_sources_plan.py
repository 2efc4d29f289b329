from __future__ import annotations

import gzip
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from behavior.errors import UserError
from behavior.sources import plan_input, read_whole_table
from behavior.sources.plan import expand
from behavior.spec import FeatureTable, FileFormat
from tests.behavior.logs import folder_of, make_spec, read_log, untimed_spec

LOG = "user,item,time\n1,2,3\n"


def test_globs_stand_for_files_sorted_by_name_and_lists_keep_their_order() -> None:
    with folder_of(b__csv=LOG, a__csv=LOG, c__txt=LOG) as folder:
        names = [f.name for f in expand(FileFormat(files=["c.txt", "*.csv", "a.csv"]), str(folder))]
        assert names == ["c.txt", "a.csv", "b.csv"]


def test_a_name_with_brackets_is_a_file_before_it_is_a_glob() -> None:
    with folder_of(**{"log[1]__csv": LOG, "log1__csv": LOG}) as folder:
        assert [f.name for f in expand(FileFormat(files=["log[1].csv"]), str(folder))] == ["log[1].csv"]


def test_absolute_paths_and_folders_within_the_input(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "log.csv").write_text(LOG)
    for pattern in ("deep/log.csv", str(tmp_path / "deep" / "log.csv"), "*/log.csv", "**/log.csv"):
        [file] = expand(FileFormat(files=[pattern]), str(tmp_path))
        assert (file.name, file.size) == ("deep/log.csv", len(LOG))


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ("ratngs.csv", "there is no file .*ratngs.csv'.*(\n.*)*the folder has: ratings.csv"),
        ("*.tsv", "no file matches '\\*.tsv'"),
        ("nowhere/x.csv", "there is no file .*(\n.*)*there is no folder .*nowhere' either"),
        ("nosuch://bucket/x.csv", "'nosuch://bucket/x.csv' cannot be looked up"),
    ],
)
def test_missing_files(files: str, message: str) -> None:
    with folder_of(ratings__csv=LOG) as folder, pytest.raises(UserError, match=message):
        plan_input(make_spec({"files": files}), str(folder))


def test_a_missing_column_is_an_error_that_names_those_there() -> None:
    with (
        folder_of(log__csv="user,itm,time\n1,2,3\n") as folder,
        pytest.raises(UserError, match="there is no column 'item'; the file has: user, itm, time") as error,
    ):
        plan_input(make_spec(), str(folder))
    assert error.value.where is not None
    assert error.value.where.endswith("log.csv")


def test_a_key_that_no_json_line_has_is_an_error_and_one_that_some_lack_is_not() -> None:
    lines = '{"user": 1, "time": 3}\n{"user": 1, "item": 2, "time": 3}\n'
    with folder_of(log__jsonl=lines) as folder:
        plan_input(make_spec({"files": "log.jsonl"}), str(folder))
    with (
        folder_of(log__jsonl=lines.replace("item", "itm")) as folder,
        pytest.raises(UserError, match="no line has the key 'item'; there are: itm, time, user"),
    ):
        plan_input(make_spec({"files": "log.jsonl"}), str(folder))


def test_a_missing_parquet_column(tmp_path: Path) -> None:
    pq.write_table(pa.table({"user": [1], "thing": [2]}), tmp_path / "log.parquet")
    with pytest.raises(UserError, match="no column 'item'; the file has: user, thing"):
        plan_input(untimed_spec({"files": "log.parquet"}), str(tmp_path))


def test_a_later_file_without_the_column_is_found_when_it_is_read() -> None:
    with (
        folder_of(a__csv=LOG, b__csv="user,thing,time\n1,2,3\n") as folder,
        pytest.raises(UserError, match="no column 'item'") as error,
    ):
        read_log(make_spec({"files": "*.csv"}), folder)
    assert str(error.value.where).endswith("b.csv")


def test_files_of_one_group_may_order_their_columns_differently() -> None:
    with folder_of(a__csv=LOG, b__csv="time,more,item,user\n6,x,5,4\n") as folder:
        got = read_log(make_spec({"files": "*.csv"}), folder)
    assert got.rows("user", "item", "timestamp") == [("1", "2", 3), ("4", "5", 6)]


@pytest.mark.parametrize(
    "source",
    [{}, {"header": False, "names": ["user", "item", "time"]}, {"separator": "::"}],
)
def test_a_separator_that_does_not_split_is_an_error_that_proposes_one(source: dict[str, Any]) -> None:
    text = "user;item;time\n1;2;3\n"
    with folder_of(log__csv=text) as folder, pytest.raises(UserError, match="does not split") as error:
        plan_input(make_spec(source), str(folder))
    assert error.value.fix == "set 'separator' in the spec; ';' looks likely"


@pytest.mark.parametrize("name", ["log__csv", "log__csv__gz"])
def test_an_empty_log_is_an_error_and_an_empty_file_among_others_is_not(name: str) -> None:
    file = name.replace("__", ".")
    empty = gzip.compress(b"") if name.endswith("gz") else b""
    spec = make_spec({"files": ["log.csv*", "more.csv"]})
    with folder_of(**{name: empty, "more__csv": LOG}) as folder:
        got = read_log(spec, folder)
        assert got.rows("user", "item", "timestamp") == [("1", "2", 3)]
        (folder / "more.csv").write_bytes(b"")
        if file == "log.csv":
            with pytest.raises(UserError, match="the log is empty"):
                plan_input(spec, str(folder))


def test_chunks_cut_text_by_bytes_and_leave_compressed_files_whole() -> None:
    with folder_of(log__csv=LOG, packed__csv__gz=gzip.compress(LOG.encode())) as folder:
        plan = plan_input(make_spec({"files": ["log.csv", "packed.csv.gz"]}), str(folder), 10)
    assert [(c.file, c.number, c.start, c.end) for c in plan.chunks] == [
        (0, 0, 0, 10),
        (0, 1, 10, 20),
        (0, 2, 20, 21),
        (1, 0, 0, None),
    ]
    assert plan.chunks == sorted(plan.chunks)


def test_the_digest_changes_with_the_files_and_with_nothing_else() -> None:
    with folder_of(log__csv=LOG) as folder, folder_of(log__csv=LOG) as other:
        os.utime(folder / "log.csv", (1, 1))
        os.utime(other / "log.csv", (1, 1))
        first = plan_input(make_spec(), str(folder)).digest
        assert plan_input(make_spec(), str(other), chunk_bytes=5).digest == first
        os.utime(other / "log.csv", (2, 2))
        assert plan_input(make_spec(), str(other)).digest != first
        (folder / "log.csv").write_text(LOG + LOG)
        assert plan_input(make_spec(), str(folder)).digest != first


def table_of(**changes: Any) -> FeatureTable:
    return FeatureTable(**{"files": "t.csv", "id": "id", "features": [{"name": "color"}], **changes})


def test_tables_from_csv_json_lines_and_parquet(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("id,color\n1,red\n2,\n3\n")
    (tmp_path / "t.jsonl").write_text('{"id": 1, "color": "red"}\n{"id": 2}\nnot json\n')
    pq.write_table(pa.table({"id": [1, 2], "color": ["red", None]}), tmp_path / "t.parquet")
    for name, empty in (("t.csv", ""), ("t.jsonl", None), ("t.parquet", None)):
        table, rejects = read_whole_table(table_of(files=name), str(tmp_path))
        assert [str(value) for value in table.column("id").to_pylist()] == ["1", "2"]
        assert table.column("color").to_pylist() == ["red", empty]
        assert [(r.file, r.place) for r in rejects] == [
            (name, n) for n in (4, 3) if n == 3 or name == "t.csv"
        ][: name != "t.parquet"]


MAP = {"format": "json_map", "id": None, "features": [{"name": "tags", "kind": "multi_categorical"}]}


def test_json_map() -> None:
    with folder_of(t__json='{"7": ["a", 1, null], "x": [], "y": "b", "z": null}') as folder:
        table, _ = read_whole_table(table_of(files="t.json", **MAP), str(folder))
    assert table.to_pydict() == {"id": ["7", "x", "y", "z"], "tags": [["a", "1"], [], ["b"], None]}


@pytest.mark.parametrize("text", ["[1]", "{", "", '{"\\ud800": []}', '{"a": ["\\ud800"]}', "[" * 100_000])
def test_a_json_map_that_is_none(text: str) -> None:
    with folder_of(t__json=text) as folder, pytest.raises(UserError) as error:
        read_whole_table(table_of(files="t.json", **MAP), str(folder))
    assert str(error.value.where).endswith("t.json")


def test_a_truncated_json_map() -> None:
    with (
        folder_of(t__json__gz=gzip.compress(b'{"a": ["b"]}')[:-9]) as folder,
        pytest.raises(UserError, match="cannot be read to its end"),
    ):
        read_whole_table(table_of(files="t.json.gz", **MAP), str(folder))


def test_an_empty_table_is_an_error() -> None:
    for text in ("id,color\n", ""):
        with folder_of(t__csv=text) as folder, pytest.raises(UserError, match="the table is empty"):
            read_whole_table(table_of(), str(folder))


def test_the_table_of_a_spec_is_checked_before_anything_is_read() -> None:
    with (
        folder_of(log__csv=LOG, t__csv="id,colour\n1,red\n") as folder,
        pytest.raises(UserError, match="no column 'color'; the file has: id, colour"),
    ):
        plan_input(make_spec(items=table_of().model_dump()), str(folder))
