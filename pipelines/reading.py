"""First pass: chunks of raw files become events by bucket; bad rows are set aside."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import groupby, islice
from typing import Any

import apache_beam as beam
from apache_beam.metrics import Metrics

from behavior.shards.folder import REJECTED, write_lines
from behavior.shards.manifest import FileEntry
from behavior.sources.damage import UnreadableFileError
from behavior.sources.plan import Chunk
from behavior.sources.raw import Reject
from behavior.steps.dataset import check_rejects, nothing_left
from behavior.steps.events import read_events
from pipelines.job import Job
from pipelines.shuffle import Buffer, Piece, Shuffle
from pipelines.threads import one_thread

REPORTS = "reports"
READ = "read"
EXAMPLES = 3


@dataclass(frozen=True)
class Task:
    """Chunks that one worker reads one after the other, with how messages name their files."""

    number: int
    chunks: list[tuple[Chunk, str]]


@dataclass(frozen=True)
class ChunkReport:
    """What reading one chunk came to."""

    chunk: Chunk
    read: int
    rejected: int
    filtered: int
    lines: int
    rejects: str
    """File of the working folder with the chunk's rejects, lines counted from its start; empty for none."""
    name: str = ""
    """How messages name the file."""
    damaged: bool = False
    """Whether the file could not be read to its end."""
    unreadable: bool = False
    """Whether the file proved to be of no use: it cannot be opened, lacks a column, has a line without end.

    What was read of the chunk before that counts, and is in the shuffle. The last of the rejects stands for
    the file; other chunks of it may say the same again.
    """


class ReadTask(beam.DoFn):
    """task -> (bucket, piece); tagged output `reports`: a `ChunkReport` for each of its chunks."""

    def __init__(self, job: Job, shuffle: Shuffle) -> None:
        self.job = job
        self.shuffle = shuffle
        self.counters = {name: Metrics.counter("lrm", name) for name in ("read", "rejected", "filtered")}

    def setup(self) -> None:
        one_thread()

    def process(self, task: Task) -> Iterator[tuple[int, Piece] | beam.pvalue.TaggedOutput]:
        reports: list[ChunkReport] = []
        with self.job.stage(READ):
            buffer = Buffer(self.job, self.shuffle, task.number)
            for chunk, name in task.chunks:
                yield from self._read(chunk, name, buffer, reports)
            yield from buffer.flush()
        for report in reports:
            for name, counter in self.counters.items():
                counter.inc(getattr(report, name))
            yield beam.pvalue.TaggedOutput(REPORTS, report)

    def _read(
        self, chunk: Chunk, name: str, buffer: Buffer, reports: list[ChunkReport]
    ) -> Iterator[tuple[int, Piece]]:
        read = filtered = lines = 0
        rejects: list[Reject] = []
        damaged = unreadable = False
        try:
            for batch in read_events(self.job.spec, self.job.plan, chunk, name):
                read, filtered, lines = read + batch.read, filtered + batch.filtered, batch.lines
                rejects += batch.rejects
                damaged |= batch.damaged is not None
                if batch.events.num_rows:
                    yield from buffer.add(batch.events)
        except UnreadableFileError as error:
            if not self.job.skip_bad_files:
                raise
            damaged = unreadable = True
            rejects.append(error.reject(chunk.path, name))
            read += 1
        kept = self._keep(chunk, rejects)
        reports.append(
            ChunkReport(chunk, read, len(rejects), filtered, lines, kept, name, damaged, unreadable)
        )

    def _keep(self, chunk: Chunk, rejects: list[Reject]) -> str:
        if not rejects:
            return ""
        name = f"rejects/{chunk.source:03d}-{chunk.file:06d}-{chunk.number:06d}.jsonl"
        self.job.work.write_text(name, "".join(reject.to_json() + "\n" for reject in rejects))
        return name


@dataclass(frozen=True)
class Reading:
    """What reading all chunks came to."""

    read: int
    rejected: int
    filtered: int
    files: list[FileEntry]
    damaged: list[str]


class FinishReading(beam.DoFn):
    """One element, all reports -> one `Reading`; fails where too much was rejected.

    Line numbers of rejects become those of the file: a chunk knows how many lines it has, not how many are
    before it.
    """

    def __init__(self, job: Job) -> None:
        self.job = job

    def process(self, _: None, reports: list[ChunkReport]) -> Iterator[Reading]:
        with self.job.stage("judge"):
            reports = _once_a_bad_file(sorted(reports, key=lambda report: report.chunk))
            bad = self.job.plan.bad_files
            read = len(bad) + sum(report.read for report in reports)
            rejected = len(bad) + sum(report.rejected for report in reports)
            filtered = sum(report.filtered for report in reports)
            new = self.job.previous is None  # to a data set that is there, nothing may be added
            if read or new:
                check_rejects(self.job.spec, read, rejected, self._examples(reports))
            if new and read == rejected + filtered:
                raise nothing_left(read, filtered)
            # A data set that is added to keeps the rejects it has.
            first = self.job.previous.rejected_files if self.job.previous else 0
            by_file = self._by_file(reports)
            files = [self._write(first + number, records) for number, records in enumerate(by_file)]
            names = [file.name for file in bad] + [report.name for report in reports if report.damaged]
            damaged = list(dict.fromkeys(names))
        yield Reading(read, rejected, filtered, files, damaged)

    def _by_file(self, reports: list[ChunkReport]) -> Iterator[Iterator[dict[str, Any]]]:
        """Rejects of each file that has any, read as they are asked for: they may be more than fit memory."""
        for bad in self.job.plan.bad_files:
            yield iter([json.loads(bad.reject.to_json())])
        for _, chunks in groupby(reports, key=_file_of):
            own = list(chunks)
            if any(report.rejected for report in own):
                yield self._placed(own)

    def _placed(self, reports: list[ChunkReport]) -> Iterator[dict[str, Any]]:
        """Rejects of one file, lines counted from its start."""
        before = 0
        for report in reports:
            if report.rejected:
                with self.job.work.open(report.rejects) as lines:
                    for line in islice(lines, report.rejected):
                        record = json.loads(line)
                        if record.get("line"):  # 0 stands for the file as a whole
                            record["line"] += before
                        yield record
            before += report.lines

    def _examples(self, reports: list[ChunkReport]) -> list[Reject]:
        records = islice((record for records in self._by_file(reports) for record in records), EXAMPLES)
        return [
            Reject(r["file"], r.get("line", r.get("row", 0)), r["reason"], r["text"], r.get("row_group"))
            for r in records
        ]

    def _write(self, number: int, records: Iterator[dict[str, Any]]) -> FileEntry:
        lines = (json.dumps(record, ensure_ascii=False) for record in records)
        return write_lines(lines, self.job.out, self.job.file(f"{REJECTED}/part-{number:05d}.jsonl"))


def _file_of(report: ChunkReport) -> tuple[int, int]:
    """By place in the spec rather than by path: a file may stand in two groups."""
    return report.chunk.source, report.chunk.file


def _once_a_bad_file(reports: list[ChunkReport]) -> list[ChunkReport]:
    """Reports of which only the first that finds a file unreadable counts a reject for it."""
    kept: list[ChunkReport] = []
    seen: set[tuple[int, int]] = set()
    for report in reports:
        file = _file_of(report)
        if report.unreadable and file in seen:
            # The last of its rejects, which is not read then.
            report = replace(report, read=report.read - 1, rejected=report.rejected - 1)
        if report.unreadable:
            seen.add(file)
        kept.append(report)
    return kept
