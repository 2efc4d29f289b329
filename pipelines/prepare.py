"""`prepare`: raw logs in, a finished shard folder out."""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apache_beam as beam
import pyarrow as pa

from behavior.dataset import build_manifest
from behavior.errors import UserError
from behavior.manifest import Manifest
from behavior.shards import SEQUENCES
from behavior.sources.blocks import compression_of
from behavior.sources.plan import CHUNK_BYTES, Plan, plan_input
from behavior.spec import DatasetSpec
from behavior.vocabulary import IdCounts
from pipelines.buckets import (
    COUNTED,
    SORTED,
    BuildBucket,
    CountBucket,
    FindCore,
    FinishBucket,
    MergeIdCounts,
)
from pipelines.job import JOB_FOLDER, Job
from pipelines.output import claim, commit, discard, exclusive
from pipelines.quiet import quiet_beam
from pipelines.reading import REPORTS, FinishReading, ReadChunk
from pipelines.runner import RunnerOptions
from pipelines.shuffle import EngineShuffle, FileShuffle, Shuffle
from pipelines.tables import FitVocabulary, Summary, WriteSummary, WriteTables

BUCKET_BYTES = 32 << 20
"""Input bytes that make one sequence file; a bucket must fit a worker's memory several times over."""
COMPRESSION_FACTOR = 4
"""Rough size of text in terms of its gzip or Parquet form."""
MIN_CHUNK_BYTES = 4 << 20

Progress = Callable[[str, int, int], None]
"""Called with a stage (`read`, `sort`, `write`), how many of its parts are done, and how many there are."""


class PrepareDataset(beam.PTransform):
    """Chunks of raw files -> the path of the job's summary; all else lies in the job's folder."""

    def __init__(self, job: Job, shuffle: Shuffle) -> None:
        super().__init__()
        self.job = job
        self.shuffle = shuffle

    def expand(self, root: beam.pvalue.PBegin) -> beam.PCollection:
        job = self.job
        one = root | "Once" >> beam.Create([None])
        read = (
            root
            | "Chunks" >> beam.Create(list(enumerate(job.plan.chunks)))
            | "SpreadChunks" >> beam.Reshuffle()
            | "Read" >> beam.ParDo(ReadChunk(job, self.shuffle)).with_outputs(REPORTS, main="pieces")
        )
        reading = _single(one | "FinishReading" >> beam.ParDo(FinishReading(job), _all(read[REPORTS])))
        buckets = (
            read.pieces
            | "GroupByBucket" >> beam.GroupByKey()
            | "BuildBucket" >> beam.ParDo(BuildBucket(job, self.shuffle), reading)
            | "SpreadBuckets" >> beam.Reshuffle()
        )
        core: list[Any] = []
        if job.spec.filters.minimum_counts != (1, 1):
            core = [_single(one | "FindCore" >> beam.ParDo(FindCore(job), _all(buckets)))]
        counted = buckets | "CountBucket" >> beam.ParDo(CountBucket(job), *core).with_outputs(
            COUNTED, main="items"
        )
        item_counts = counted["items"] | "CountItems" >> beam.CombineGlobally(
            MergeIdCounts(_id_counts(job.plan))
        )
        vocabulary = _single(one | "FitVocabulary" >> beam.ParDo(FitVocabulary(job), _single(item_counts)))
        sequences = buckets | "FinishBucket" >> beam.ParDo(FinishBucket(job), vocabulary, *core)
        reports = _all(counted[COUNTED])
        tables = one | "WriteTables" >> beam.ParDo(WriteTables(job), vocabulary, reports)
        return one | "WriteSummary" >> beam.ParDo(
            WriteSummary(job), reading, reports, vocabulary, _single(tables), _all(sequences)
        )


def _all(values: beam.PCollection) -> Any:
    return beam.pvalue.AsList(values)


def _single(values: beam.PCollection) -> Any:
    return beam.pvalue.AsSingleton(values)


def _id_counts(plan: Plan) -> IdCounts:
    return IdCounts(pa.int64() if plan.item_type == "integer" else pa.string())


@dataclass(frozen=True)
class PrepareResult:
    """What `prepare` did.

    Attributes:
        manifest: of the data set.
        done_before: whether the folder already held this very result, so that nothing was done.
        counters: Beam's counters read, accepted, rejected, filtered (empty where nothing was done, or where
            the runner does not report them).
    """

    manifest: Manifest
    done_before: bool
    counters: dict[str, int]


