"""Bad rows, damaged files, killed workers, full disks: every row is accounted for, no data set is lost."""

from __future__ import annotations

import errno
import gzip
import json
import os
import subprocess
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from behavior.errors import UserError
from behavior.flow.memory import prepare_tables
from behavior.flow.reading import ChunkReport
from behavior.shards.folder import open_shards
from behavior.shards.storage import Folder
from behavior.sources.blocks import iter_blocks
from behavior.spec.dataset_spec import DatasetSpec
from pipelines.append import append
from pipelines.prepare import prepare
from pipelines.reading import FinishReading
from pipelines.runner import RunnerOptions
from tests.cli.conftest import Lrm, lrm
from tests.pipelines.by_hand import Event, by_hand, rounded
from tests.pipelines.content import content
from tests.pipelines.test_shapes import COLUMNS, make_log, spec_of, write_log

__all__ = ["lrm"]
ONE = RunnerOptions(workers=1)


def rejected(out: Path) -> list[dict[str, Any]]:
    """All rejects of a data set, file by file."""
    parts = sorted((out / "rejected").glob("part-*.jsonl"))
    return [json.loads(line) for part in parts for line in part.read_text().splitlines()]


def check_log(out: Path, spec: DatasetSpec, log: list[Event], bad: int) -> None:
    """The data set holds the events of a log, and counts so many rejects beside them."""
    expected, found = by_hand(spec, log), rounded(content(out))
    assert found["sequences"] == rounded(expected["sequences"])
    counts = expected["counts"]
    assert found["counts"] == {**counts, "read": counts["read"] + bad, "rejected": bad}


def save(spec: DatasetSpec, path: Path) -> Path:
    path.write_text(spec.model_dump_json())  # JSON is YAML
    return path


HUNDRED = ["user,item,behavior,timestamp", *(f"u{n % 7},{n % 9},buy,{n}" for n in range(100))]
for row in (5, 50, 95):
    HUNDRED[row] = "u1,1,buy,soon"


@pytest.mark.parametrize(
    ("limit", "fine"), [(3, True), (2, False), (0.03, True), (0.029, False), (1.0, True), (0, False)]
)
def test_a_limit_on_rejects_is_a_count_or_a_share(limit: float, fine: bool, lrm: Lrm, tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("\n".join(HUNDRED))
    spec = spec_of(max_rejects=limit)
    flags = ("--max-rejects", limit, "--workers", 1)
    # The flag goes before the spec, be it stricter or not.
    other = save(spec_of(max_rejects=0 if fine else 1.0), tmp_path / "spec.yaml")
    found = lrm("prepare", other, "--out", tmp_path / "flag", *flags)
    if fine:
        assert prepare(spec, str(tmp_path), tmp_path / "out", runner=ONE).manifest.counts.rejected == 3
        assert (found.code, prepare_tables(spec, tmp_path).counts.rejected) == (0, 3)
        return
    message = "3 of 100 rows were rejected, more than max_rejects"
    with pytest.raises(UserError, match=message) as error:
        prepare(spec, str(tmp_path), tmp_path / "out", runner=ONE)
    assert "log.csv line 6: timestamp 'soon' is not a whole number" in str(error.value.where)
    with pytest.raises(UserError, match=message):
        prepare_tables(spec, tmp_path)
    assert (found.code, message in found.err) == (1, True)
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "flag").exists()


