"""Which files histories are, and their rows."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from behavior.errors import UserError
from behavior.sources.histories import HistoryColumns, find_histories, read_history_rows, users_of

COLUMNS = HistoryColumns(("user", "item"), ("at",))
CSV = "user,item\na,1\nb,2\n"


def names(given: str) -> list[str]:
    return [file.name for file in find_histories(given, COLUMNS)]


def rows(path: Path) -> list[dict[str, object]]:
    found = []
    for number, file in enumerate(find_histories(str(path), COLUMNS)):
        for chunk in file.chunks(number, 1 << 20):
            for batch in read_history_rows(file, chunk, COLUMNS):
                users, _ = users_of(batch, integers=file.integers)
                found += pa.table(batch.columns | {"user": users}).to_pylist()
    return found


def test_files_folders_globs_and_urls(tmp_path: Path) -> None:
    """In order of their names, hidden ones left out."""
    for name in ("b.csv", "a.csv", "deep/c.csv", "_temporary/d.csv", ".e.csv", "_SUCCESS", "day=1/_f.csv"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(CSV)
    assert names(str(tmp_path)) == ["a.csv", "b.csv", "deep/c.csv"]
    assert names(str(tmp_path / "*.csv")) == ["a.csv", "b.csv"]
    assert names(str(tmp_path / "a.csv")) == [str(tmp_path / "a.csv")]
    assert names(f"file://{tmp_path}/*.csv") == ["a.csv", "b.csv"]
    system = fsspec.filesystem("memory")
    system.pipe_file("/histories/one.csv", CSV.encode())
    try:
        [file] = find_histories("memory://histories", COLUMNS)
        assert (file.path, file.name, file.size) == ("memory:///histories/one.csv", "one.csv", len(CSV))
    finally:
        system.rm("/histories", recursive=True)


def test_kinds_of_values(tmp_path: Path) -> None:
    """Text stays text, numbers of JSON become it, lists stay lists; users of Parquet keep being integers."""
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b"item,user,more\n007,a,x\n"))
    assert rows(tmp_path / "a.csv.gz") == [{"user": "a", "item": b"007"}]
    (tmp_path / "a.tsv").write_text("user\titem\na\t7\n")
    assert rows(tmp_path / "a.tsv") == [{"user": "a", "item": b"7"}]
    lines = [{"user": 1, "item": [7, "x"], "at": 3}, {"user": "b", "item": []}, {"user": "c"}]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = rows(tmp_path / "a.jsonl")
    assert found[0]["at"] == "3"
    assert [(row["user"], row["item"]) for row in found] == [("1", ["7", "x"]), ("b", []), ("c", None)]
    table = pa.table({"user": pa.array([3, 4], pa.int32()), "item": ["x", "y"]})
    pq.write_table(table, tmp_path / "a.parquet")
    assert rows(tmp_path / "a.parquet") == [{"user": 3, "item": "x"}, {"user": 4, "item": "y"}]


def test_what_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("usr,item\na,1\n")
    (tmp_path / "empty").mkdir()
    (tmp_path / "b.json").write_text('{"user": 1, "itm": 2}\n')
    for given, said, fix in (
        (
            "a.csv",
            "there is no column 'user', only usr, item",
            "did you mean 'usr'? histories have the columns",
        ),
        ("b.json", "there is no column 'item', only user, itm", "did you mean 'itm'?"),
        ("gone.csv", "there is no file", "check the path"),
        ("empty", "has no files", ".parquet"),
        ("*.pq", "no file matches", ".parquet"),
        ("gone://a.csv", "the file system 'gone://' cannot be used", "install"),
    ):
        with pytest.raises(UserError) as error:
            names(given if "://" in given else str(tmp_path / given))
        assert said in error.value.what
        assert fix in str(error.value.fix)


@pytest.mark.parametrize("item", ['"[""a"", ""b""]"', "[7]", "\"['a', 'b']\""])
def test_lists_as_text_are_refused(item: str, tmp_path: Path) -> None:
    """A list that is text would be one item that nobody knows."""
    (tmp_path / "a.csv").write_text(f"user,item\nann,{item}\n")
    with pytest.raises(
        UserError, match="first row has a list of items, and a row of csv is one event"
    ) as caught:
        find_histories(str(tmp_path / "a.csv"), COLUMNS)
    assert (caught.value.where, "JSON lines" in str(caught.value.fix)) == (str(tmp_path / "a.csv"), True)
    (tmp_path / "a.csv").write_text("user,item\nann,[citation needed]\n")
    assert rows(tmp_path / "a.csv") == [{"user": "ann", "item": b"[citation needed]"}]


def test_lists_have_a_value_an_event(tmp_path: Path) -> None:
    """Nulls keep their places; one value where lists are is said to be wrong, not lost."""
    lines = [{"user": "a", "item": ["x", None, 3]}, {"user": "b", "item": "x"}, {"user": "c", "item": ["y"]}]
    lines += [{"user": "d", "item": 5}, {"user": "e", "item": None}]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert [row["item"] for row in rows(tmp_path / "a.jsonl")] == [["x", None, "3"], ["y"], None]
    [file] = find_histories(str(tmp_path), COLUMNS)
    rejects = [
        reject
        for chunk in file.chunks(0, 1 << 20)
        for batch in read_history_rows(file, chunk, COLUMNS)
        for reject in batch.rejects
    ]
    assert [(line, reason) for line, reason, _ in rejects] == [
        (2, "'item' is one value, not a list"),
        (4, "'item' is one value, not a list"),
    ]
