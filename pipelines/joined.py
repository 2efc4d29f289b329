"""What one process does between the passes and after them, without Beam: from what all parts have left."""

from __future__ import annotations

from uuid import uuid4

import pyarrow as pa

from behavior.flow.reading import ChunkReport
from behavior.flow.rejects import AllReports
from behavior.flow.totals import summarize
from behavior.steps.filters import core_behaviors, core_items
from pipelines.job import SUMMARY, PrepareJob, leave, left, read_arrow, write_arrow
from pipelines.work import counted_with, entry_file, letters_file, load_vocabulary, report_file, sorted_file

SUMMARY_OF_READING = "reading.pickle"


def judge(job: PrepareJob, reports: list[str]) -> AllReports:
    """What all reports of reading, in files, come to.

    Raises:
        UserError: too much was rejected, or nothing is left.
    """
    with job.stage("judge"):
        return judged(job, [report for group in left(job.work, reports) for report in group])


def judged(job: PrepareJob, reports: list[ChunkReport]) -> AllReports:
    """`judge`, of the reports themselves."""
    preparation = job.preparation

    def letters(report: ChunkReport) -> list[pa.RecordBatch]:
        return read_arrow(job.work, letters_file(report.chunk)).to_batches()

    every = AllReports(preparation.plan, reports, letters)
    every.check(preparation.spec, adding=preparation.previous is not None)
    return every


def keep_rejects(job: PrepareJob, every: AllReports) -> str:
    """Write the rejects, and leave a `ReadSummary`: its file."""
    with job.stage("judge"):
        return leave(job.work, SUMMARY_OF_READING, every.write(job.preparation))


def core(job: PrepareJob, partitions: list[int]) -> str:
    """The file with the items of the k-core of all sorted partitions."""
    work = job.work
    name = f"core/{uuid4().hex}.arrow"  # a name of its own: processes remember what they have read
    with job.stage("core"):
        found = (read_arrow(work, sorted_file(partition)) for partition in sorted(partitions))
        spec = job.preparation.spec
        items = core_items(found, *spec.filters.minimum_counts, core_behaviors(spec))
        write_arrow(work, name, pa.table({"id": items}))
    return name


def sum_up(job: PrepareJob, vocabulary: str, tables: str, written: list[int]) -> str:
    """The summary that the commit works from, from what the stages have left: its file.

    Args:
        job: the job.
        vocabulary: file of the item vocabulary.
        tables: file with the report of the tables.
        written: partitions that have a sequence file.
    """
    work, preparation = job.work, job.preparation
    with job.stage("summary"):
        items = load_vocabulary(work, vocabulary, preparation.spec.vocabulary.oov)
        read, made = left(work, [SUMMARY_OF_READING, tables])
        reports = left(work, map(report_file, counted_with(work, vocabulary)))
        entries = left(work, map(entry_file, sorted(written)))
        summary = summarize(preparation, read, reports, items, made, entries)
        work.write_text(SUMMARY, summary.to_json())
    return SUMMARY
