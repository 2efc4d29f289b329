"""Parts of the job on their own."""

from __future__ import annotations

import itertools
import pickle
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from apache_beam.internal import pickler

from behavior.errors import UserError
from behavior.sources.plan import plan_input
from behavior.storage import Folder
from behavior.vocabulary import IdCounts
from pipelines.buckets import BuildBucket, CountBucket, FinishBucket, MergeIdCounts
from pipelines.job import Job, read_arrow, write_arrow
from pipelines.reading import FinishReading, ReadTask
from pipelines.shuffle import SPILL_BYTES, Buffer, EngineShuffle, FileShuffle, Piece, Shuffle, in_order
from tests.pipelines.conftest import make_spec


def make_job(raw: Path, work: Path, buckets: int = 3) -> Job:
    spec = make_spec()
    folder = Folder(str(work))
    return Job(spec, str(raw), plan_input(spec, str(raw)), folder, folder, folder, buckets)


def events(users: list[str], first: int) -> pa.RecordBatch:
    """One event a user, items numbered in order."""
    items = [f"i{first + n}" for n in range(len(users))]
    return pa.RecordBatch.from_pydict({"user": users, "item": items})


@pytest.mark.parametrize("shuffle", [FileShuffle(), EngineShuffle()])
def test_shuffle_keeps_the_order_of_the_input(shuffle: Shuffle, raw: Path, tmp_path: Path) -> None:
    job = make_job(raw, tmp_path / "work")
    users = [f"u{n % 7}" for n in range(50)]
    pieces: dict[int, list[Piece]] = {}
    for chunk in (0, 1):
        buffer = Buffer(job, shuffle, chunk)
        emitted = [list(buffer.add(events(users, 100 * chunk + 50 * half))) for half in (0, 1)]
        assert emitted == [[], []]  # far below SPILL_BYTES
        for bucket, piece in buffer.flush():
            pieces.setdefault(bucket, []).append(piece)
    rows = {}
    for bucket, own in pieces.items():
        table = pa.Table.from_batches(in_order(shuffle, reversed(own)))
        for user, item in zip(*(table.column(name).to_pylist() for name in ("user", "item")), strict=True):
            rows.setdefault(user, []).append((bucket, int(item[1:])))
    for user in range(7):
        expected = [n for n in range(200) if users[n % 50] == f"u{user}"]
        assert [item for _, item in rows[f"u{user}"]] == expected
        assert len({bucket for bucket, _ in rows[f"u{user}"]}) == 1


def test_buffer_flushes_when_it_is_full(raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert SPILL_BYTES > 1 << 20
    monkeypatch.setattr("pipelines.shuffle.SPILL_BYTES", 64)
    buffer = Buffer(make_job(raw, tmp_path / "work"), FileShuffle(), 5)
    orders = [piece.order for n in range(3) for _, piece in buffer.add(events(["u1"] * 20, n))]
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
        first = combine.add_input(first, order[0])
        for name in order[1:]:
            second = combine.add_input(second, name)
        second = combine.compact(second)
        merged = read_arrow(job.work, combine.extract_output(combine.merge_accumulators([first, second])))
        results.append({row["id"]: (row["count"], row["train_count"]) for row in merged.to_pylist()})
    assert all(result == {"a": (2, 2), "b": (4, 4), "A": (2, 0)} for result in results)
    assert read_arrow(job.work, combine.extract_output(combine.create_accumulator())).num_rows == 0


def test_every_dofn_pickles(raw: Path, tmp_path: Path) -> None:
    job = make_job(raw, tmp_path / "work")
    for dofn in (
        ReadTask(job, FileShuffle()),
        FinishReading(job),
        BuildBucket(job, EngineShuffle()),
        CountBucket(job),
        FinishBucket(job),
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
    import errno

    job = make_job(raw, tmp_path)
    with pytest.raises(UserError, match="No space left"), job.stage("read"):
        raise OSError(errno.ENOSPC, "No space left on device", "/data/x")
    assert job.kept_error() is not None