def test_the_flag_takes_a_percentage_and_nothing_silly(lrm: Lrm, tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("\n".join(HUNDRED))
    command = ("prepare", save(spec_of(), tmp_path / "spec.yaml"), "--out", tmp_path / "out")
    command += ("--workers", 1, "--max-rejects")
    assert lrm(*command, "2%").code == 1
    for silly in ("many", "-1", "1.5", "nan", "101%"):
        found = lrm(*command, silly)
        assert (found.code, "neither a number of rows nor a share" in found.err) == (2, True), silly
    assert lrm(*command, "3%").code == 0


def test_every_bad_row_of_text_is_kept_with_file_line_reason_and_text(tmp_path: Path) -> None:
    log = make_log(20, 60)
    write_log(tmp_path / "log.csv", log, ["user", "item", "behavior", "timestamp"])
    lines = (tmp_path / "log.csv").read_bytes().split(b"\n")
    bad = {
        3: (b"u1,2,buy", "3 fields where 4 are expected"),
        10: (b"u1,2,buy,1700000000,9", "5 fields where 4 are expected"),
        11: (b",2,buy,1700000000", "user (empty)"),
        20: (b"u1,,buy,1700000000", "item (empty)"),
        30: (b"u1,2,sell,1700000000", "behavior 'sell' is not in the spec"),
        31: (b"u1,2,buy,soon", "timestamp 'soon' is not a whole number"),
        40: (b"u\xff,2,buy,1700000000", "not utf-8"),
    }
    for line, (text, _) in bad.items():
        lines.insert(line - 1, text)
    (tmp_path / "log.csv").write_bytes(b"\n".join(lines))
    spec = spec_of(max_rejects=len(bad))
    prepare(spec, str(tmp_path), tmp_path / "out")
    found = rejected(tmp_path / "out")
    assert [(r["file"], r["line"]) for r in found] == [("log.csv", line) for line in bad]
    for record, (text, reason) in zip(found, bad.values(), strict=True):
        assert reason in record["reason"]
        assert record["text"].encode() == text.replace(b"\xff", rb"\xff")
    check_log(tmp_path / "out", spec, log, len(bad))


def test_every_bad_row_of_json_and_parquet_is_kept(tmp_path: Path) -> None:
    good = [{"user": f"u{n % 5}", "item": str(n % 6), "behavior": "buy", "timestamp": n} for n in range(90)]
    rows = [dict(row) for row in good[:60]]
    rows[7]["user"], rows[33]["item"], rows[41]["behavior"] = None, None, "sell"
    table = pa.Table.from_pylist(rows)
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=20)
    lines = [json.dumps(row) for row in good[60:]]
    lines[4], lines[9] = '{"user": "u1", "item"', '{"user": "u1", "behavior": "buy", "timestamp": 5}'
    (tmp_path / "b.jsonl").write_text("\n".join(lines))
    source = {"columns": COLUMNS, "behavior": {"column": "behavior"}}
    spec = spec_of(
        events=[{**source, "files": "a.parquet"}, {**source, "files": "b.jsonl"}], max_rejects=5, shards=2
    )
    prepare(spec, str(tmp_path), tmp_path / "out")
    found = rejected(tmp_path / "out")
    places = [(r["file"], r.get("row_group"), r.get("row"), r.get("line")) for r in found]
    assert places == [
        ("a.parquet", 0, 7, None),
        ("a.parquet", 1, 13, None),
        ("a.parquet", 2, 1, None),
        ("b.jsonl", None, None, 5),
        ("b.jsonl", None, None, 10),
    ]
    reasons = [
        "user (empty)",
        "item (empty)",
        "behavior 'sell' is not in the spec",
        "not JSON",
        "item (empty)",
    ]
    for record, reason in zip(found, reasons, strict=True):
        assert reason in record["reason"]
    assert "'item': '1'" in found[0]["text"]
    assert [record["text"] for record in found[3:]] == [lines[4], lines[9]]
    log = [row for n, row in enumerate(good) if n not in (7, 33, 41, 64, 69)]
    check_log(tmp_path / "out", spec, log, 5)


