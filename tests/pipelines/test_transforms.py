"""Parts of the job on their own."""

from __future__ import annotations

import errno
import itertools
import json
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from apache_beam.coders import FastPrimitivesCoder
from apache_beam.internal import pickler

from behavior.errors import UserError
from behavior.features.vocabulary import IdCounts
from behavior.flow.preparation import Preparation
from behavior.flow.reading import ChunkReport
from behavior.flow.rejects import ReadSummary
from behavior.shards.storage import Folder
from behavior.sources.chunks import BadFile, Chunk
from behavior.sources.letters import letters_of
from behavior.sources.plan import plan_input
from behavior.sources.raw import Reject
from pipelines.job import PrepareJob, read_arrow, write_arrow
from pipelines.joined import judged
from pipelines.partitions import CountPartition, MergeIdCounts, SortPartition, WriteSequences
from pipelines.reading import FinishReading, ReadChunks
from pipelines.shuffle import (
    ELEMENT_BYTES,
    SPILL_BYTES,
    Buffer,
    EngineShuffle,
    FileShuffle,
    Piece,
    Shuffle,
    in_order,
)
from pipelines.work import letters_file
from tests.pipelines.conftest import make_spec


def make_job(raw: Path, work: Path, **changes: Any) -> PrepareJob:
    """A job in one folder, with changes to what is prepared."""
    spec = make_spec()
    folder = Folder(str(work))
    preparation = Preparation(spec, str(raw), plan_input(spec, str(raw)), folder, partitions=3)
    return PrepareJob(replace(preparation, **changes), folder, folder)


def with_spec(job: PrepareJob, **changes: Any) -> PrepareJob:
    preparation = job.preparation
    return replace(job, preparation=replace(preparation, spec=preparation.spec.model_copy(update=changes)))


def events(users: list[str], first: int) -> pa.RecordBatch:
    """One event a user, items numbered in order."""
    items = [f"i{first + n}" for n in range(len(users))]
    return pa.RecordBatch.from_pydict({"user": users, "item": items})


