"""`score`: histories or a data set in, a finished folder of what a scorer gives for each user out."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import apache_beam as beam
from apache_beam.utils.shared import Shared

from behavior.errors import UserError
from behavior.shards.lock import exclusive
from behavior.shards.storage import FolderLike
from behavior.sources.blocks import compression_of
from behavior.sources.histories import HistoryColumns, HistoryFile, find_histories
from pipelines.crashed import JobCrashError
from pipelines.execution import run_pipeline
from pipelines.job import job_folders
from pipelines.prepare import output_folder, remove_folders
from pipelines.progress import Progress
from pipelines.runner import RunnerOptions
from pipelines.scoring.folder import FORMAT_VERSION, KIND, claim, commit, sweep
from pipelines.scoring.parts import SCORE, ScoreDataSet, ScoreHistories
from pipelines.scoring.reading import READ, REPORTS, HistoryChunk, JudgeReading, ReadHistories, Reading
from pipelines.scoring.scorer import ScorerFactory, ScoringJob, Staging
from pipelines.scoring.summary import WriteSummary, read_summary
from pipelines.signals import interrupted_by_signals

PART_BYTES = 4 << 20
"""Text of histories that makes one file of output; a part must fit a worker's memory several times over."""
MANY_PARTS, LARGE_PART_BYTES = 1000, 64 << 20
CHUNK_BYTES = 16 << 20
PACKED = 4
"""Rough size of text in terms of its gzip or Parquet form."""


@dataclass(frozen=True)
class HistoriesIn:
    """Histories in files.

    Attributes:
        path: of a file, a folder or a glob; local, or a URL.
        columns: that they need, and may have.
        max_rejects: rows that may be set aside: a number, or a share of all. By default the first bad row
            ends the job.
        parts: hash partitions of users, each of which becomes a file; None: by the size of the input.
    """

    path: str
    columns: HistoryColumns
    max_rejects: int | float = 0
    parts: int | None = None


@dataclass(frozen=True)
class DataSetIn:
    """A data set, which the scorer reads itself.

    Attributes:
        parts: how many there are.
    """

    parts: int


@dataclass(frozen=True)
class ScoreResult:
    """What `score` did.

    Attributes:
        manifest: what stands in `manifest.json`.
        done_before: whether the folder already held this very result, so that nothing was done.
        counters: Beam's counters, where the runner reports them.
        seconds: how long it took.
    """

    manifest: Mapping[str, Any]
    done_before: bool
    counters: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0


def score(
    given: HistoriesIn | DataSetIn,
    out: FolderLike,
    stage: Staging,
    about: Mapping[str, Any],
    *,
    runner: RunnerOptions | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> ScoreResult:
    """Score many users on Beam, and write `recommendations/part-*.parquet`, dead letters and a manifest.

    The result depends on the input and on what the scorer does with it, not on the runner or the number of
    workers: users are divided by a hash, within a file they come in order of their first rows, and an attempt
    that is made again writes the same bytes under the same names. In the manifest, `rows.read =
    rows.accepted + rows.rejected` and `users.in = users.answered + users.empty + users.rejected`.

    Args:
        given: whose histories.
        out: folder for the result, local or of any file system that `fsspec` knows.
        stage: gets a folder that all workers see, leaves there what they need, and gives the factory of
            the scorer, which travels to them. See `pipelines.scoring.scorer`.
        about: what the scorer's answers depend on, as plain values: the manifest has it, and a folder with
            the same result is left alone.
        runner: where to run; default: in this process.
        overwrite: replace recommendations that are in `out`.
        progress: told how far a local job is.

    Raises:
        UserError: the input cannot be read, too many rows are bad, or the folder cannot be used.
    """
    begin = time.time()
    runner = runner or RunnerOptions()
    folder = output_folder(out, runner)
    if isinstance(given, HistoriesIn):
        runner.check_reachable(given.path, "--histories")
    files = find_histories(given.path, given.columns) if isinstance(given, HistoriesIn) else []
    digest = _digest(given, files, about)
    with exclusive(folder), interrupted_by_signals(runner):
        done = claim(folder, digest, overwrite, [file.path for file in files])
        if done is not None:
            return ScoreResult(done, True)
        folders = job_folders(folder, runner, "recommend")
        job = ScoringJob(folders.out, folders.work, folders.notes, folders.timed)
        try:
            factory = stage(folders.work)
            transform, totals = _transform(job, factory, given, files)
            counters = run_pipeline(job, transform, runner, totals, progress)
            manifest = {
                "format_version": FORMAT_VERSION,
                "kind": KIND,
                "digest": digest,
                "about": dict(about),
                **read_summary(job),
            }
            commit(folder, manifest)
        except JobCrashError:
            remove_folders(folders.temporary[1:])  # the notes stay: the error names the log
            raise
        except UserError:
            # The user will correct something and try again: the folder must not be in the way.
            with suppress(OSError, UserError):
                sweep(folder)
            remove_folders(folders.temporary)
            raise
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt) and not runner.is_local:
                # The job on the engine is given up, and what it has left may be large.
                with suppress(OSError, UserError):
                    sweep(folder)
            remove_folders(folders.temporary)
            raise
        remove_folders(folders.temporary)
    return ScoreResult(manifest, False, counters, time.time() - begin)


