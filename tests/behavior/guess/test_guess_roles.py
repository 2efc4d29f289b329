from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
import yaml

from behavior.errors import UserError
from behavior.flow.memory import prepare_tables
from behavior.guess.files import guess_file, guess_files, raw_files
from behavior.guess.names import fit, role_of, words_of
from behavior.spec.dataset_spec import load_spec
from tests.behavior.logs import folder_of


def roles_of(header: str, *rows: str) -> dict[str, str | None]:
    with folder_of(log__csv="\n".join((header, *rows)) + "\n") as folder:
        return {column.role: column.name for column in guess_file(folder / "log.csv").columns if column.role}


@pytest.mark.parametrize(
    ("name", "role"),
    [
        *[
            (name, "user")
            for name in ("user_id", "userId", "User-ID", "CUSTOMER_ID", "visitorid", "reviewerID")
        ],
        *[(name, "item") for name in ("item_id", "movieId", "itemid", "ISBN", "parent_asin", "PRODUCT_ID")],
        *[
            (name, "timestamp")
            for name in ("ts", "event_time", "unixReviewTime", "TRANSACTION_DT", "created_at")
        ],
        *[(name, "behavior") for name in ("event", "event_type", "behavior_type", "action")],
        *[(name, "value") for name in ("rating", "Book-Rating", "overall", "SALES_PRICE")],
        *[
            (name, None)
            for name in ("user_age", "item_category", "product_name", "customer_segment", "phone")
        ],
        *[(name, None) for name in ("birthday", "transaction_id", "category_code", "user_session", "monday")],
    ],
)
def test_names_are_read_word_by_word(name: str, role: str | None) -> None:
    assert role_of(name) == role


def test_words() -> None:
    assert words_of("HTTPServer_userID2") == ["http", "server", "user", "id"]
    assert fit("asin", "item") > fit("parent_asin", "item") > fit("item_colour", "item") > 0


def test_better_names_win_wherever_they_stand() -> None:
    found = roles_of(
        "user_age,item_category,user_id,item_id,ts", "30,a,1,2,1700000000", "31,b,2,3,1700000001"
    )
    assert found == {"user": "user_id", "item": "item_id", "timestamp": "ts"}
    found = roles_of("user_id,phone,item_id,ts", "1,2025550100,2,1700000000")
    assert found == {"user": "user_id", "item": "item_id", "timestamp": "ts"}
    found = roles_of("user_id,item_id,birthday,event_time", "1,2,1985-03-01,1700000000")
    assert found["timestamp"] == "event_time"
    assert "behavior" not in roles_of("transaction_id,user_id,item_id,ts", "1,1,2,1700000000")
    found = roles_of('"User-ID";"ISBN";"Book-Rating"', '"1";"044749316X";"0"')
    assert found == {"user": "User-ID", "item": "ISBN", "value": "Book-Rating"}


def test_numbers_whose_name_is_not_of_a_time_are_not_taken_for_one() -> None:
    with folder_of(log__csv="user_id,item_id,phone\n1,2,2025550100\n") as folder:
        guess = guess_file(folder / "log.csv")
    assert guess.timestamp_unit == "none"
    assert any("'phone' holds numbers that could be times" in note for note in guess.notes)
    assert any("no column was recognised as a time" in note for note in guess.notes)


def test_a_guess_says_that_it_is_one() -> None:
    with folder_of(log__csv="1,5,978300760\n2,6,978300761\n") as folder:
        guess = guess_file(folder / "log.csv")
    assert [(column.role, column.sure) for column in guess.columns][:2] == [("user", False), ("item", False)]
    assert any("'column_1' was taken for the user" in note for note in guess.notes)
    with folder_of(log__csv="session_id,item_colour,product_shape,sold\n1,5,6,2001-02-03\n") as folder:
        guess = guess_file(folder / "log.csv")
    assert [column.sure for column in guess.columns] == [False] * 4
    assert any("it may be 'product_shape'" in note for note in guess.notes)