@pytest.mark.parametrize("timed", [True, False], ids=["local", "engine"])
@pytest.mark.parametrize("place", ["disk", "remote"])
@pytest.mark.parametrize("shuffle", [FileShuffle(), EngineShuffle()])
def test_shuffle_keeps_the_order_of_the_input(
    shuffle: Shuffle, place: str, timed: bool, raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.shuffle.ELEMENT_BYTES", 64)  # a few events
    work = Folder("memory://shuffle/work") if place == "remote" else Folder(str(tmp_path / "work"))
    job = replace(make_job(raw, tmp_path / "job"), work=work, timed=timed)
    users = [f"u{n % 7}" for n in range(50)]
    pieces: dict[int, list[Piece]] = {}
    for chunk in (0, 1):
        buffer = Buffer(job, shuffle, chunk)
        emitted = [list(buffer.add(events(users, 100 * chunk + 50 * half))) for half in (0, 1)]
        assert emitted == [[], []]  # far below SPILL_BYTES
        for partition, piece in buffer.flush():
            pieces.setdefault(partition, []).append(piece)
    rows = {}
    for partition, own in pieces.items():
        table = pa.Table.from_batches(in_order(job, shuffle, reversed(own)))
        for user, item in zip(*(table.column(name).to_pylist() for name in ("user", "item")), strict=True):
            rows.setdefault(user, []).append((partition, int(item[1:])))
    for user in range(7):
        expected = [n for n in range(200) if users[n % 50] == f"u{user}"]
        assert [item for _, item in rows[f"u{user}"]] == expected
        assert len({partition for partition, _ in rows[f"u{user}"]}) == 1
    work.remove_tree()


def encoded(element: object) -> bytes:
    return FastPrimitivesCoder().encode(element)


def test_what_goes_through_an_engine_is_small(raw: Path, tmp_path: Path) -> None:
    """However many events there are, and one user has: 20 MB of one user here."""
    job = make_job(raw, tmp_path / "work")
    lot = pa.record_batch({"user": ["u1"] * 300_000, "item": [f"{n:064x}" for n in range(300_000)]})
    for shuffle, limit in ((FileShuffle(), 100), (EngineShuffle(), 1.1 * ELEMENT_BYTES)):
        buffer = Buffer(job, shuffle, 10**6)
        elements = [*buffer.add(lot), *buffer.flush()]
        assert max(len(encoded(element)) for element in elements) < limit
        table = pa.Table.from_batches(in_order(job, shuffle, [piece for _, piece in elements]))
        assert table.equals(pa.Table.from_batches([lot]))
    assert len(elements) > 5


def test_buffer_flushes_when_it_is_full(raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert SPILL_BYTES > 1 << 20
    monkeypatch.setattr("pipelines.shuffle.SPILL_BYTES", 64)
    buffer = Buffer(make_job(raw, tmp_path / "work"), FileShuffle(), 5)
    orders = [piece[:2] for n in range(3) for _, piece in buffer.add(events(["u1"] * 20, n))]
    assert orders == [(5, 0), (5, 1), (5, 2)]
    assert list(buffer.flush()) == []


def test_merging_counts_does_not_depend_on_the_order(raw: Path, tmp_path: Path) -> None:
    job, counts = make_job(raw, tmp_path), IdCounts(pa.string())
    files = []
    for ids in ("abA", "bb", "Aab"):
        files.append(f"counts/{ids}.arrow")
        batch = counts.count(pa.array(list(ids)), np.array([c.islower() for c in ids]))
        write_arrow(job.work, files[-1], batch)
    combine = MergeIdCounts(job, counts)
    results = []
    for order in itertools.permutations(files):
        first, second = combine.create_accumulator(), combine.create_accumulator()
        first = combine.add_input(first, ([files.index(order[0])], order[0]))
        for name in order[1:]:
            second = combine.add_input(second, ([files.index(name)], name))
        second = combine.compact(second)
        partitions, name = combine.extract_output(combine.merge_accumulators([first, second]))
        assert partitions == list(range(len(files)))
        merged = read_arrow(job.work, name)
        results.append({row["id"]: (row["count"], row["train_count"]) for row in merged.to_pylist()})
    assert all(result == {"a": (2, 2), "b": (4, 4), "A": (2, 0)} for result in results)
    partitions, name = combine.extract_output(combine.create_accumulator())
    assert (partitions, read_arrow(job.work, name).num_rows) == ([], 0)


def test_every_dofn_pickles(raw: Path, tmp_path: Path) -> None:
    job = make_job(raw, tmp_path / "work")
    for dofn in (
        ReadChunks(job, FileShuffle()),
        FinishReading(job),
        SortPartition(job, EngineShuffle()),
        CountPartition(job),
        WriteSequences(job),
    ):
        copy = pickler.loads(pickler.dumps(dofn))
        assert type(copy) is type(dofn)
        assert copy.job == job


def test_a_worker_keeps_the_users_error_for_the_launcher(raw: Path, tmp_path: Path) -> None:
    job = make_job(raw, tmp_path)
    with pytest.raises(UserError), job.stage("read"):
        raise UserError("what", where="where", fix="fix")
    kept = job.kept_error()
    assert kept is not None
    assert (kept.what, kept.where, kept.fix) == ("what", "where", "fix")
    again = pickle.loads(pickle.dumps(kept))
    assert str(again) == str(kept)


def test_a_full_disk_is_an_error_for_the_user(raw: Path, tmp_path: Path) -> None:
    job = make_job(raw, tmp_path)
    with pytest.raises(UserError, match="No space left"), job.stage("read"):
        raise OSError(errno.ENOSPC, "No space left on device", "/data/x")
    assert job.kept_error() is not None


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM])
def test_an_input_that_may_not_be_read_is_not_said_to_be_written(
    number: int, raw: Path, tmp_path: Path
) -> None:
    job = make_job(raw, tmp_path / "out")
    for file in (str(raw / "log.csv"), str(tmp_path / "outer"), None):
        with pytest.raises(UserError) as error, job.stage("read"):
            raise OSError(number, "Not allowed", file)
        assert (error.value.what, error.value.where) == ("Not allowed", file)
        assert job.kept_error() is not None
    with pytest.raises(UserError, match="cannot write: Not allowed") as error, job.stage("read"):
        raise OSError(number, "Not allowed", str(tmp_path / "out" / "sequences" / "part"))
    assert "--out" in str(error.value.fix)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_storage_without_room_cannot_be_written_whatever_file_it_is(
    number: int, raw: Path, tmp_path: Path
) -> None:
    job = make_job(raw, tmp_path / "out")
    for file in ("/elsewhere/spill", None):
        with pytest.raises(UserError, match="cannot write: No room") as error, job.stage("read"):
            raise OSError(number, "No room", file)
        assert error.value.where == (file or str(job.preparation.out))


def test_a_remote_folder_that_is_forbidden_cannot_be_written(raw: Path, tmp_path: Path) -> None:
    job = make_job(raw, tmp_path, out=Folder("memory://bucket/out"))
    for file in ("memory://bucket/out/x", "bucket/out/x", "/bucket/out/x"):
        with pytest.raises(UserError, match="cannot write"), job.stage("read"):
            raise OSError(errno.EACCES, "Forbidden", file)


