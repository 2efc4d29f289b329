"""Last pass: item and user tables, and the summary that the commit works from."""

from __future__ import annotations

from collections.abc import Iterator

import apache_beam as beam

from behavior.flow.totals import make_tables, summarize, write_tables
from pipelines.job import SUMMARY, PrepareJob, leave, left, read_arrow, unless_given_up
from pipelines.partitions import entry_file, load_encoders, load_vocabulary, report_file, users_file


class WriteTables(beam.DoFn):
    """One element; side inputs: the vocabulary, all partitions -> file with a `TablesReport`."""

    def __init__(self, job: PrepareJob) -> None:
        self.job = job

    @unless_given_up
    def process(self, _: bytes, vocabulary: str, partitions: list[int]) -> Iterator[str]:
        work, preparation = self.job.work, self.job.preparation
        with self.job.stage("tables"):
            items = load_vocabulary(work, vocabulary, preparation.spec.vocabulary.oov)
            counts = [read_arrow(work, users_file(partition)) for partition in sorted(partitions)]
            tables = make_tables(preparation, items, counts)
            report = write_tables(preparation.writer, tables, load_encoders(work, vocabulary))
            name = leave(work, "tables.pickle", report)
        yield name


class WriteSummary(beam.DoFn):
    """One element; side inputs: what all stages have left -> name of the summary."""

    def __init__(self, job: PrepareJob) -> None:
        self.job = job

    @unless_given_up
    def process(
        self,
        _: bytes,
        reading: str,
        counted: list[int],
        vocabulary: str,
        tables: str,
        written: list[int],
    ) -> Iterator[str]:
        work, preparation = self.job.work, self.job.preparation
        with self.job.stage("summary"):
            items = load_vocabulary(work, vocabulary, preparation.spec.vocabulary.oov)
            read, made = left(work, [reading, tables])
            reports = left(work, map(report_file, sorted(counted)))
            entries = left(work, map(entry_file, sorted(written)))
            summary = summarize(preparation, read, reports, items, made, entries)
            work.write_text(SUMMARY, summary.to_json())
        yield SUMMARY
