"""Data quality on Beam: for data sets that one machine would take too long to read (`behavior.quality`).

A worker has one row group at a time, a count of each item and the sums; what goes through the engine is
counts and sums of files. Sums are whole numbers: the result is the same on any engine, and that of
`behavior.quality.measure_quality`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
import numpy as np

from behavior.quality.histories import HistoryPart, Part, read_part
from behavior.quality.measure import REPLICATES, checked_popularity, item_counts
from behavior.quality.popularity import Popularity
from behavior.quality.result import DataQuality, quality_of
from behavior.quality.sums import QualitySums
from behavior.shards.folder import open_shards
from behavior.shards.manifest import FileEntry
from behavior.shards.row_groups import RowGroupReader
from behavior.shards.storage import Folder, FolderLike, as_folder
from pipelines.execution import run_pipeline
from pipelines.job import Job, job_folders, unless_given_up
from pipelines.prepare import output_folder, remove_folders
from pipelines.progress import Progress
from pipelines.runner import RunnerOptions
from pipelines.threads import one_thread

RESULT = "quality.json"
COUNT, MEASURE = "count", "measure"


@dataclass(frozen=True)
class QualityJob(Job):
    """One measurement; pickled into the pipeline.

    Attributes:
        data: the shard folder.
        folder: where the result goes.
        part: which events are measured.
        replicates, seed: of the bootstrap.
        level: of the intervals.
        work, notes, timed: see `Job`.
    """

    data: Folder
    folder: Folder
    part: Part
    replicates: int
    level: float
    seed: int
    work: Folder
    notes: Folder
    timed: bool = True

    @property
    def out(self) -> Folder:
        return self.folder


@dataclass(frozen=True)
class SequenceFile:
    """One sequence file of a data set, and the number of its first user in the whole."""

    entry: FileEntry
    first_row: int


def sequence_files(data: FolderLike) -> list[SequenceFile]:
    """The sequence files of a data set.

    Raises:
        UserError: there is no such data set.
    """
    files, row = [], 0
    for entry in open_shards(data).sequence_files():
        files.append(SequenceFile(entry, row))
        row += entry.rows
    return files


class MeasureQuality(beam.PTransform):
    """The beginning of a pipeline -> one record of a `DataQuality` (`DataQuality.to_record`)."""

    def __init__(self, job: QualityJob, files: Sequence[SequenceFile]) -> None:
        super().__init__()
        self.job, self.files = job, files

    def expand(self, root: beam.pvalue.PBegin) -> beam.PCollection:
        job = self.job
        files = root | "Files" >> beam.Create(self.files, reshuffle=False) | "SpreadFiles" >> beam.Reshuffle()
        counts = (
            files
            | "CountItems" >> beam.ParDo(CountItems(job))
            | "MergeCounts" >> beam.CombineGlobally(MergeCounts()).without_defaults()
        )
        popularity = beam.pvalue.AsList(counts)
        sums = (
            files
            | "SumUsers" >> beam.ParDo(SumUsers(job), popularity)
            | "MergeSums" >> beam.CombineGlobally(MergeSums(job.replicates, job.seed)).without_defaults()
        )
        return sums | "Finish" >> beam.ParDo(Finish(job), popularity)


class _Reading(beam.DoFn):
    """Reads a file a row group at a time; the data set is opened once a worker."""

    def __init__(self, job: QualityJob) -> None:
        self.job = job

    def setup(self) -> None:
        one_thread()
        self._shards: Any = None

    def parts(self, file: SequenceFile) -> Iterator[HistoryPart]:
        if self._shards is None:
            self._shards = open_shards(self.job.data)
        reader = RowGroupReader(self._shards, [file.entry])
        for group in reader.groups:
            part = read_part(reader, group, self.job.part)
            yield HistoryPart(file.first_row + part.first_row, part.offsets, part.item, part.unknown)


class CountItems(_Reading):
    """sequence file -> (items [distinct], events of each [distinct], items that the data set knows)."""

    @unless_given_up
    def process(self, file: SequenceFile) -> Iterator[tuple[np.ndarray, np.ndarray, int]]:
        with self.job.stage(COUNT):
            counts: np.ndarray | None = None
            for part in self.parts(file):
                item, number = item_counts(part)
                counts = np.zeros(self._shards.num_items, np.int64) if counts is None else counts
                counts[item] += number
        if counts is not None:
            there = np.flatnonzero(counts)
            yield there, counts[there], self._shards.num_items


class MergeCounts(beam.CombineFn):
    """Counts of some items, which `CountItems` gives -> [items] int64."""

    def create_accumulator(self) -> np.ndarray:
        return np.zeros(0, np.int64)

    def add_input(self, sums: np.ndarray, counted: tuple[np.ndarray, np.ndarray, int]) -> np.ndarray:
        item, number, items = counted
        sums = sums if len(sums) else np.zeros(items, np.int64)
        sums[item] += number
        return sums

    def merge_accumulators(self, sums: Iterable[np.ndarray]) -> np.ndarray:
        total = np.zeros(0, np.int64)
        for one in sums:
            total = one.copy() if not len(total) else total + one if len(one) else total
        return total

    def extract_output(self, sums: np.ndarray) -> np.ndarray:
        return sums


class SumUsers(_Reading):
    """sequence file; side input: the counts of all items -> `QualitySums` of its users."""

    @unless_given_up
    def process(self, file: SequenceFile, counts: list[np.ndarray]) -> Iterator[QualitySums]:
        with self.job.stage(MEASURE):
            popularity = _popularity(self.job, counts)
            sums = QualitySums(self.job.replicates, self.job.seed)
            for part in self.parts(file):
                sums.add(part, popularity)
        yield sums


class MergeSums(beam.CombineFn):
    """`QualitySums` of some users -> those of all."""

    def __init__(self, replicates: int, seed: int) -> None:
        super().__init__()
        self.replicates, self.seed = replicates, seed

    def create_accumulator(self) -> QualitySums:
        return QualitySums(self.replicates, self.seed)

    def add_input(self, sums: QualitySums, other: QualitySums) -> QualitySums:
        return sums.merge(other)

    def merge_accumulators(self, sums: Iterable[QualitySums]) -> QualitySums:
        total = self.create_accumulator()
        for one in sums:
            total = total.merge(one)
        return total

    def extract_output(self, sums: QualitySums) -> QualitySums:
        return sums


class Finish(beam.DoFn):
    """sums of all users; side input: the counts of all items -> the record, which is also left in a file."""

    def __init__(self, job: QualityJob) -> None:
        self.job = job

    @unless_given_up
    def process(self, sums: QualitySums, counts: list[np.ndarray]) -> Iterator[dict[str, Any]]:
        job = self.job
        with job.stage("finish"):
            record = quality_of(sums, _popularity(job, counts), job.part, job.level).to_record()
            job.folder.write_text(RESULT, json.dumps(record, indent=2) + "\n")
        yield record


def _popularity(job: QualityJob, counts: list[np.ndarray]) -> Popularity:
    return checked_popularity(counts[0] if counts else np.zeros(0, np.int64), job.part, job.data.where())


def measure_quality(
    data: FolderLike,
    out: FolderLike,
    part: Part = "train",
    *,
    runner: RunnerOptions | None = None,
    replicates: int = REPLICATES,
    level: float = 0.95,
    seed: int = 0,
    progress: Progress | None = None,
) -> DataQuality:
    """Measure a data set on Beam, and write `quality.json`.

    Args:
        data: a shard folder that all workers see.
        out: folder for the result, which all workers see; an earlier result in it is replaced.
        part: which events are measured.
        runner: where to run; default: in this process.
        replicates: of the Poisson bootstrap over users; 0 for no intervals.
        level: of the intervals.
        seed: of the bootstrap.
        progress: told how far a local job is.

    Raises:
        UserError: there is no such data set, it has no events in that part, or a file is damaged.
    """
    runner = runner or RunnerOptions()
    folder = output_folder(out, runner)
    files = sequence_files(data)
    if not files:
        checked_popularity(np.zeros(0, np.int64), part, as_folder(data).where())
    folders = job_folders(folder, runner, "quality")
    job = QualityJob(
        *(as_folder(data), folder, part, replicates, level, seed),
        *(folders.work, folders.notes, folders.timed),
    )
    totals = {COUNT: len(files), MEASURE: len(files)}
    try:
        run_pipeline(job, "Quality" >> MeasureQuality(job, files), runner, totals, progress)
        return DataQuality.from_record(json.loads(folder.read_text(RESULT)))
    finally:
        remove_folders(folders.temporary)