def test_what_the_sample_does_not_hold_is_found_by_the_trial(tmp_path: Path) -> None:
    rows = [f"{n % 7},{n % 11},{1_700_000_000 + n},{'view' if n < 3000 else 'buy'}" for n in range(4000)]
    rows += [f"x{n},7,1700000000,view" for n in range(100)]
    (tmp_path / "log.csv").write_text("user,item,ts,event\n" + "\n".join(rows) + "\n")
    guess = guess_file(tmp_path / "log.csv")
    assert guess.spec["behaviors"] == ["view", "buy"]
    assert "id_types" not in guess.spec
    guess.save_spec(tmp_path / "spec.yaml")
    spec, base = load_spec(tmp_path / "spec.yaml")
    assert prepare_tables(spec, base).counts.events == 4100


def test_what_stays_wrong_is_said(tmp_path: Path) -> None:
    rows = "".join(f"{n % 7 or ''},{n % 11},{1_700_000_000 + n}\n" for n in range(70))
    (tmp_path / "log.csv").write_text(f"user,item,ts\n{rows}")
    assert any("10 would be rejected" in note for note in guess_file(tmp_path / "log.csv").notes)


def test_several_files_and_their_tables(tmp_path: Path) -> None:
    for part in range(2):
        rows = "".join(f"u{n % 5},{n % 20},{4 + part},{978300760 + n}\n" for n in range(60))
        (tmp_path / f"ratings-{part}.csv").write_text(f"userId,movieId,rating,timestamp\n{rows}")
    movies = "".join(f"{n},Film {n},Action|Drama,{1950 + n % 3}\n" for n in range(30))
    (tmp_path / "movies.csv.gz").write_bytes(gzip.compress(f"movieId,title,genres,year\n{movies}".encode()))
    (tmp_path / "users.csv").write_text(
        "user,gender,age\n" + "".join(f"u{n},F,{n + 0.5}\n" for n in range(5))
    )
    (tmp_path / "notes.csv").write_text("colour,flavour\nred,sweet\n")
    files = raw_files(tmp_path)
    assert files[0].name == "movies.csv.gz"
    guess = guess_files(files)
    assert guess.spec["events"]["files"] == ["ratings-0.csv", "ratings-1.csv"]
    [items], [users] = guess.spec["items"], guess.spec["users"]
    assert (items["files"], items["id"], users["files"], users["id"]) == (
        *("movies.csv.gz", "movieId"),
        *("users.csv", "user"),
    )
    assert items["features"] == [{"name": "genres", "kind": "multi_categorical"}, {"name": "year"}]
    assert users["features"] == [{"name": "gender"}, {"name": "age", "kind": "numeric"}]
    assert any("'title'" in note for note in guess.notes)
    assert any(note.startswith("notes.csv is no log") for note in guess.notes)
    (tmp_path / "specs").mkdir()
    guess.save_spec(tmp_path / "specs" / "spec.yaml")
    spec, base = load_spec(tmp_path / "specs" / "spec.yaml")
    tables = prepare_tables(spec, base)
    assert (tables.counts.events, tables.counts.rejected) == (120, 0)


def test_tables_without_names_are_known_by_the_names_of_their_files(tmp_path: Path) -> None:
    (tmp_path / "ratings.dat").write_text(
        "".join(f"{n % 9}::{n % 7}::5::{978300760 + n}\n" for n in range(60))
    )
    (tmp_path / "movies.dat").write_text("".join(f"{n}::Film {n % 3}::Action|Drama\n" for n in range(9)))
    (tmp_path / "users.dat").write_text("".join(f"{n}::F::{n % 4}\n" for n in range(9)))
    guess = guess_files(raw_files(tmp_path))
    assert guess.spec["events"]["files"] == "ratings.dat"
    [items], [users] = guess.spec["items"], guess.spec["users"]
    assert (items["files"], items["id"]) == ("movies.dat", "column_1")
    assert (users["files"], users["id"]) == ("users.dat", "column_1")
    guess.save_spec(tmp_path / "spec.yaml")
    spec, base = load_spec(tmp_path / "spec.yaml")
    assert prepare_tables(spec, base).counts.events == 60


