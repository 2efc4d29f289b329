from __future__ import annotations

import gzip
import os
from pathlib import Path
from typing import Any
from unittest import mock

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from behavior.errors import UserError
from behavior.sources import Plan, UnreadableFileError, plan_input, read_chunk, read_whole_table
from behavior.sources.chunks import OPEN_BYTES, FileParts
from behavior.sources.files import expand
from behavior.spec.dataset_spec import FeatureTable, FileFormat
from tests.behavior.logs import few, folder_of, make_spec, read_log, untimed_spec

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
        (
            "ratngs.csv",
            "there is no file .*ratngs.csv'.*(\n.*)*did you mean 'ratings.csv'\\? the folder has: ",
        ),
        ("*.tsv", "no file matches '\\*.tsv'"),
        ("nowhere/x.csv", "there is no file .*(\n.*)*there is no folder .*nowhere' either"),
        ("nosuch://bucket/x.csv", "'nosuch://bucket/x.csv' cannot be accessed"),
    ],
)
def test_missing_files(files: str, message: str) -> None:
    with folder_of(ratings__csv=LOG) as folder, pytest.raises(UserError, match=message):
        plan_input(make_spec({"files": files}), str(folder))


def test_a_folder_that_is_both_in_the_path_and_the_input_is_said_so(tmp_path: Path) -> None:
    """As of a spec that `lrm inspect logs/x.csv --save` wrote, with `--input logs`."""
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "log.csv").write_text(LOG)
    for pattern in ("logs/log.csv", "logs/*.csv"):
        with pytest.raises(UserError) as error:
            expand(FileFormat(files=[pattern]), str(tmp_path / "logs"))
        assert error.value.fix == f"the spec's path begins with 'logs/' already: use --input {tmp_path}"
    with pytest.raises(UserError) as error:
        expand(FileFormat(files=["logs/other.csv"]), str(tmp_path / "logs"))
    assert "already" not in str(error.value.fix)


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


def test_five_thousand_small_files_are_a_few_tasks_and_only_the_first_is_opened(tmp_path: Path) -> None:
    for number in range(5000):
        (tmp_path / f"{number:04d}.csv").write_text("user,item,time\n" + "1,2,3\n" * 160)
    with mock.patch("builtins.open", wraps=open) as opened:
        plan = plan_input(make_spec({"files": "*.csv"}), str(tmp_path))
    assert sum(str(tmp_path) in str(call.args[0]) for call in opened.call_args_list) == 1
    assert len(plan.chunks) == 5000
    assert 1 < len(plan.chunk_groups) <= 4
    assert [chunk for group in plan.chunk_groups for chunk in group] == plan.chunks == sorted(plan.chunks)
    assert sum(chunk.bytes for chunk in plan.chunks) == plan.bytes


def test_a_plan_is_cut_anew_without_another_look() -> None:
    with folder_of(log__csv=LOG, more__csv=LOG) as folder:
        spec = make_spec({"files": "*.csv"})
        plan = plan_input(spec, str(folder))
        anew = {size: plan_input(spec, str(folder), size) for size in (7, 21)}
    for size, other in anew.items():
        cut = plan.with_chunk_bytes(size)
        assert (cut, cut.chunks, cut.chunk_groups) == (other, other.chunks, other.chunk_groups)
    assert [[chunk.path[-8:] for chunk in group] for group in plan.chunk_groups] == [["/log.csv", "more.csv"]]
    assert len(plan.with_chunk_bytes(7).chunk_groups) == 6


@few
@given(st.lists(st.integers(0, 100), min_size=1, max_size=20), st.integers(1, 200))
def test_tasks_keep_order_and_stay_within_their_size(sizes: list[int], limit: int) -> None:
    parts = [FileParts(0, n, f"f{n}", size, whole=n % 3 == 0) for n, size in enumerate(sizes)]
    plan = Plan(parts, [], sum(sizes), "string", "string", "", limit + OPEN_BYTES * 3)
    assert [chunk for group in plan.chunk_groups for chunk in group] == plan.chunks
    assert sum(chunk.bytes for chunk in plan.chunks) == sum(sizes)
    weights = [sum(chunk.bytes + OPEN_BYTES for chunk in group) for group in plan.chunk_groups]
    assert all(weight <= limit + OPEN_BYTES * 4 for weight in weights)
    heads = [group[0].bytes + OPEN_BYTES for group in plan.chunk_groups[1:]]
    assert all(w + head > limit + OPEN_BYTES * 4 for w, head in zip(weights[:-1], heads, strict=True))