def test_a_torn_gzip_file_gives_its_rows_and_a_warning(lrm: Lrm, tmp_path: Path) -> None:
    log = make_log(21, 4000)
    write_log(tmp_path / "whole.csv", log[2000:])
    packed = gzip.compress((tmp_path / "whole.csv").read_bytes(), mtime=0)
    packed = packed[: len(packed) // 2]
    (tmp_path / "log2.csv.gz").write_bytes(packed)
    write_log(tmp_path / "log1.csv", log[:2000])
    whole = zlib.decompressobj(wbits=31).decompress(packed).decode().split("\n")[:-1]
    assert 500 < len(whole) < 1900
    spec = spec_of(events={**source_of("log*.csv*")})
    found = lrm("prepare", save(spec, tmp_path / "spec.yaml"), "--out", tmp_path / "out")
    assert found.code == 0
    assert "warning: not read to their end: log2.csv.gz" in found.err
    assert open_shards(tmp_path / "out").manifest.damaged_files == ["log2.csv.gz"]
    [record] = rejected(tmp_path / "out")
    assert (record["file"], record["line"]) == ("log2.csv.gz", len(whole) + 1)
    assert "cut off or damaged" in record["reason"]
    check_log(tmp_path / "out", spec, log[: 2000 + len(whole) - 1], 1)
    assert prepare_tables(spec, tmp_path).damaged_files == ["log2.csv.gz"]


def source_of(files: str) -> dict[str, Any]:
    return {"files": files, "columns": COLUMNS, "behavior": {"column": "behavior"}}


def write_parquet(path: Path, log: list[Event], row_group_size: int = 25) -> None:
    names = ["user", "item", "behavior", "timestamp"]
    table = pa.Table.from_pylist([{name: event[name] for name in names} for event in log])
    pq.write_table(table, path, row_group_size=row_group_size, compression="zstd", use_dictionary=False)


def test_a_broken_footer_fails_by_name_or_is_set_aside(tmp_path: Path) -> None:
    log = make_log(22, 100)
    for name in ("a", "b", "c"):
        write_parquet(tmp_path / f"{name}.parquet", log)
    whole = (tmp_path / "b.parquet").read_bytes()
    (tmp_path / "b.parquet").write_bytes(whole[:-30])
    spec = spec_of(events=source_of("*.parquet"), max_rejects=1)
    with pytest.raises(UserError, match=r"b\.parquet' is not a Parquet file") as error:
        prepare(spec, str(tmp_path), tmp_path / "out")
    assert "--skip-bad-files" in str(error.value.fix)
    assert not (tmp_path / "out").exists()
    manifest = prepare(spec, str(tmp_path), tmp_path / "out", skip_bad_files=True).manifest
    assert manifest.damaged_files == ["b.parquet"]
    [record] = rejected(tmp_path / "out")
    assert (record["file"], record["line"]) == ("b.parquet", 0)
    assert "is not a Parquet file" in record["reason"]
    assert str(tmp_path) not in record["reason"]
    check_log(tmp_path / "out", spec, log + log, 1)
    assert prepare_tables(spec, tmp_path, skip_bad_files=True).counts == manifest.counts


def test_a_later_text_file_of_other_columns_is_set_aside(tmp_path: Path) -> None:
    """Only the first file of a group is looked at before the reading begins."""
    log = make_log(27, 60)
    write_log(tmp_path / "log1.csv", log)
    (tmp_path / "log2.csv").write_text("who,what\nu1,1\nu2,2\n")
    spec = spec_of(max_rejects=1)
    with pytest.raises(UserError, match="no column 'user'"):
        prepare(spec, str(tmp_path), tmp_path / "out", runner=ONE)
    manifest = prepare(spec, str(tmp_path), tmp_path / "out", skip_bad_files=True).manifest
    assert manifest.damaged_files == ["log2.csv"]
    assert [(r["file"], r["line"], r["text"]) for r in rejected(tmp_path / "out")] == [("log2.csv", 0, "")]
    check_log(tmp_path / "out", spec, log, 1)


def test_a_file_that_breaks_after_the_plan_is_one_reject_however_many_chunks_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = make_log(23, 200)
    for name in ("a", "b"):
        write_parquet(tmp_path / f"{name}.parquet", log)
    spec = spec_of(events=source_of("*.parquet"), max_rejects=1)
    chunks = []
    from pipelines.prepare import plan_input

    def plan_and_break(*arguments: Any, **options: Any) -> Any:
        plan = plan_input(*arguments, **options)
        chunks.extend(plan.with_chunk_bytes(1024).chunks)
        (tmp_path / "b.parquet").write_bytes(b"PAR1 no more")
        return plan

    monkeypatch.setattr("pipelines.prepare.plan_input", plan_and_break)
    monkeypatch.setattr("pipelines.prepare.MIN_CHUNK_BYTES", 1024)
    manifest = prepare(spec, str(tmp_path), tmp_path / "out", skip_bad_files=True).manifest
    assert sum(chunk.path.endswith("b.parquet") for chunk in chunks) > 3
    assert manifest.damaged_files == ["b.parquet"]
    assert [(r["file"], r["line"]) for r in rejected(tmp_path / "out")] == [("b.parquet", 0)]
    check_log(tmp_path / "out", spec, log, 1)


def test_a_damaged_row_group_costs_no_other(tmp_path: Path) -> None:
    log = make_log(24, 150)[:150]
    path = tmp_path / "log.parquet"
    write_parquet(path, log, row_group_size=50)
    column = pq.ParquetFile(path).metadata.row_group(1).column(1)
    data = bytearray(path.read_bytes())
    begin, size = column.data_page_offset, column.total_compressed_size
    data[begin + size // 2 : begin + size] = bytes(size - size // 2)
    path.write_bytes(data)
    spec = spec_of(events=source_of("log.parquet"), max_rejects=1)
    manifest = prepare(spec, str(tmp_path), tmp_path / "out").manifest
    assert manifest.damaged_files == ["log.parquet"]
    [record] = rejected(tmp_path / "out")
    assert (record["file"], record["row_group"], record["row"]) == ("log.parquet", 1, 0)
    assert "the row group is damaged here" in record["reason"]
    check_log(tmp_path / "out", spec, log[:50] + log[100:], 1)


def test_a_file_that_proves_unreadable_in_two_chunks_loses_no_event_that_was_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Events that were read before a line without end are in the shuffle already."""
    log = make_log(28, 300)
    write_log(tmp_path / "log1.csv", log)
    lines = (tmp_path / "log1.csv").read_text().splitlines(keepends=True)
    size = len("".join(lines))
    for part in (1, 2):
        lines.insert(len(lines) * part // 3, "x" * 3000 + "\n")
    (tmp_path / "log2.csv").write_text("".join(lines))
    monkeypatch.setattr("behavior.sources.blocks.MAX_LINE_BYTES", 2000)
    monkeypatch.setattr("behavior.sources.read.iter_blocks", partial(iter_blocks, block_bytes=200))
    monkeypatch.setattr("pipelines.prepare.MIN_CHUNK_BYTES", size // 8)
    reports: list[ChunkReport] = []
    judge = FinishReading.judge

    def record(self: FinishReading, given: list[ChunkReport]) -> Any:
        reports.extend(given)
        return judge(self, given)

    monkeypatch.setattr(FinishReading, "judge", record)
    spec = spec_of(max_rejects=1)
    manifest = prepare(spec, str(tmp_path), tmp_path / "out", skip_bad_files=True, runner=ONE).manifest
    unreadable = [report for report in reports if report.unreadable]
    assert len(unreadable) == 2
    assert unreadable[1].read > 1
    counts = manifest.counts
    assert manifest.damaged_files == ["log2.csv"]
    assert [(r["file"], r["line"]) for r in rejected(tmp_path / "out")] == [("log2.csv", 0)]
    assert (counts.rejected, counts.filtered) == (1, 0)
    assert counts.read == counts.accepted + 1 == sum(report.read for report in reports) - 1
    sequences = content(tmp_path / "out")["sequences"].values()
    assert counts.accepted == sum(len(events) for events, _, _ in sequences)


needs_permissions = pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")


@needs_permissions
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    log = make_log(25, 50)
    for name in ("log1.csv", "log2.csv"):
        write_log(tmp_path / name, log)
    (tmp_path / "log1.csv").chmod(0)
    spec = spec_of(max_rejects=1)
    with pytest.raises(UserError, match=r"log1\.csv' cannot be opened: Permission denied"):
        prepare(spec, str(tmp_path), tmp_path / "out")
    prepare(spec, str(tmp_path), tmp_path / "out", skip_bad_files=True)
    check_log(tmp_path / "out", spec, log, 1)


@needs_permissions
def test_an_output_folder_that_may_not_be_written(tmp_path: Path) -> None:
    write_log(tmp_path / "log.csv", make_log(25, 50))
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    for out in (closed, closed / "new"):
        with pytest.raises(UserError, match="Permission denied"):
            prepare(spec_of(), str(tmp_path), out)
    assert list(closed.iterdir()) == []


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    """A folder with a log, more events to be added, and `spec.yaml`."""
    folder = tmp_path / "logs"
    folder.mkdir()
    log = make_log(26, 400)
    write_log(folder / "log.csv", log[:300])
    write_log(folder / "new.csv", log[300:])
    save(spec_of(), folder / "spec.yaml")
    return folder


DYING = """
import importlib, os, signal, sys

if any("sdk_worker_main" in argument for argument in sys.orig_argv):
    module, stage = os.environ["DIE_IN"].split(":")
    kind = getattr(importlib.import_module(module), stage)
    process = kind.process

    def dying(self, *arguments):
        try:
            os.close(os.open(os.environ["DIED"], os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return process(self, *arguments)  # another worker died
        os.kill(os.getpid(), signal.SIGKILL)

    kind.process = dying
"""


def with_a_killed_worker(stage: str, tmp_path: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """`lrm prepare` in two processes, of which the first to come to a stage is killed there."""
    (tmp_path / "sitecustomize.py").write_text(DYING)  # Python runs it in every process
    root = Path(__file__).parents[2]
    environment = {
        **os.environ,
        "PYTHONPATH": f"{tmp_path}{os.pathsep}{root}",
        "DIE_IN": stage,
        "DIED": str(tmp_path / "died"),
        "COLUMNS": "200",
    }
    command = [sys.executable, "-m", "cli.main", "prepare", *map(str, arguments), "--workers", "2"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert (tmp_path / "died").exists()
    return done


def check_message(done: subprocess.CompletedProcess[str]) -> None:
    assert done.returncode == 1
    assert done.stderr.startswith("error: the job failed: a worker process died")
    assert "run the same command again" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["pipelines.reading:ReadChunks", "pipelines.partitions:WriteSequences"])
def test_a_worker_killed_in_a_new_job(stage: str, logs: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    check_message(with_a_killed_worker(stage, tmp_path, logs / "spec.yaml", "--out", out))
    with pytest.raises(UserError, match="is not a data set"):
        open_shards(out)
    prepare(spec_of(), str(logs), out)
    prepare(spec_of(), str(logs), tmp_path / "fresh")
    assert content(out) == content(tmp_path / "fresh")
    assert {path.name for path in out.iterdir()} == {path.name for path in (tmp_path / "fresh").iterdir()}


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["append", "overwrite"])
def test_a_worker_killed_where_a_data_set_is(mode: str, logs: Path, tmp_path: Path) -> None:
    """The old data set can be read until the job, run again, is done."""
    out, spec = tmp_path / "out", spec_of()
    prepare(spec, str(logs), out)
    before = content(out)
    if mode == "append":
        flags: tuple[object, ...] = ("--append", logs / "new.csv")
    else:
        spec = spec_of(events=source_of("new.csv"))
        flags = ("--overwrite",)
    command = (save(spec, logs / "spec.yaml"), "--out", out, *flags)
    check_message(with_a_killed_worker("pipelines.partitions:WriteSequences", tmp_path, *command))
    assert content(out) == before
    if mode == "append":
        append(spec, str(logs), out, [str(logs / "new.csv")])
        spec = spec_of(events={**source_of("log.csv"), "files": ["log.csv", "new.csv"]})
    else:
        prepare(spec, str(logs), out, overwrite=True)
    prepare(spec, str(logs), tmp_path / "fresh")
    assert content(out) == content(tmp_path / "fresh")
    on_disk = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    assert on_disk == {entry.path for entry in open_shards(out).manifest.files} | {"manifest.json"}


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A context in which files whose names begin so cannot be written for want of room."""
    create = Folder.create

    @contextmanager
    def full(start: str) -> Iterator[None]:
        @contextmanager
        def failing(self: Folder, name: str, **options: Any) -> Iterator[Any]:
            if name.startswith(start):
                raise OSError(errno.ENOSPC, "No space left on device", self.where(name))
            with create(self, name, **options) as file:
                yield file

        with monkeypatch.context() as patch:
            patch.setattr(Folder, "create", failing)
            yield

    return full


@pytest.mark.parametrize("name", [".lrm-job/job.json", "sorted/", "sequences/", "manifest.json"])
def test_a_full_disk_is_said_so_and_leaves_what_was_there(
    name: str, logs: Path, tmp_path: Path, full_disk: Any
) -> None:
    out, spec = tmp_path / "out", spec_of()
    with full_disk(name), pytest.raises(UserError, match="No space left on device"):
        prepare(spec, str(logs), out, runner=ONE)
    assert not out.exists()
    prepare(spec, str(logs), out, runner=ONE)
    before = content(out)
    files = set(out.rglob("*"))
    other = spec_of(max_events=7)
    for run in (
        lambda: prepare(other, str(logs), out, overwrite=True, runner=ONE),
        lambda: append(spec, str(logs), out, [str(logs / "new.csv")], runner=ONE),
    ):
        with full_disk(name), pytest.raises(UserError, match="No space left on device"):
            run()
        assert content(out) == before
        assert set(out.rglob("*")) == files
    prepare(other, str(logs), out, overwrite=True, runner=ONE)
    prepare(other, str(logs), tmp_path / "fresh", runner=ONE)
    assert content(out) == content(tmp_path / "fresh")


def test_a_spill_that_finds_the_disk_full(
    logs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("pipelines.shuffle.FileShuffle.write", full)
        with pytest.raises(UserError, match="No space left on device") as error:
            prepare(spec_of(), str(logs), tmp_path / "out")
    assert "free some space" in str(error.value.fix)
    assert not (tmp_path / "out").exists()


def test_a_job_that_fails_leaves_an_empty_folder_of_the_users(logs: Path, tmp_path: Path) -> None:
    """It may be a mount, or have permissions of its own."""
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(UserError, match="no event is left"):
        prepare(spec_of(filters={"min_user_events": 1000}), str(logs), out)
    assert list(out.iterdir()) == []


def test_a_file_where_the_folder_should_be(logs: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    with pytest.raises(UserError, match="is a file, not a folder"):
        prepare(spec_of(), str(logs), tmp_path / "out", overwrite=True)
    assert (tmp_path / "out").read_text() == "mine"


@pytest.mark.parametrize(("kind", "left"), [(KeyboardInterrupt, 0), (UserError, 0), (RuntimeError, 1)])
def test_a_job_that_ends_early_leaves_at_most_its_log(
    kind: type[BaseException], left: int, logs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For a remote folder much lies in temporary ones; after a crash the log stays, which the error names."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))

    def fail(*_: object) -> None:
        assert any(temporary.glob("lrm-work-*/sorted/*"))
        raise kind("stop")

    monkeypatch.setattr("behavior.flow.partitions.finish_sequences", fail)
    with pytest.raises((KeyboardInterrupt, UserError), match="stop"):
        prepare(spec_of(), str(logs), Folder(f"memory://reliability/{kind.__name__}"), runner=ONE)
    assert [path.name[:12] for path in temporary.iterdir()] == ["lrm-prepare-"] * left