def _digest(given: HistoriesIn | DataSetIn, files: Sequence[HistoryFile], about: Mapping[str, Any]) -> str:
    """Of all that the result depends on."""
    record: dict[str, Any] = {"about": dict(about)}
    if isinstance(given, HistoriesIn):
        record["files"] = [[file.name, file.size, file.modified] for file in files]
        record["max_rejects"] = given.max_rejects
        record["parts"] = _parts(given, files)
    else:
        record["parts"] = given.parts
    return hashlib.sha256(json.dumps(record, sort_keys=True, default=str).encode()).hexdigest()


def _parts(given: HistoriesIn, files: Sequence[HistoryFile]) -> int:
    """By the input alone, so that the result depends on nothing else."""
    if given.parts is not None:
        return given.parts
    size = 0
    for file in files:
        packed = file.kind == "parquet" or compression_of(file.path, "auto") is not None
        size += file.size * (PACKED if packed else 1)
    return max(1, min(math.ceil(size / PART_BYTES), max(MANY_PARTS, math.ceil(size / LARGE_PART_BYTES))))


def _transform(
    job: ScoringJob, factory: ScorerFactory, given: HistoriesIn | DataSetIn, files: Sequence[HistoryFile]
) -> tuple[beam.PTransform, dict[str, int]]:
    """The pipeline, and how many parts its stages have."""
    if isinstance(given, DataSetIn):
        return "Score" >> ScoreUsers(job, factory, given.parts), {READ: 0, SCORE: given.parts}
    integers = bool(files) and all(file.integers for file in files)
    parts = _parts(given, files)
    reading = Reading(given.columns, integers, parts, given.max_rejects, given.path)
    cut = [(file, chunk) for number, file in enumerate(files) for chunk in file.chunks(number, CHUNK_BYTES)]
    chunks = [HistoryChunk(number, file, chunk) for number, (file, chunk) in enumerate(cut)]
    return "Score" >> ScoreFiles(job, factory, reading, chunks), {READ: len(chunks), SCORE: parts}


class ScoreFiles(beam.PTransform):
    """Chunks of histories -> the name of the job's summary; all else lies in the folders."""

    def __init__(
        self, job: ScoringJob, factory: ScorerFactory, reading: Reading, chunks: list[HistoryChunk]
    ) -> None:
        super().__init__()
        self.job, self.factory, self.reading, self.chunks = job, factory, reading, chunks

    def expand(self, root: beam.pvalue.PBegin) -> beam.PCollection:
        job, shared, reading = self.job, Shared(), self.reading
        one = root | "Once" >> beam.Create([None])
        read = (
            root
            | "Chunks" >> beam.Create(self.chunks)
            | "SpreadChunks" >> beam.Reshuffle()
            | "ReadHistories"
            >> beam.ParDo(ReadHistories(job, self.factory, shared, reading)).with_outputs(
                REPORTS, main="pieces"
            )
        )
        reports = beam.pvalue.AsList(read[REPORTS])
        totals = beam.pvalue.AsSingleton(
            one | "Judge" >> beam.ParDo(JudgeReading(job, reading), reports),
            default_value=None,  # where the job is given up
        )
        parts = (
            read.pieces
            | "GroupByPartition" >> beam.GroupByKey()
            | "ScoreHistories" >> beam.ParDo(ScoreHistories(job, self.factory, shared, reading.parts), totals)
        )
        return one | "WriteSummary" >> beam.ParDo(WriteSummary(job), totals, beam.pvalue.AsList(parts))


class ScoreUsers(beam.PTransform):
    """Parts of a data set -> the name of the job's summary."""

    def __init__(self, job: ScoringJob, factory: ScorerFactory, parts: int) -> None:
        super().__init__()
        self.job, self.factory, self.parts = job, factory, parts

    def expand(self, root: beam.pvalue.PBegin) -> beam.PCollection:
        job = self.job
        one = root | "Once" >> beam.Create([None])
        parts = (
            root
            | "Parts" >> beam.Create(list(range(self.parts)))
            | "SpreadParts" >> beam.Reshuffle()
            | "ScoreDataSet" >> beam.ParDo(ScoreDataSet(job, self.factory, Shared(), self.parts))
        )
        return one | "WriteSummary" >> beam.ParDo(WriteSummary(job), None, beam.pvalue.AsList(parts))
