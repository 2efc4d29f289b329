"""`lrm inspect` on shards: its tables and its picture against plain Python."""

from __future__ import annotations

import gzip
import json
import re
import struct
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from behavior.quality import measure_quality
from behavior.shards.folder import open_shards
from behavior.shards.storage import Folder
from tests.behavior.summary.log import DOMAINS, LOG, make_log, prepared, write_log, write_spec
from tests.cli.conftest import Lrm


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With times, domains and an event feature; not to be changed."""
    return prepared(tmp_path_factory.mktemp("inspect") / "data")


def table_of(text: str, title: str) -> list[list[str]]:
    """The rows of the printed table that stands under a title."""
    lines = text.splitlines()
    place = next(number for number, line in enumerate(lines) if line.startswith(title))
    rows = []
    for line in lines[place + 1 :]:
        if not re.match(r"[┏┃┡│└]", line):
            break
        if line.startswith("│"):
            rows.append([cell.strip() for cell in line.strip("│").split("│")])
    return rows


def test_tables_hold_what_plain_python_counts(lrm: Lrm, shards: Path) -> None:
    text = lrm("inspect", shards).out
    numbers = dict(table_of(text, "log in"))
    users = Counter(event.user for event in LOG)
    items = Counter(event.item for event in LOG)
    assert numbers["events"] == f"{len(LOG)}"
    assert numbers["users"] == f"{len(users)}"
    assert numbers["items"] == f"{len(items)}"
    for rows, counts in (
        (table_of(text, "behaviors"), Counter(event.behavior for event in LOG)),
        (table_of(text, "domains"), Counter(event.domain for event in LOG)),
    ):
        assert {row[0]: row[1:3] for row in rows} == {
            name: [f"{number}", f"{number / len(LOG):.1%}"] for name, number in counts.items()
        }
    assert [row[3] for row in table_of(text, "behaviors")] == ["", "", "target"]
    repeat = len(LOG) - len({(event.user, event.item) for event in LOG})
    repeats = table_of(text, "repeats: the user had the item before")
    assert repeats[0][:4] == ["all events", f"{len(LOG)}", f"{repeat}", f"{repeat / len(LOG):.1%}"]
    assert sum(map(int, repeats[0][4:])) == repeat
    assert [row[0] for row in repeats[1:]] == ["validation targets", "test targets"]
    assert repeats[2][1] == numbers["users tested"]
    assert int(repeats[1][1]) < int(numbers["users validated"])  # some have nothing before the target
    record = json.loads(lrm("inspect", shards, "--json").out)["repeats"]
    assert record["files_read"] == record["files"] == 5
    for row, name in zip(repeats, ("events", "valid", "test"), strict=True):
        assert [str(record[name][field]) for field in ("number", "repeat")] == row[1:3]
        assert [str(number) for number in record[name]["repeat_by"].values()] == row[4:]
    lengths = Counter(length.bit_length() - 1 for length in users.values())
    assert table_of(text, f"sequence lengths (mean {len(LOG) / len(users):.1f}") == [
        [
            f"{1 << k} to {(2 << k) - 1}" if k else "1",
            f"{lengths[k]}",
            f"{lengths[k] / len(users):.1%}",
        ]
        for k in sorted(lengths)
    ]
    top = sorted(items.items(), key=lambda pair: (-pair[1], pair[0]))[:10]
    assert [(row[0], row[2], row[3]) for row in table_of(text, "top items")] == [
        (item, f"{number}", f"{number / len(LOG):.2%}") for item, number in top
    ]
    assert f"density {100 * len(LOG) / len(users) / len(items):.3g}%" in text
    first, last = (
        datetime.fromtimestamp(end(event.time for event in LOG), UTC).strftime("%Y-%m-%d %H:%M")
        for end in (min, max)
    )
    assert f"time: {first} to {last} UTC; split: leave_one_out" in text
    # Padding, missing, one OOV id, and phone and tv.
    assert table_of(text, "features") == [["event device", "categorical", "vocabulary", "5"]]


def test_json_and_a_picture_in_one_call(lrm: Lrm, shards: Path, tmp_path: Path) -> None:
    found = lrm("inspect", shards, "--json", "--png", tmp_path / "out.png")
    assert found.code == 0, found.err
    record = json.loads(found.out)
    assert record["png"] == str(tmp_path / "out.png")
    assert record["domain_events"] == {
        "files_read": 5,
        "files": 5,
        "events": dict(sorted(Counter(event.domain for event in LOG).items())),
    }
    data = (tmp_path / "out.png").read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", data[16:24]) == (1500, 800)
    assert 30_000 < len(data) < 500_000
    assert "drawn: " in lrm("inspect", shards, "--png", tmp_path / "out.png").out


@pytest.mark.parametrize("part", ["train", "all"])
def test_quality_is_that_of_the_library(lrm: Lrm, shards: Path, part: str) -> None:
    flags = ["--quality"] if part == "train" else ["--quality", "--part", part]
    expected = measure_quality(shards, part)  # type: ignore[arg-type]
    assert json.loads(lrm("inspect", shards, *flags, "--json").out)["quality"] == expected.to_record()
    text = lrm("inspect", shards, *flags).out
    rows = table_of(text, f"quality of {expected.events:,} events of {expected.users:,} users (part: {part})")
    assert {row[0]: row[1] for row in rows} == {
        name: f"{estimate.value:.4f}" for name, estimate in expected.estimates.items()
    }
    assert "quality" not in json.loads(lrm("inspect", shards, "--json").out)


def test_a_folder_on_remote_storage(lrm: Lrm, shards: Path, tmp_path: Path) -> None:
    MemoryFileSystem.store.clear()
    remote, local = Folder("memory://bucket/data"), Folder(str(shards))
    for name in local.names():
        remote.write_bytes(name, local.read_bytes(name))
    try:
        found = lrm("inspect", "memory://bucket/data", "--png", tmp_path / "remote.png")
        assert found.code == 0, found.err
        here = lrm("inspect", shards).out
        assert table_of(found.out, "behaviors") == table_of(here, "behaviors")
        assert table_of(found.out, "domains") == table_of(here, "domains")
        assert (tmp_path / "remote.png").exists()
        missing = lrm("inspect", "memory://bucket/nothing")
        assert missing.code == 1
        assert "is not a data set" in missing.err
    finally:
        MemoryFileSystem.store.clear()


def test_versions_and_damaged_files_are_shown(lrm: Lrm, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    write_log(folder / "log.csv", LOG)
    spec = write_spec(folder, max_rejects=1)
    assert lrm("prepare", spec, "--out", folder / "out").code == 0
    write_log(folder / "more.csv", make_log(300, seed=4))
    packed = gzip.compress((folder / "more.csv").read_bytes())
    (folder / "more.csv.gz").write_bytes(packed[: len(packed) * 3 // 4])
    found = lrm("prepare", spec, "--out", folder / "out", "--append", folder / "more.csv.gz")
    assert found.code == 0, found.err
    manifest = open_shards(folder / "out").manifest
    [entry] = manifest.history
    text = lrm("inspect", folder / "out").out
    rows = table_of(text, "version 2; what was added")  # a long path is folded into several
    assert rows[0][:3] == ["2", f"{entry.counts.events}", "1"]
    assert "".join(row[3] for row in rows).endswith("more.csv.gz")
    assert "files that could not be read to their end: " in text
    assert "more.csv.gz" in text.partition("to their end: ")[2]
    record = json.loads(lrm("inspect", folder / "out", "--json").out)
    assert record["version"] == 2
    assert record["damaged_files"] == manifest.damaged_files
    # Indices no longer fall by count, but the list does.
    counts = [item["count"] for item in record["top_items"]]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] == max(open_shards(folder / "out").items().column("count").to_pylist())


def test_items_of_separate_domains_are_told_apart(lrm: Lrm, tmp_path: Path) -> None:
    out = prepared(tmp_path / "data", domain_ids={"items": "separate"})
    text = lrm("inspect", out).out
    items = Counter((event.domain, event.item) for event in LOG)
    (domain, item), number = max(items.items(), key=lambda pair: pair[1])
    assert table_of(text, "top items")[0][0] == f"{domain}: {item}"
    assert table_of(text, "top items")[0][2] == f"{number}"
    rows = table_of(text, "domains (ids: items separate, users shared)")
    assert {row[0]: row[3] for row in rows} == {
        name: f"{len({pair for pair in items if pair[0] == name})}" for name in DOMAINS
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{raw}", "--png", "{folder}/x.png"], "a raw file has no statistics to draw"),
        (["{shards}", "--png", "{folder}/x.jpg"], "is no name of a PNG file"),
        (["{shards}", "--png", "{folder}/none/x.png"], "there is no folder"),
        (["{shards}", "--png", "{folder}/taken.png"], "cannot write"),
        (["{shards}", "--save", "{folder}/spec.yaml"], "a shard folder needs no spec"),
        (["{raw}/none", "--quality"], "there is nothing at"),
        (["{raw}", "--quality"], "the quality of raw files cannot be measured"),
        (["{shards}", "--quality", "--part", "tran"], "did you mean 'train'"),
        (["{shards}", "--part", "all"], "it is about --quality"),
    ],
)
def test_what_cannot_be_drawn(
    lrm: Lrm, shards: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    (tmp_path / "taken.png").mkdir()
    places = {"raw": shards.parent / "log.csv", "shards": shards, "folder": tmp_path}
    found = lrm("inspect", *(argument.format(**places) for argument in arguments))
    not_usage = ("there is no folder", "cannot write", "there is nothing at")
    assert found.code == (1 if message in not_usage else 2)
    assert message in found.err
    assert not found.out


@pytest.mark.parametrize("saved", ["spec.yaml", "raw/spec.yaml", "specs/mine/spec.yaml"])
def test_saved_paths_are_relative(
    lrm: Lrm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, saved: str
) -> None:
    for folder in ("old/raw", "old/specs/mine"):
        (tmp_path / folder).mkdir(parents=True)
    rows = "".join(f"u{n % 5},i{n % 7},{1_600_000_000 + n}\n" for n in range(50))
    (tmp_path / "old/raw/log.csv").write_text("user,item,time\n" + rows)
    monkeypatch.chdir(tmp_path / "old")
    assert lrm("inspect", "raw/log.csv", "--save", saved).code == 0
    (tmp_path / "old").rename(tmp_path / "new")
    monkeypatch.chdir(tmp_path)
    found = lrm("prepare", tmp_path / "new" / saved, "--out", tmp_path / "out")
    assert found.code == 0, found.err
