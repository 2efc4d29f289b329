from __future__ import annotations

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from behavior.config import parse_config
from behavior.errors import UserError
from behavior.flow.memory import prepare_tables
from behavior.guess.files import guess_file
from behavior.spec.dataset_spec import DatasetSpec, load_spec
from tests.behavior.logs import few, folder_of
from tests.behavior.steps.test_events import torn

ROWS = [("7", "B00X", 4, 978300760 + n) for n in range(5)] + [("8", "B00Y", 5, 978300770)]


def csv_of(separator: str, header: bool = True) -> str:
    names = [separator.join(("userId", "movieId", "rating", "timestamp"))] * header
    return "\n".join([*names, *(separator.join(map(str, row)) for row in ROWS)]) + "\n"


@pytest.mark.parametrize("separator", [",", "\t", "::", ";", "|"])
@pytest.mark.parametrize("header", [True, False])
def test_the_proposed_spec_reads_the_file(separator: str, header: bool) -> None:
    with folder_of(ratings__dat=csv_of(separator, header)) as folder:
        guess = guess_file(folder / "ratings.dat")
        assert (guess.format, guess.separator, guess.header) == ("csv", separator, header)
        assert guess.timestamp_unit == "s"
        assert [column.role for column in guess.columns] == ["user", "item", "value", "timestamp"]
        spec = parse_config(DatasetSpec, guess.spec or {}, where="guess")
        counts = prepare_tables(spec, folder).counts
    assert (counts.read, counts.events, counts.users, counts.items) == (6, 6, 2, 2)


@pytest.mark.parametrize(
    ("time", "unit"),
    [
        ("978300760", "s"),
        ("978300760123", "ms"),
        ("978300760123456", "us"),
        ("2000-12-31T22:12:40Z", "iso8601"),
        ("2000-12-31", "iso8601"),
    ],
)
def test_units_of_time(time: str, unit: str) -> None:
    with folder_of(log__csv=f"user,item,time\n1,2,{time}\n1,3,{time}\n") as folder:
        assert guess_file(folder / "log.csv").timestamp_unit == unit


def test_json_lines_with_a_behavior() -> None:
    rows = [
        {"visitor": n, "product": f"p{n}", "event": "buy" if n else "see", "ts": 978300760.0}
        for n in range(3)
    ]
    with folder_of(log__json__gz=gzip.compress("\n".join(map(json.dumps, rows)).encode())) as folder:
        guess = guess_file(folder / "log.json.gz")
        assert (guess.format, guess.compression, guess.timestamp_unit) == ("jsonl", "gzip", "s")
        assert guess.spec is not None
        assert guess.spec["behaviors"] == ["buy", "see"]
        counts = prepare_tables(parse_config(DatasetSpec, guess.spec, where="guess"), folder).counts
    assert (counts.events, counts.users) == (3, 3)


def test_parquet(tmp_path: Path) -> None:
    times = pa.array([1, 2], pa.timestamp("us"))
    pq.write_table(
        pa.table({"user_id": [1, 2], "item_id": ["a", "b"], "when_date": times}), tmp_path / "x.parquet"
    )
    guess = guess_file(tmp_path / "x.parquet")
    assert (guess.format, guess.timestamp_unit) == ("parquet", "iso8601")
    assert (
        prepare_tables(parse_config(DatasetSpec, guess.spec or {}, where="guess"), tmp_path).counts.events
        == 2
    )


def test_one_user_a_line() -> None:
    with folder_of(log__txt="1 5 6 7\n2 5\n3 8 9\n") as folder:
        guess = guess_file(folder / "log.txt")
        assert guess.format == "sequences"
        assert (
            prepare_tables(parse_config(DatasetSpec, guess.spec or {}, where="guess"), folder).counts.events
            == 6
        )


def test_latin_1_is_noticed() -> None:
    with folder_of(log__csv="user,item,title\n1,2,café\n".encode("latin-1")) as folder:
        guess = guess_file(folder / "log.csv")
    assert guess.encoding == "latin-1"
    assert guess.columns[2].examples == ["café"]


