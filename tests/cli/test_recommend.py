"""`lrm recommend`: files in and out, what is said, and what cannot be asked."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.cli.conftest import Lrm

HISTORY = [
    ("ann", "i1", "buy", 1100),
    ("bob", "i2", "view", 1050),
    ("ann", "i3", "view", 1090),
    ("ann", "nobody", "cart", 1101),
    ("new", "", "", ""),
]
NAMES = ("user", "item", "behavior", "timestamp")


def write_csv(path: Path) -> None:
    text = "".join(",".join(map(str, row)) + "\n" for row in (NAMES, *HISTORY))
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())


def write_jsonl(path: Path) -> None:
    """A user a line."""
    lines = []
    for user in ("ann", "bob", "new"):
        own = [row for row in HISTORY if row[0] == user and row[1]]
        lines.append({name: [row[place] for row in own] for place, name in enumerate(NAMES)} | {"user": user})
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def write_parquet(path: Path) -> None:
    rows = [dict(zip(NAMES, (value or None for value in row), strict=True)) for row in HISTORY]
    pq.write_table(pa.Table.from_pylist(rows), path)


def read(path: Path) -> list[dict[str, Any]]:
    """Recommendations of any kind of file."""
    if path.suffix == ".parquet":
        return list(pq.read_table(path).to_pylist())
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text().splitlines()]
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t" if path.suffix == ".tsv" else ","))
    return [{**row, "rank": int(row["rank"]), "score": float(row["score"])} for row in rows]


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("h.csv", write_csv),
        ("h.csv.gz", write_csv),
        ("h.jsonl", write_jsonl),
        ("h.parquet", write_parquet),
    ],
)
def test_files_in_and_out(
    lrm: Lrm, run: Path, tmp_path: Path, name: str, write: Callable[[Path], None]
) -> None:
    """The same recommendations from every kind of file, in every kind of file."""
    write(tmp_path / name)
    write_parquet(tmp_path / "as.parquet")
    arguments = ("recommend", run, "--k", 4, "--at", 2000, "--exclude-seen", "--device", "cpu")
    whole = lrm(*arguments, "--histories", tmp_path / "as.parquet", "--out", tmp_path / "all.parquet")
    assert whole.code == 0, whole.err
    expected = read(tmp_path / "all.parquet")
    assert [(row["user"], row["rank"]) for row in expected] == [
        (user, rank) for user in ("ann", "bob", "new") for rank in range(1, 5)
    ]
    assert [row["answer"] for row in expected] == ["model"] * 8 + ["popularity"] * 4
    assert not any(row["user"] == "ann" and row["item"] == "i1" for row in expected)
    for ending in ("parquet", "jsonl", "csv", "tsv"):
        out = tmp_path / f"out.{ending}"
        found = lrm(*arguments, "--histories", tmp_path / name, "--out", out)
        assert found.code == 0, found.err
        assert "12 recommendations for 3 users" in found.out
        for row, like in zip(read(out), expected, strict=True):
            assert row.pop("score") == pytest.approx(like["score"], rel=1e-6)
            assert row == {key: value for key, value in like.items() if key != "score"}
    for words in ("1 of 3 users without a history", "1 of 3 users with events out of order", "1 event of"):
        assert words in found.err
    assert "the model was trained on the training part" in found.err
    assert "lrm train --refit" in found.err
    assert not [path for path in tmp_path.iterdir() if path.name.endswith(".tmp")]


def test_some_users_on_the_terminal(lrm: Lrm, run: Path, tmp_path: Path) -> None:
    (tmp_path / "users.txt").write_text("u3\nu5\n")
    (tmp_path / "items.csv").write_text("item,title\ni1,One\ni2,Two\n")
    (tmp_path / "few.csv").write_text("item\ni1\ni2\n")
    arguments = ("--users", tmp_path / "users.txt", "--candidates", tmp_path / "few.csv", "--keep-seen")
    titles = ("--items", tmp_path / "items.csv", "--columns", "title,count")
    found = lrm("recommend", run, "--k", 3, "--device", "cpu", *arguments, *titles)
    assert found.code == 0, found.err
    assert all(word in found.out for word in ("user u3", "user u5", "One", "Two"))
    assert "2 of 2 users for whom fewer items were left" in found.err
    as_json = json.loads(lrm("recommend", run, "--k", 3, "--device", "cpu", "--json", *arguments).out)
    assert (as_json["users"], as_json["trained_on"]) == (2, "train")
    assert {row["item"] for row in as_json["recommendations"]} == {"i1", "i2"}
    assert len(as_json["recommendations"]) == 4
    assert as_json["recall"] is None
    indexed = json.loads(
        lrm("recommend", run, "--k", 3, "--device", "cpu", "--json", "--index", "ann", *arguments).out
    )
    assert indexed["recall"] == 1.0
    assert [row["item"] for row in indexed["recommendations"]] == [
        row["item"] for row in as_json["recommendations"]
    ]
    every = lrm("recommend", run, "--k", 1, "--device", "cpu", "--index", "ann")
    assert "an index of " in every.err
    assert "of the exact top items of the first" in every.err
    assert every.code == 0
    assert every.out.count("user u") == 20
    assert "the first 20 users" in every.out


BAD: list[tuple[str, str, str, int]] = [
    ("--histories", "h.csv", "", 1),
    ("--histories", "h.csv", "user,item,behavior,timestamp\n", 1),
    ("--histories", "h.csv", "user,item,timestamp\na,i1,1000\n", 1),
    ("--histories", "h.csv", "user,item,behavior,timestamp\na,i1,byu,1000\n", 1),
    ("--histories", "h.csv", "user,itm,behavior,timestamp\na,i1,buy,1100\n", 1),
    ("--histories", "h.csv", 'user,item,behavior,timestamp\n"a\nb",i1,buy,1100\n', 1),
    ("--histories", "h.jsonl", "{\n", 1),
    ("--histories", "h.parquet", "no parquet", 1),
    ("--histories", "h.txt", "a", 2),
    ("--histories", "gone.csv", None, 1),  # type: ignore[list-item]
    ("--users", "u.txt", "", 1),
    ("--users", "u.txt", "u1\nsomebody\n", 1),
    ("--users", "u.csv", "name,age\nu1,3\n", 1),
    ("--users", "u.csv", "u1\nu2\n", 1),
    ("--candidates", "c.txt", "nothing\n", 1),
    ("--items", "i.csv", "movie,title\ni1,One\n", 1),
]
SAID = [
    "the file is empty",
    "there are no histories",
    "there is no column 'behavior'",
    "behavior 'byu' is not in the data set",
    "there is no column 'item', only user, itm",
    "where a value has a line break, give the histories as JSON lines or Parquet",
    "cannot be read as jsonl",
    "cannot be read as parquet",
    "cannot be told by its name",
    "there is no file",
    "the file has no ids",
    "1 of 2 users are not in the data set: 'somebody'",
    "there is no column 'user'",
    "there is no column 'user', only u1",
    "none of the candidates",
    "there is no column 'item'",
]


@pytest.mark.parametrize(("bad", "said"), list(zip(BAD, SAID, strict=True)))
def test_bad_files(lrm: Lrm, run: Path, tmp_path: Path, bad: tuple[str, str, str, int], said: str) -> None:
    flag, name, text, code = bad
    if text is not None:
        (tmp_path / name).write_text(text)
    out = tmp_path / "out.csv"
    found = lrm("recommend", run, "--device", "cpu", flag, tmp_path / name, "--out", out)
    assert found.code == code
    assert said in found.err
    assert found.err.count("to do: ") == 1
    assert not out.exists()


def test_an_input_is_not_written_over(lrm: Lrm, run: Path, shards: Path, tmp_path: Path) -> None:
    (tmp_path / "users.csv").write_text("user\nu1\n")
    arguments = ("recommend", run, "--device", "cpu", "--k", 2, "--users", tmp_path / "users.csv", "--out")
    for out in (tmp_path / "users.csv", shards / "items.parquet", shards / "manifest.json"):
        before = out.read_bytes()
        found = lrm(*arguments, out)
        assert found.code == 1
        assert "is there already, and is something else" in found.err
        assert out.read_bytes() == before
    for _ in range(2):
        assert lrm(*arguments, tmp_path / "top.csv").code == 0


@pytest.mark.parametrize("ending", [".gz", ".zst"])
def test_compressed_files_in_and_out(ending: str, lrm: Lrm, run: Path, tmp_path: Path) -> None:
    (tmp_path / "users.csv").write_text("user\nu3\nu5\n")
    for name in ("users.csv", "users.txt"):
        lines = (
            (tmp_path / "users.csv").read_text().replace("user\n", "" if name.endswith("txt") else "user\n")
        )
        with pa.output_stream(str(tmp_path / (name + ending)), compression="detect") as file:
            file.write(lines.encode())
    arguments = ("recommend", run, "--k", 3, "--at", 2000, "--device", "cpu")
    plain = lrm(*arguments, "--users", tmp_path / "users.csv", "--out", tmp_path / "plain.csv")
    assert plain.code == 0, plain.err
    for name in ("users.csv", "users.txt"):
        for kind in ("csv", "tsv", "jsonl"):
            out = tmp_path / f"{name}.{kind}{ending}"
            found = lrm(*arguments, "--users", tmp_path / (name + ending), "--out", out)
            assert found.code == 0, found.err
            assert not out.read_bytes().startswith((b'"user"', b"{"))
            with pa.input_stream(str(out), compression="detect") as file:
                (tmp_path / f"read.{kind}").write_bytes(file.read())
            assert [
                {key: str(value) if key == "user" else value for key, value in row.items() if key != "score"}
                for row in read(tmp_path / f"read.{kind}")
            ] == [
                {key: value for key, value in row.items() if key != "score"}
                for row in read(tmp_path / "plain.csv")
            ]
    found = lrm(*arguments, "--out", tmp_path / f"top.parquet{ending}")
    assert (found.code, "compressed twice" in found.err) == (2, True)


def test_who_has_seen_everything_gets_nothing_and_is_told(lrm: Lrm, run: Path, tmp_path: Path) -> None:
    rows = [f"ann,i1,buy,{1_100}", f"bob,i2,view,{1_100}"]
    (tmp_path / "h.csv").write_text("\n".join(["user,item,behavior,timestamp", *rows]))
    (tmp_path / "one.txt").write_text("i1\n")
    arguments = ("--histories", tmp_path / "h.csv", "--candidates", tmp_path / "one.txt", "--exclude-seen")
    found = lrm("recommend", run, "--device", "cpu", "--k", 1, "--at", 2000, *arguments)
    assert found.code == 0, found.err
    assert ("user bob" in found.out, "user ann" in found.out) == (True, False)
    assert "1 of 2 users for whom none was left" in found.err


def test_bad_flags(lrm: Lrm, run: Path, shards: Path, tmp_path: Path) -> None:
    (tmp_path / "u.txt").write_text("u1\n")
    for arguments, said in (
        (("--k", 100), "100 items a user are asked for"),
        (("--behavior", "buy"), "not told which behavior is wanted"),
        (("--domain", "books"), "one domain only"),
        (("--where", "genre=Drama"), "items of the data set have no 'genre'"),
        (("--columns", "title"), "items of the data set have no 'title'"),
        (("--out", tmp_path / "out.xyz"), "cannot be told by its name"),
        (("--out", tmp_path / "gone" / "out.csv"), "there is no folder"),
        (("--seen-by", "view", "--keep-seen"), "--seen-by says already"),
        (("--users", tmp_path / "u.txt", "--histories", tmp_path / "h.csv"), "are of the data set"),
    ):
        found = lrm("recommend", run, "--device", "cpu", *arguments)
        assert found.code in (1, 2)
        assert said in found.err
    assert "is not a training run" in lrm("recommend", shards).err
