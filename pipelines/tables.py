"""Last pass: item and user tables, and the summary that the commit works from."""

from __future__ import annotations

import pickle
from collections.abc import Iterator

import apache_beam as beam

from behavior.flow.totals import Summary
from behavior.shards.manifest import MANIFEST_NAME
from pipelines.job import PrepareJob, unless_given_up
from pipelines.joined import sum_up
from pipelines.left import MANIFEST_OF
from pipelines.work import counted_with, tables, users


class WriteTables(beam.DoFn):
    """One element; side input: the vocabulary -> its name, and a file with a `TablesReport`."""

    def __init__(self, job: PrepareJob) -> None:
        self.job = job

    @unless_given_up
    def process(self, _: bytes, vocabulary: str) -> Iterator[tuple[str, str]]:
        known = users(self.job, counted_with(self.job.work, vocabulary))
        yield vocabulary, tables(self.job, vocabulary, known)


class WriteSummary(beam.DoFn):
    """(vocabulary, report of the tables); side input: all partitions that were written -> the summary's name.

    What the stages before have left lies in the working folder.
    """

    def __init__(self, job: PrepareJob) -> None:
        self.job = job

    @unless_given_up
    def process(self, made_with: tuple[str, str], written: list[int]) -> Iterator[str]:
        yield sum_up(self.job, *made_with, written)


class Commit(beam.DoFn):
    """name of the summary -> name of the manifest, whose appearance makes the files a data set.

    On an engine, where the process that started the job may be gone. Once more it writes the same.
    """

    def __init__(self, job: PrepareJob) -> None:
        self.job = job

    @unless_given_up
    def process(self, summary: str) -> Iterator[str]:
        work = self.job.work
        with self.job.stage("commit"):
            manifest_of = pickle.loads(work.read_bytes(MANIFEST_OF))
            manifest_of(Summary.from_json(work.read_text(summary))).save(self.job.out)
        yield MANIFEST_NAME
