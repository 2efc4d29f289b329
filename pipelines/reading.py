"""First pass: chunks of raw files become events by hash partition; rejected rows are set aside."""

from __future__ import annotations

from collections.abc import Iterator

import apache_beam as beam
import pyarrow as pa
from apache_beam.metrics import Metrics

from behavior.flow.reading import ChunkReport
from behavior.flow.rejects import AllReports, ReadSummary
from pipelines.job import PrepareJob, leave, left, read_arrow, unless_given_up
from pipelines.pooled import Outputs, Pooled
from pipelines.shuffle import Piece, Shuffle
from pipelines.threads import one_thread
from pipelines.work import READ, ChunkGroup, GroupRead, letters_file, read_group, read_whole_group

REPORTS = "reports"
SUMMARY_OF_READING = "reading.pickle"

__all__ = ["READ", "REPORTS", "ChunkGroup", "FinishReading", "ReadChunks"]


class ReadChunks(Pooled):
    """chunk group -> (partition, piece); tagged output `reports`: file with a `ChunkReport` a chunk."""

    def __init__(self, job: PrepareJob, shuffle: Shuffle) -> None:
        self.job: PrepareJob = job
        self.shuffle = shuffle
        self.counters = {name: Metrics.counter("lrm", name) for name in ("read", "rejected", "filtered")}

    def setup(self) -> None:
        one_thread()

    @unless_given_up
    def process(self, group: ChunkGroup) -> Outputs:
        if not self.noted(0, None, read_whole_group, self.shuffle, group):
            found = yield from read_group(self.job, self.shuffle, group)
            yield from self.outputs(([], found))

    def outputs(self, result: tuple[list[tuple[int, Piece]], GroupRead]) -> Outputs:
        pieces, found = result
        yield from pieces
        for name, counter in self.counters.items():
            counter.inc(getattr(found, name))
        yield beam.pvalue.TaggedOutput(REPORTS, found.reports)


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
        every = AllReports(preparation.plan, reports, self._letters)
        every.check(preparation.spec, adding=preparation.previous is not None)
        return every.write(preparation)

    def _letters(self, report: ChunkReport) -> list[pa.RecordBatch]:
        return read_arrow(self.job.work, letters_file(report.chunk)).to_batches()
