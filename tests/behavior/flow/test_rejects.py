"""Reading chunk by chunk, and rejected rows put together, without an engine."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import pytest

from behavior.errors import UserError
from behavior.flow.memory import prepare
from behavior.flow.preparation import Preparation
from behavior.flow.reading import ChunkReader
from behavior.flow.rejects import AllReports
from behavior.shards.folder import open_shards
from behavior.shards.storage import Folder
from behavior.sources.damage import UnreadableFileError
from behavior.sources.letters import letters_of, rejects_in, text_of
from behavior.sources.plan import plan_input
from behavior.sources.raw import Reject
from behavior.spec.dataset_spec import DatasetSpec
from tests.behavior.logs import make_spec

BAD = {3: "u,a,soon", 7: "u", 40: ",a,1", 41: "v,a,-1"}


def read_all(spec: DatasetSpec, folder: Path, chunk_bytes: int = 64, *, skip: bool = False) -> AllReports:
    """Read a log in small chunks, and hand their reports over in the wrong order."""
    plan = plan_input(spec, str(folder), chunk_bytes, skip_bad_files=skip)
    preparation = Preparation(spec, str(folder), plan, Folder(os.devnull), 1, skip_bad_files=skip)
    readers = [ChunkReader(preparation, chunk, plan.names[chunk.path]) for chunk in plan.chunks]
    events = [sum(batch.num_rows for batch in reader) for reader in readers]
    reports = [reader.report for reader in readers]
    assert events == [report.read - report.rejected - report.filtered for report in reports]
    letters = {reader.chunk: [letters_of(reader.take_rejects())] for reader in readers}
    return AllReports(plan, reports[::-1], lambda report: letters[report.chunk])


def log() -> str:
    lines = [f"u{n % 5},i{n % 7},{n}" for n in range(60)]
    for line, text in BAD.items():
        lines[line - 2] = text  # the header is line 1
    return "\n".join(["user,item,time", *lines, ""])


@pytest.mark.parametrize("chunk_bytes", [16, 64, 1 << 20])
def test_lines_count_from_the_start_of_the_file(chunk_bytes: int, tmp_path: Path) -> None:
    for name in ("log.csv", "more.csv"):
        (tmp_path / name).write_text(log())
    spec = make_spec({"files": ["log.csv", "more.csv"]}, max_rejects=8)
    reports = read_all(spec, tmp_path, chunk_bytes)
    found = [[(reject.file, reject.place, reject.text) for reject in own] for own in reports.rejects()]
    assert found == [[(name, *bad) for bad in BAD.items()] for name in ("log.csv", "more.csv")]
    assert (reports.read, reports.rejected, reports.filtered, reports.damaged) == (120, 8, 0, [])
    reports.check(spec)
    with pytest.raises(UserError, match="8 of 120 rows were rejected") as error:
        reports.check(make_spec(max_rejects=7))
    assert str(error.value.where).startswith("log.csv line 3: timestamp 'soon'")


def test_a_bad_file_counts_once_however_it_is_found(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(log())
    (tmp_path / "b.csv").write_text("no,such,columns\n" + "1,2,3\n" * 40)  # looked at when it is read
    spec = make_spec({"files": ["a.csv", "b.csv"]}, max_rejects=5)
    with pytest.raises(UnreadableFileError):
        read_all(spec, tmp_path)
    reports = read_all(spec, tmp_path, skip=True)
    assert (reports.read, reports.rejected, reports.damaged) == (61, 5, ["b.csv"])
    assert [reject.place for own in list(reports.rejects())[1:] for reject in own] == [0]


def test_nothing_is_an_error_unless_it_is_added(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("user,item,time\nu,a,5\n")
    reports = read_all(make_spec(filters={"start": 100}), tmp_path)
    assert (reports.read, reports.filtered) == (1, 1)
    with pytest.raises(UserError, match="no event is left: of 1 read, 1 were filtered out"):
        reports.check(make_spec())
    reports.check(make_spec(), adding=True)


@pytest.mark.parametrize(
    "reject",
    [
        Reject("a.csv", 7, "bad \u2028 row", 'x,"y\r'),
        Reject("a.csv", 0, "a file as a whole", ""),
        Reject("a.parquet", 0, "bad", "{}", row_group=2),
    ],
)
def test_a_reject_is_read_as_it_was_written(reject: Reject) -> None:
    line = reject.to_json()
    assert Reject.from_json(line) == reject
    assert Reject.from_json(line.encode()).to_json() == line


def placed(reject: Reject, before: int) -> Reject:
    in_lines = reject.row_group is None and reject.place
    return reject._replace(place=reject.place + before) if in_lines else reject


@pytest.mark.parametrize("before", [0, 12_345])
def test_letters_are_the_lines_of_the_rejects(before: int) -> None:
    rejects = [
        Reject("a.csv", 7, "bad \u2028 row", 'x,"y\\r\n'),
        Reject("a.csv", 8, "bad \u2028 row", "\x1b[2J \x7f plain"),
        Reject("a.csv", 0, "a file as a whole", ""),
        Reject("\ud800.parquet", 0, "bad", "{}", row_group=2),
        Reject("a.parquet", 9, "bad", "\u00e9" * 20_000, row_group=3),
    ]
    letters = letters_of(rejects)
    expected = "".join(placed(reject, before).to_json() + "\n" for reject in rejects)
    assert text_of(letters, before).to_pybytes() == expected.encode()
    assert text_of(letters.slice(1, 3), before).to_pybytes().count(b"\n") == 3
    short = [reject._replace(text=reject.text[:10_000]) for reject in rejects]
    assert list(rejects_in(letters)) == short
    assert text_of(letters_of([]), before).size == 0


def test_many_rejects_are_compressed_and_say_the_same(tmp_path: Path) -> None:
    """The reasons of values that come often are found once a value."""
    rows = [f"u{n % 5},i{n % 7},{'soon' if n % 2 else n}" for n in range(40_000)]
    (tmp_path / "log.csv").write_text("\n".join(["user,item,time", *rows, ""]))
    (tmp_path / "few.csv").write_text("user,item,time\nu,a,soon\n")
    spec = make_spec({"files": ["log.csv", "few.csv"]}, max_rejects=0.9)
    prepare(spec, tmp_path / "out", tmp_path)
    written = sorted(path.name for path in (tmp_path / "out" / "rejected").iterdir())
    assert written == ["part-00000.jsonl.gz", "part-00001.jsonl"]
    content = gzip.decompress((tmp_path / "out" / "rejected" / written[0]).read_bytes()).decode()
    reason = "timestamp 'soon' is not a whole number"
    expected = [Reject("log.csv", n + 2, reason, row) for n, row in enumerate(rows) if n % 2]
    assert [Reject.from_json(line) for line in content.splitlines()] == expected
    entries = {entry.path: entry.rows for entry in open_shards(tmp_path / "out").manifest.files}
    assert entries[f"rejected/{written[0]}"] == 20_000
    # Others' files stay, one's own are replaced.
    prepare(spec.model_copy(update={"name": "again"}), tmp_path / "out", tmp_path, overwrite=True)
    assert sorted(path.name for path in (tmp_path / "out" / "rejected").iterdir()) == [
        "part-00000@2.jsonl.gz",
        "part-00001@2.jsonl",
    ]