def finish(job: PrepareJob, reports: list[ChunkReport]) -> tuple[ReadSummary, list[list[dict[str, Any]]]]:
    """What all reports come to, and the files of rejects."""
    reading = judged(job, reports).write(job.preparation)
    texts = [job.preparation.out.read_text(entry.path) for entry in reading.files]
    records = [[json.loads(line) for line in text.split("\n")[:-1]] for text in texts]
    assert [entry.rows for entry in reading.files] == [len(part) for part in records]
    return reading, records


def report_of(job: PrepareJob, file: int, number: int, places: list[int], **counts: Any) -> ChunkReport:
    """A report of a chunk with rejects at some lines; line 0, the last, says that the file is unreadable."""
    rejects = [Reject(f"{file}.csv", place, f"bad {number}\u2028", "x\r") for place in places]
    chunk = Chunk(0, file, number, f"/raw/{file}.csv", number, number + 1)
    if rejects:
        write_arrow(job.work, letters_file(chunk), pa.Table.from_batches([letters_of(rejects)]))
    gone = 0 in places
    read = counts.pop("good", 10) + len(places)
    return ChunkReport(chunk, read, len(places), 1, 20, f"{file}.csv", gone, gone, **counts)


def test_what_was_read_of_a_file_before_it_proved_unreadable_counts(raw: Path, tmp_path: Path) -> None:
    job = make_job(raw, tmp_path / "out")
    job = with_spec(job, max_rejects=100)
    reports = [
        report_of(job, 0, 0, [3]),
        report_of(job, 0, 1, []),
        report_of(job, 0, 2, [4, 0]),
        report_of(job, 0, 3, [5, 0]),
        report_of(job, 0, 4, [0], good=0),
        report_of(job, 0, 5, [6]),
        report_of(job, 1, 0, []),
        report_of(job, 2, 0, [0]),
        report_of(job, 2, 1, [0]),
    ]
    reading, records = finish(job, reports[::-1])
    assert (reading.read, reading.rejected, reading.filtered) == (8 * 10 + 6, 6, 9)
    assert reading.damaged == ["0.csv", "2.csv"]
    lines = [[(record["line"], record["reason"][4:5]) for record in part] for part in records]
    assert lines == [[(3, "0"), (44, "2"), (0, "2"), (65, "3"), (106, "5")], [(0, "0")]]
    assert records[0][0] == {"file": "0.csv", "line": 3, "reason": "bad 0\u2028", "text": "x\r"}


def test_rejects_are_judged_by_their_counts_and_copied_one_by_one(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = make_job(raw, tmp_path / "out")
    bad = BadFile("/raw/b.csv", "b.csv", 0, 9, "rubbish")
    preparation = job.preparation
    job = replace(job, preparation=replace(preparation, plan=replace(preparation.plan, bad_files=[bad])))
    reports = [report_of(job, file, 0, list(range(1, 1001)), good=1000) for file in range(3)]
    opened: list[str] = []
    made: list[str] = []
    look, loads = Folder.input_file, json.loads

    def record_open(self: Folder, name: str) -> Any:
        opened.append(name)
        return look(self, name)

    def record_loads(text: Any) -> Any:
        made.append(text)
        return loads(text)

    monkeypatch.setattr(Folder, "input_file", record_open)
    monkeypatch.setattr("behavior.sources.raw.json.loads", record_loads)
    strict = with_spec(job, max_rejects=10)
    with pytest.raises(UserError, match="3,001 of 6,001 rows were rejected") as error:
        judged(strict, reports)
    assert error.value.where == "b.csv: rubbish; " + "; ".join(
        f"0.csv line {line}: bad 0\u2028" for line in (1, 2)
    )
    assert (opened, len(made)) == (["rejects/000-000000-000000.arrow"], 3)

    kept: list[str] = []

    def forbid(*_: object) -> str:
        kept.append("a file was read as a whole")
        return ""

    with monkeypatch.context() as patch:
        patch.setattr(Folder, "read_bytes", forbid)
        loose = with_spec(job, max_rejects=1.0)
        reading = judged(loose, reports).write(loose.preparation)
    assert kept == []
    assert [entry.rows for entry in reading.files] == [1, 1000, 1000, 1000]
    for file, entry in enumerate(reading.files[1:]):
        lines = job.preparation.out.read_text(entry.path).split("\n")[:-1]
        assert [(loads(line)["file"], loads(line)["line"]) for line in lines] == [
            (f"{file}.csv", line) for line in range(1, 1001)
        ]