def test_two_logs_that_are_written_otherwise(tmp_path: Path) -> None:
    (tmp_path / "views.csv").write_text("user_id,item_id,ts\n1,2,1700000000\n")
    (tmp_path / "orders.jsonl").write_text('{"customer": 1, "product": 2, "date": "27.04.2015"}\n')
    guess = guess_files([tmp_path / "views.csv", tmp_path / "orders.jsonl"])
    assert [source.get("timestamp_format") for source in guess.spec["events"]] == [None, "dmy"]
    guess.save_spec(tmp_path / "spec.yaml")
    spec, base = load_spec(tmp_path / "spec.yaml")
    assert prepare_tables(spec, base).counts.events == 2


@pytest.mark.parametrize(("name", "told"), [("Zeitpunkt\n# up", True), ("Zeitpunkt\uffff", False)])
def test_notes_stand_above_what_is_to_be_filled_in(name: str, told: bool, tmp_path: Path) -> None:
    """As comments, whatever is in names."""
    rows = [{"who": f"k{n % 7}", "what": f"a{n % 5}", name: 1_700_000_000 + n} for n in range(60)]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    guess = guess_file(tmp_path / "log.jsonl")
    assert guess.open == ["events.columns.user", "events.columns.item"]
    guess.save_spec(tmp_path / "spec.yaml")
    text = (tmp_path / "spec.yaml").read_text(encoding="utf-8")
    assert ("could be times" in text) == told
    comments = [line for line in text.splitlines() if line.startswith("#")]
    assert any(line.startswith("# Fill in what only you know") for line in comments)
    assert len(comments) == 1 + told * len(guess.notes)
    assert yaml.safe_load(text)["timestamp_unit"] == "none"


def test_columns_within_objects(tmp_path: Path) -> None:
    """By their paths, as specs name them; objects whose keys are values stay whole."""
    rows = [
        {
            "context": {"user_id": f"u{n % 7}", "device": {"os": "x"}},
            "sku": f"a{n % 5}",
            "ts": 1_700_000_000 + n,
        }
        for n in range(60)
    ]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    guess = guess_file(tmp_path / "log.jsonl")
    assert [column.name for column in guess.columns] == ["context.user_id", "context.device.os", "sku", "ts"]
    assert guess.spec["events"]["columns"] == {"user": "context.user_id", "item": "sku", "timestamp": "ts"}
    guess.save_spec(tmp_path / "spec.yaml")
    spec, base = load_spec(tmp_path / "spec.yaml")
    tables = prepare_tables(spec, base)
    assert (tables.counts.events, tables.counts.users) == (60, 7)
    maps = [{"user_id": n % 7, "item_id": n % 5, "seen": {f"k{n}": 1, f"k{n + 1}": 1}} for n in range(90)]
    (tmp_path / "maps.jsonl").write_text("".join(json.dumps(row) + "\n" for row in maps))
    kinds = {column.name: column.kind for column in guess_file(tmp_path / "maps.jsonl").columns}
    assert kinds == {"user_id": "integer", "item_id": "integer", "seen": "list"}


def test_files_among_which_is_no_log(tmp_path: Path) -> None:
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text(f"title,{name[0]}\nx,1\n")
    with pytest.raises(UserError, match="no file looks like a log"):
        guess_files([tmp_path / "a.csv", tmp_path / "b.csv"])


def test_a_shard_folder_is_no_folder_of_raw_files(tmp_path: Path) -> None:
    (tmp_path / "items.parquet").touch()
    assert len(raw_files(tmp_path)) == 1
    (tmp_path / "manifest.json").touch()
    assert raw_files(tmp_path) == []


def test_compression_that_the_name_does_not_tell(tmp_path: Path) -> None:
    (tmp_path / "log.data").write_bytes(gzip.compress(b"user,item,ts\n1,2,1700000000\n"))
    guess = guess_file(tmp_path / "log.data")
    assert guess.spec["events"]["compression"] == "gzip"
    guess.save_spec(tmp_path / "spec.yaml")
    spec, base = load_spec(tmp_path / "spec.yaml")
    assert prepare_tables(spec, base).counts.events == 1