def prepare(
    spec: DatasetSpec,
    base: str,
    out: str | Path,
    *,
    runner: RunnerOptions | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> PrepareResult:
    """Prepare a data set: read, check, group, sort, split, index, pack and write it.

    The result depends on the spec and the input alone, not on the runner or the number of workers.

    Args:
        spec: the dataset spec.
        base: folder its paths are relative to.
        out: folder for the data set.
        runner: where to run; default: in this process.
        overwrite: replace a data set that is in `out`.
        progress: told how far the job is.

    Raises:
        UserError: whatever is wrong with the spec, the input or the output folder.
    """
    runner = runner or RunnerOptions()
    runner.check()
    if "://" in str(out):
        raise UserError(
            f"'{out}' is not a local path", where="--out", fix="write to a local or mounted folder"
        )
    if not str(out):
        raise UserError("the path is empty", where="--out", fix="name a folder")
    out = Path(out).absolute()
    plan = _plan(spec, base, runner)
    with exclusive(out):
        finished = claim(out, {"spec_digest": spec.digest(), "input_digest": plan.digest}, overwrite)
        if finished is not None:
            return PrepareResult(finished, True, {})
        return _prepare(spec, base, out, plan, runner, progress)


def _prepare(
    spec: DatasetSpec, base: str, out: Path, plan: Plan, runner: RunnerOptions, progress: Progress | None
) -> PrepareResult:
    """Run the job in an output folder that is ours, and commit."""
    notes = tempfile.mkdtemp(prefix="lrm-prepare-") if runner.is_local else ""
    job = Job(spec, base, plan, str(out / JOB_FOLDER), _buckets(spec, plan), notes)
    try:
        counters = _run(job, runner, progress)
    except JobCrashError:
        raise
    except UserError:
        # The user will correct something and try again: the folder must not be in the way.
        discard(out)
        shutil.rmtree(notes, ignore_errors=True)
        raise
    summary = Summary.from_json(job.summary.read_text(encoding="utf-8"))
    features = (summary.item_features, summary.user_features)
    manifest = build_manifest(spec, plan, summary.counts, features, summary.files)
    commit(out, job.staging, manifest)
    shutil.rmtree(notes, ignore_errors=True)
    return PrepareResult(manifest, False, counters)


def _plan(spec: DatasetSpec, base: str, runner: RunnerOptions) -> Plan:
    plan = plan_input(spec, base)
    # Several chunks a worker keep all of them busy to the end.
    wanted = max(MIN_CHUNK_BYTES, min(CHUNK_BYTES, plan.bytes // (4 * runner.processes)))
    return plan if wanted == CHUNK_BYTES else plan_input(spec, base, wanted)


def _buckets(spec: DatasetSpec, plan: Plan) -> int:
    """Number of buckets: by the input alone, so that the result depends on nothing else."""
    if spec.shards is not None:
        return spec.shards
    expanded = 0
    sizes = {file.path: file.size for file in plan.files}
    for path, source in {(chunk.path, chunk.source) for chunk in plan.chunks}:
        form = spec.events[source]
        packed = form.kind == "parquet" or compression_of(path, form.compression) is not None
        expanded += sizes[path] * (COMPRESSION_FACTOR if packed else 1)
    return max(1, round(expanded / BUCKET_BYTES))


def _run(job: Job, runner: RunnerOptions, progress: Progress | None) -> dict[str, int]:
    shuffle: Shuffle = FileShuffle() if runner.is_local else EngineShuffle()
    with quiet_beam(), _watched(job, progress):
        try:
            pipeline = beam.Pipeline(runner.runner(job.log), options=runner.pipeline_options())
            pipeline | "Prepare" >> PrepareDataset(job, shuffle)
            result = pipeline.run()
            result.wait_until_finish()
        except Exception as error:
            if _interrupted(error):
                raise KeyboardInterrupt from error
            raise (job.kept_error() or JobCrashError(job, error)) from error
    return _counters(result)


def _interrupted(error: BaseException | None) -> bool:
    """Whether Ctrl-C is behind an error: Beam wraps it like any other."""
    while error is not None:
        if isinstance(error, KeyboardInterrupt) or str(error).startswith("KeyboardInterrupt"):
            return True
        error = error.__cause__ or error.__context__
    return False


class JobCrashError(UserError):
    """A failure that no worker explained: a worker that was killed, say. The job folder keeps its log."""

    def __init__(self, job: Job, error: Exception) -> None:
        reason = str(error).strip().splitlines()
        super().__init__(
            f"the job failed: {type(error).__name__}: {reason[-1] if reason else 'no reason given'}",
            where=str(job.log) if job.log.exists() else None,
            fix="run the same command again; if it fails again, look at the log, or add --debug",
        )


def _counters(result: Any) -> dict[str, int]:
    found = result.metrics().query()["counters"]
    return {entry.key.metric.name: entry.committed for entry in found if entry.key.metric.namespace == "lrm"}


@contextmanager
def _watched(job: Job, progress: Progress | None) -> Iterator[None]:
    """Report progress from the files that workers leave: the same for one process, several, or a cluster."""
    if progress is None:
        yield
        return
    stages = [
        ("read", Path(job.work) / REPORTS, ".json", len(job.plan.chunks)),
        ("sort", Path(job.work) / SORTED, ".arrow", job.buckets),
        ("write", job.staging / SEQUENCES, ".parquet", job.buckets),
    ]
    done = threading.Event()

    def report() -> None:
        for stage, folder, ending, total in stages:
            progress(stage, sum(path.suffix == ending for path in folder.glob("*")), total)

    def watch() -> None:
        while not done.wait(0.3):
            report()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
        report()
    finally:
        done.set()
        thread.join()
