"""Files that are damaged, or may not be read: they are named, and cost no other."""

from __future__ import annotations

import gzip
import zlib
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

import pipelines.joined
from behavior.errors import UserError
from behavior.flow.memory import prepare_tables
from behavior.flow.reading import ChunkReport
from behavior.flow.rejects import AllReports
from behavior.shards.folder import open_shards
from behavior.sources.blocks import iter_blocks
from pipelines.job import PrepareJob
from pipelines.prepare import prepare
from tests.cli.conftest import Lrm, lrm
from tests.pipelines.broken import ONE, check_log, rejected, save, source_of, write_parquet
from tests.pipelines.content import content
from tests.pipelines.shapes import make_log, spec_of, write_log
from tests.pipelines.test_output_folders import needs_permissions

__all__ = ["lrm"]


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
    judged = pipelines.joined.judged

    def record(job: PrepareJob, given: list[ChunkReport]) -> AllReports:
        reports.extend(given)
        return judged(job, given)

    monkeypatch.setattr(pipelines.joined, "judged", record)
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
