"""First pass: chunks of raw files become events by hash partition; rejected rows are set aside."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from uuid import uuid4

import apache_beam as beam
from apache_beam.metrics import Metrics

from behavior.flow.reading import ChunkReader, ChunkReport
from behavior.flow.rejects import AllReports, ReadSummary
from behavior.sources.chunks import Chunk
from behavior.sources.raw import Reject
from pipelines.job import PrepareJob, leave, left, unless_given_up
from pipelines.shuffle import Buffer, Piece, Shuffle
from pipelines.threads import one_of_few, one_thread

REPORTS = "reports"
READ = "read"
SUMMARY_OF_READING = "reading.pickle"


@dataclass(frozen=True)
class ChunkGroup:
    """Neighboring chunks that one worker reads one after the other, with how messages name their files."""

    number: int
    chunks: list[tuple[Chunk, str]]


class ReadChunks(beam.DoFn):
    """chunk group -> (partition, piece); tagged output `reports`: file with a `ChunkReport` a chunk."""

    def __init__(self, job: PrepareJob, shuffle: Shuffle) -> None:
        self.job = job
        self.shuffle = shuffle
        self.counters = {name: Metrics.counter("lrm", name) for name in ("read", "rejected", "filtered")}

    def setup(self) -> None:
        one_thread()

    @unless_given_up
    def process(self, group: ChunkGroup) -> Iterator[tuple[int, Piece] | beam.pvalue.TaggedOutput]:
        reports: list[ChunkReport] = []
        with one_of_few(), self.job.stage(READ):
            buffer = Buffer(self.job, self.shuffle, group.number)
            for chunk, name in group.chunks:
                reader = ChunkReader(self.job.preparation, chunk, name)
                for events in reader:
                    yield from buffer.add(events)
                keep_rejects(self.job, chunk, reader.rejects)
                reports.append(reader.report)
            yield from buffer.flush()
            # A name of its own for every attempt, as the pieces have.
            name = leave(self.job.work, f"reports/{group.number:06d}-{uuid4().hex}.pickle", reports)
        for report in reports:
            for counted, counter in self.counters.items():
                counter.inc(getattr(report, counted))
        yield beam.pvalue.TaggedOutput(REPORTS, name)


def keep_rejects(job: PrepareJob, chunk: Chunk, rejects: list[Reject]) -> None:
    """Keep the rejects of a chunk, if any, in the working folder."""
    if rejects:
        job.work.write_text(_rejects_of(chunk), "".join(reject.to_json() + "\n" for reject in rejects))


def _rejects_of(chunk: Chunk) -> str:
    return f"rejects/{chunk.source:03d}-{chunk.file:06d}-{chunk.number:06d}.jsonl"


class FinishReading(beam.DoFn):
    """One element; side input: files of all reports -> `SUMMARY_OF_READING`, a file with a `ReadSummary`.

    Fails where too much was rejected.
    """

    def __init__(self, job: PrepareJob) -> None:
        self.job = job

    @unless_given_up
    def process(self, _: bytes, reports: list[str]) -> Iterator[str]:
        with self.job.stage("judge"):
            groups = left(self.job.work, reports)
            summary = self.judge([report for group in groups for report in group])
            name = leave(self.job.work, SUMMARY_OF_READING, summary)
        yield name

    def judge(self, reports: list[ChunkReport]) -> ReadSummary:
        """Write the rejects.

        Raises:
            UserError: there are too many.
        """
        preparation = self.job.preparation
        every = AllReports(preparation.plan, reports, self._rejects)
        every.check(preparation.spec, adding=preparation.previous is not None)
        return every.write(preparation)

    def _rejects(self, report: ChunkReport) -> Iterator[Reject]:
        with self.job.work.open(_rejects_of(report.chunk)) as lines:
            for line in lines:
                yield Reject.from_json(line)