def test_without_a_user_or_item_there_is_a_skeleton() -> None:
    with folder_of(log__csv="title,price\nfoo,2.5\nbar,3.5\n") as folder:
        guess = guess_file(folder / "log.csv")
        assert guess.open == ["events.columns.user", "events.columns.item"]
        assert "no column looks like the user or the item" in guess.notes[0]
        guess.save_spec(folder / "spec.yaml")
        with pytest.raises(
            UserError, match=r"not filled in: still \?\?\? at events.columns.user, events.col"
        ):
            load_spec(folder / "spec.yaml")


@pytest.mark.parametrize("target", ["there", "not-there"])
def test_a_spec_is_not_saved_through_a_link(target: str) -> None:
    with folder_of(log__csv="user,item\n1,2\n", there="mine") as folder:
        (folder / "spec.yaml").symlink_to(target)
        with pytest.raises(UserError, match=r"spec\.yaml' is there already"):
            guess_file(folder / "log.csv").save_spec(folder / "spec.yaml")
        assert (folder / "spec.yaml").readlink() == Path(target)
        assert sorted(path.name for path in folder.iterdir()) == ["log.csv", "spec.yaml", "there"]
        assert (folder / "there").read_text() == "mine"


@pytest.mark.parametrize("text", ["", "\n\n", "\ufeff"])
def test_empty_files(text: str) -> None:
    with folder_of(log__csv=text) as folder, pytest.raises(UserError, match="is empty"):
        guess_file(folder / "log.csv")


def test_missing_files(tmp_path: Path) -> None:
    for path, what in ((tmp_path / "none.csv", "there is no file"), (tmp_path, "it is a folder, not a file")):
        with pytest.raises(UserError, match=what):
            guess_file(path)


@few
@given(
    torn
    | st.lists(st.sampled_from([b'{"a": 1}\n', b"[1]\n", b'{"b": %s}\n' % (b"9" * 400), b"7\n"])).map(
        b"".join
    ),
    st.sampled_from(["log__csv", "log__csv__gz", "log__jsonl"]),
)
@example(b"\x1f1,2,3\n", "log__csv")
@example(b'{"a": 1}\n7\n', "log__jsonl")
@example(b'{"ts": 1%s}\n' % (b"0" * 400), "log__jsonl")
def test_no_bytes_break_it(data: bytes, name: str) -> None:
    with folder_of(**{name: data}) as folder:
        try:
            guess = guess_file(folder / name.replace("__", "."))
        except UserError:
            return
        json.dumps(guess.to_record())
        if guess.spec is not None:
            guess.spec_yaml()


def test_rubbish_that_calls_itself_parquet() -> None:
    with (
        folder_of(log=b"PAR1" + b"\0" * 50 + b"PAR1") as folder,
        pytest.raises(UserError, match="not a Parquet"),
    ):
        guess_file(folder / "log")


def test_a_field_too_long_for_a_csv_reader() -> None:
    with folder_of(log__csv="user,item\n1," + "x" * 200_000 + "\n") as folder:
        assert [column.name for column in guess_file(folder / "log.csv").columns] == ["user", "item"]


def test_a_few_lines_that_are_no_json_do_not_hide_the_others() -> None:
    lines = [json.dumps({"user": n % 3, "item": n % 5, "ts": 1_700_000_000 + n}) for n in range(40)]
    broken = ['{"user": 1, "item"', '{"user": "\\ud83d", "item": 1, "ts": 1700000000}', "[1]"]
    with folder_of(log__jsonl="\n".join([*lines, *broken])) as folder:
        guess = guess_file(folder / "log.jsonl")
        assert (guess.format, guess.timestamp_unit) == ("jsonl", "s")
        assert any("of 43 rows, 3 would be rejected" in note for note in guess.notes)
    with (
        folder_of(log__jsonl="\n".join([*lines[:2], *broken])) as folder,
        pytest.raises(UserError, match="look like JSON but are not: Expecting") as caught,
    ):
        guess_file(folder / "log.jsonl")
    assert caught.value.fix
