"""First pass: chunks of raw files become events by hash partition; rejected rows are set aside."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import apache_beam as beam
from apache_beam.metrics import Metrics

from pipelines.job import PrepareJob, unless_given_up
from pipelines.joined import judge, keep_rejects
from pipelines.shuffle import Shuffle
from pipelines.threads import one_thread
from pipelines.work import ChunkGroup, read_group

REPORTS = "reports"

__all__ = ["REPORTS", "ChunkGroup", "FinishReading", "ReadChunks"]


class ReadChunks(beam.DoFn):
    """chunk group -> (partition, piece); tagged output `reports`: file with a `ChunkReport` a chunk."""

    def __init__(self, job: PrepareJob, shuffle: Shuffle) -> None:
        self.job = job
        self.shuffle = shuffle
        self.counters = {name: Metrics.counter("lrm", name) for name in ("read", "rejected", "filtered")}

    def setup(self) -> None:
        one_thread()

    @unless_given_up
    def process(self, group: ChunkGroup) -> Iterator[Any]:
        found = yield from read_group(self.job, self.shuffle, group)
        for name, counter in self.counters.items():
            counter.inc(getattr(found, name))
        yield beam.pvalue.TaggedOutput(REPORTS, found.reports)


class FinishReading(beam.DoFn):
    """One element; side input: files of all reports -> a file with a `ReadSummary`.

    Fails where too much was rejected.
    """

    def __init__(self, job: PrepareJob) -> None:
        self.job = job

    @unless_given_up
    def process(self, _: bytes, reports: list[str]) -> Iterator[str]:
        yield keep_rejects(self.job, judge(self.job, reports))
