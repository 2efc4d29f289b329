"""First pass: chunks of raw files become events by bucket; bad rows are set aside."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import apache_beam as beam
from apache_beam.metrics import Metrics

from behavior.dataset import check_rejects, nothing_left
from behavior.events import read_events
from behavior.manifest import FileEntry
from behavior.shards import REJECTED, file_entry
from behavior.sources.plan import Chunk
from behavior.sources.raw import Reject
from pipelines.job import Job, write_text
from pipelines.shuffle import Buffer, Piece, Shuffle
from pipelines.threads import one_thread

REPORTS = "reports"
EXAMPLES = 3


@dataclass(frozen=True)
class ChunkReport:
    """What reading one chunk came to."""

    chunk: Chunk
    number: int
    read: int
    rejected: int
    filtered: int
    lines: int
    rejects: str
    """File with the chunk's rejects, lines counted from its start; empty where there are none."""


class ReadChunk(beam.DoFn):
    """(number, chunk) -> (bucket, piece); tagged output `reports`: one `ChunkReport` a chunk."""

    def __init__(self, job: Job, shuffle: Shuffle) -> None:
        self.job = job
        self.shuffle = shuffle
        self.counters = {name: Metrics.counter("lrm", name) for name in ("read", "rejected", "filtered")}

    def setup(self) -> None:
        one_thread()

    def process(self, element: tuple[int, Chunk]) -> Iterator[tuple[int, Piece] | beam.pvalue.TaggedOutput]:
        number, chunk = element
        with self.job.errors_kept():
            buffer = Buffer(self.job, self.shuffle, number)
            read = filtered = lines = 0
            rejects: list[Reject] = []
            for batch in read_events(self.job.spec, self.job.plan, chunk, self.job.name_of(chunk.path)):
                read, filtered, lines = read + batch.read, filtered + batch.filtered, batch.lines
                rejects += batch.rejects
                if batch.events.num_rows:
                    yield from buffer.add(batch.events)
            yield from buffer.flush()
            report = ChunkReport(
                chunk, number, read, len(rejects), filtered, lines, self._keep(number, rejects)
            )
            write_text(self.job.path(REPORTS, f"{number:06d}.json"), json.dumps(asdict(report)))
        for name, counter in self.counters.items():
            counter.inc(getattr(report, name))
        yield beam.pvalue.TaggedOutput(REPORTS, report)

    def _keep(self, number: int, rejects: list[Reject]) -> str:
        if not rejects:
            return ""
        path = self.job.path("rejects", f"{number:06d}.jsonl")
        write_text(path, "".join(reject.to_json() + "\n" for reject in rejects))
        return str(path)


@dataclass(frozen=True)
class Reading:
    """What reading all chunks came to."""

    read: int
    rejected: int
    filtered: int
    files: list[FileEntry]


class FinishReading(beam.DoFn):
    """One element, all reports -> one `Reading`; fails where too much was rejected.

    Line numbers of rejects become those of the file: a chunk knows how many lines it has, not how many are
    before it.
    """

    def __init__(self, job: Job) -> None:
        self.job = job

    def process(self, _: None, reports: list[ChunkReport]) -> Iterator[Reading]:
        with self.job.errors_kept():
            reports = sorted(reports, key=lambda report: report.number)
            read = sum(report.read for report in reports)
            rejected = sum(report.rejected for report in reports)
            filtered = sum(report.filtered for report in reports)
            by_file = self._place(reports)
            check_rejects(self.job.spec, read, rejected, _examples(by_file))
            if read == rejected + filtered:
                raise nothing_left(read, filtered)
            files = [self._write(number, records) for number, records in enumerate(by_file)]
        yield Reading(read, rejected, filtered, files)

    def _place(self, reports: list[ChunkReport]) -> list[list[dict]]:
        """Rejects of each file that has any, lines counted from the file's start."""
        # By place in the spec rather than by path: a file may stand in two groups.
        before: dict[tuple[int, int], int] = defaultdict(int)
        by_file: dict[tuple[int, int], list[dict]] = defaultdict(list)
        for report in reports:
            file = (report.chunk.source, report.chunk.file)
            if report.rejects:
                for line in Path(report.rejects).read_text(encoding="utf-8").split("\n")[:-1]:
                    record = json.loads(line)
                    if "line" in record:
                        record["line"] += before[file]
                    by_file[file].append(record)
            before[file] += report.lines
        return list(by_file.values())

    def _write(self, number: int, records: list[dict]) -> FileEntry:
        name = f"{REJECTED}/part-{number:05d}.jsonl"
        target = self.job.staging / name
        target.parent.mkdir(parents=True, exist_ok=True)
        write_text(target, "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records))
        return file_entry(self.job.staging, name, rows=len(records))


def _examples(by_file: list[list[dict]]) -> list[Reject]:
    records = [record for records in by_file for record in records[:EXAMPLES]][:EXAMPLES]
    return [
        Reject(r["file"], r.get("line", r.get("row", 0)), r["reason"], r["text"], r.get("row_group"))
        for r in records
    ]