def test_a_bad_first_file_is_set_aside_and_the_next_one_checked() -> None:
    files = {"a__csv": "user;item;time\n1;2;3\n", "b__csv": "user,item,user\n", "c__csv": "", "d__csv": LOG}
    spec = make_spec({"files": "*.csv"})
    with folder_of(**files, e__csv="who,what,when\n1,2,3\n") as folder:
        with pytest.raises(UserError, match="does not split") as error:
            plan_input(spec, str(folder))
        assert "--skip-bad-files" in str(error.value.fix)
        plan = plan_input(spec, str(folder), skip_bad_files=True)
        assert [(bad.name, bad.file) for bad in plan.bad_files] == [("a.csv", 0), ("b.csv", 1)]
        assert plan.bad_files[1].reason == "the header names the column 'user' twice"
        # Only one good file is looked at: the last is found where it is read.
        assert [chunk.path[-5:] for chunk in plan.chunks] == ["d.csv", "e.csv"]
        rows = list(read_chunk(spec.events[0], plan.chunks[0], ["user"]))
        assert sum(raw.num_rows for raw in rows) == 1
        with pytest.raises(UnreadableFileError, match="no column 'user'; the file has: who, what") as late:
            list(read_chunk(spec.events[0], plan.chunks[1], ["user"]))
        assert str(late.value.where).endswith("e.csv")
        assert "--skip-bad-files" in str(late.value.fix)
        reject = late.value.reject(plan.chunks[1].path, "e.csv")
        assert (reject.file, reject.place, reject.reason[:24]) == ("e.csv", 0, "there is no column 'user")


def test_a_group_without_any_good_file_is_an_error_even_so() -> None:
    with folder_of(a__csv="x,y\n1,2\n", b__csv="z\n1\n", c__csv="") as folder:
        for skip in (False, True):
            with pytest.raises(UserError, match="no column 'user'; the file has: x, y"):
                plan_input(make_spec({"files": "*.csv"}), str(folder), skip_bad_files=skip)


def test_a_table_cannot_be_set_aside() -> None:
    with folder_of(log__csv=LOG, t__csv__gz=b"no gzip") as folder:
        spec = make_spec(items=table_of(files="t.csv.gz").model_dump())
        for skip in (False, True):
            with pytest.raises(UserError, match="cannot be read: ") as error:
                plan_input(spec, str(folder), skip_bad_files=skip)
            assert "--skip-bad-files" not in str(error.value)
        with pytest.raises(UserError) as error:
            read_whole_table(table_of(files="t.csv.gz"), str(folder))
        assert "--skip-bad-files" not in str(error.value)


def test_a_damaged_table_says_where_it_stops() -> None:
    text = "id,color\n" + "".join(f"{n},color {n * 7919 % 1009}\n" for n in range(2000))
    with folder_of(t__csv__gz=gzip.compress(text.encode())[:-3000]) as folder:
        table, rejects = read_whole_table(table_of(files="t.csv.gz"), str(folder))
    assert 100 < table.num_rows < 2000
    assert [(r.file, r.place) for r in rejects] == [("t.csv.gz", table.num_rows + 2)]


def test_files_on_another_file_system() -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe("/raw/b.csv", LOG.encode())
    memory.pipe("/raw/a.csv", LOG.encode() + b"x")
    memory.pipe("/raw/c.csv.gz", gzip.compress(LOG.encode()))
    try:
        plan = plan_input(make_spec({"files": "*.csv*"}), "memory://raw", 10)
        assert [file.name for file in plan.files] == ["a.csv", "b.csv", "c.csv.gz"]
        source = make_spec({"files": "*.csv*"}).events[0]
        rows = [raw.num_rows for chunk in plan.chunks for raw in read_chunk(source, chunk, ["user"])]
        assert sum(rows) == 3
    finally:
        memory.rm("/raw", recursive=True)


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
