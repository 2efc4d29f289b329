"""Last pass: item and user tables, and the summary that the commit works from."""

from __future__ import annotations

from collections.abc import Iterator

import apache_beam as beam

from behavior.flow.partitions import PartitionReport, in_partition_order
from behavior.flow.rejects import ReadSummary
from behavior.flow.totals import TablesReport, make_tables, summarize, write_tables
from behavior.shards.manifest import FileEntry
from pipelines.job import PrepareJob, read_arrow
from pipelines.partitions import load_encoders, load_vocabulary, users_file

SUMMARY = "summary.json"


class WriteTables(beam.DoFn):
    """One element; side inputs: the vocabulary, all partition reports -> one `TablesReport`."""

    def __init__(self, job: PrepareJob) -> None:
        self.job = job

    def process(self, _: None, vocabulary: str, reports: list[PartitionReport]) -> Iterator[TablesReport]:
        work, preparation = self.job.work, self.job.preparation
        with self.job.stage("tables"):
            items = load_vocabulary(work, vocabulary, preparation.spec.vocabulary.oov)
            files = [users_file(report.partition) for report in in_partition_order(reports)]
            tables = make_tables(preparation, items, [read_arrow(work, file) for file in files])
            report = write_tables(preparation.writer, tables, load_encoders(work, vocabulary))
        yield report


class WriteSummary(beam.DoFn):
    """One element; side inputs: the results of all stages -> name of the summary."""

    def __init__(self, job: PrepareJob) -> None:
        self.job = job

    def process(
        self,
        _: None,
        reading: ReadSummary,
        reports: list[PartitionReport],
        vocabulary: str,
        tables: TablesReport,
        sequences: list[FileEntry],
    ) -> Iterator[str]:
        work, preparation = self.job.work, self.job.preparation
        with self.job.stage("summary"):
            items = load_vocabulary(work, vocabulary, preparation.spec.vocabulary.oov)
            summary = summarize(preparation, reading, reports, items, tables, sequences)
            work.write_text(SUMMARY, summary.to_json())
        yield SUMMARY
