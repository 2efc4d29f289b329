"""Reading chunk by chunk, and rejected rows put together, without an engine."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from behavior.errors import UserError
from behavior.flow.preparation import Preparation
from behavior.flow.reading import ChunkReader
from behavior.flow.rejects import AllReports
from behavior.shards.storage import Folder
from behavior.sources.damage import UnreadableFileError
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
    rejects = {reader.chunk: reader.rejects for reader in readers}
    return AllReports(plan, reports[::-1], lambda report: rejects[report.chunk])


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
