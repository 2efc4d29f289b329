"""`prepare`: raw logs in, a finished shard folder out."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from behavior.errors import UserError
from behavior.shards.manifest import Manifest
from behavior.shards.storage import Folder, FolderLike, as_folder
from behavior.sources.blocks import compression_of
from behavior.sources.plan import CHUNK_BYTES, Plan, plan_input
from behavior.spec.dataset_spec import DatasetSpec
from behavior.steps.dataset import build_manifest
from pipelines.job import JOB_FOLDER, Clock, Job
from pipelines.launch import JobCrashError, Progress, run_job
from pipelines.output import claim, commit, exclusive, sweep, version_of
from pipelines.reading import READ, Task
from pipelines.runner import RunnerOptions
from pipelines.tables import SUMMARY, Summary

BUCKET_BYTES = 32 << 20
"""Input bytes that make one sequence file; a bucket must fit a worker's memory several times over."""
COMPRESSION_FACTOR = 4
"""Rough size of text in terms of its gzip or Parquet form."""
MIN_CHUNK_BYTES = 4 << 20


@dataclass(frozen=True)
class PrepareResult:
    """What `prepare` or `append` did.

    Attributes:
        manifest: of the data set.
        done_before: whether the folder already held this very result, so that nothing was done.
        counters: Beam's counters read, accepted, rejected, filtered (empty where nothing was done, or where
            the runner does not report them).
        seconds: of a local run, the wall time that each stage adds: plan, start (until the first part is
            read), read, sort, core, count, vocabulary, tables, write, summary, commit. Buckets are counted
            while others are sorted, unless there is a core to find: then count adds little.
    """

    manifest: Manifest
    done_before: bool
    counters: dict[str, int]
    seconds: dict[str, float]


def prepare(
    spec: DatasetSpec,
    base: str,
    out: FolderLike,
    *,
    runner: RunnerOptions | None = None,
    overwrite: bool = False,
    skip_bad_files: bool = False,
    progress: Progress | None = None,
) -> PrepareResult:
    """Prepare a data set: read, check, group, sort, split, index, pack and write it.

    The result depends on the spec and the input alone, not on the runner or the number of workers.

    Args:
        spec: the dataset spec.
        base: folder its paths are relative to.
        out: folder for the data set, local or of any file system that `fsspec` knows (`gs://`, `s3://`).
        runner: where to run; default: in this process.
        overwrite: replace a data set that is in `out`.
        skip_bad_files: set event files aside that cannot be read at all; the manifest names them.
        progress: told how far a local job is.

    Raises:
        UserError: whatever is wrong with the spec, the input or the output folder.
    """
    begin = time.time()
    runner = runner or RunnerOptions()
    base, folder = absolute(base), output_folder(out, runner)
    plan = make_plan(spec, base, runner, skip_bad_files)
    with exclusive(folder):
        digests = {"spec_digest": spec.digest(), "input_digest": plan.digest}
        finished = claim(folder, digests, overwrite)
        if finished is not None:
            return PrepareResult(finished, True, {}, {})
        job = Job(
            spec,
            base,
            plan,
            folder,
            folder,
            folder,
            count_buckets(spec, plan),
            version=version_of(folder) + 1,
            skip_bad_files=skip_bad_files,
        )

        def manifest(summary: Summary) -> Manifest:
            return build_manifest(
                spec,
                plan.digest,
                summary.counts,
                summary.features,
                summary.files,
                buckets=job.buckets,
                version=job.version,
                damaged=summary.damaged,
                plan=plan,
            )

        return execute(job, runner, progress, begin, manifest)


def execute(
    job: Job,
    runner: RunnerOptions,
    progress: Progress | None,
    begin: float,
    manifest_of: Callable[[Summary], Manifest],
) -> PrepareResult:
    """Run a job in an output folder that is ours, and commit.

    Args:
        job: with the whole plan; its folders for work and notes are set here.
        runner: where to run.
        progress: told how far a local job is.
        begin: when the work began.
        manifest_of: makes the manifest from the job's summary.
    """
    planned = time.time()
    job, temporary = _with_folders(job, runner)
    try:
        counters = run_job(_slim(job), _tasks(job.plan), runner, progress)
        with job.stage("commit"):
            manifest = manifest_of(Summary.from_json(job.work.read_text(SUMMARY)))
            commit(job.out, manifest)
    except JobCrashError:
        _remove(temporary[1:])  # the notes stay: the error names the log
        raise
    except UserError:
        # The user will correct something and try again: the folder must not be in the way.
        with suppress(OSError, UserError):
            sweep(job.out)
        _remove(temporary)
        raise
    except BaseException:
        _remove(temporary)
        raise
    seconds = _seconds(Clock(job.notes if job.timed else None), begin, planned)
    _remove(temporary)
    return PrepareResult(manifest, False, counters, seconds)


def _with_folders(job: Job, runner: RunnerOptions) -> tuple[Job, list[str]]:
    """The job with its folders for work and notes, and the temporary ones among them.

    A local run writes intermediate files to a local disk, also where the data set goes elsewhere.
    """
    work = job.out.child(JOB_FOLDER)
    if not runner.is_local:
        return replace(job, work=work, notes=work, timed=False), []
    temporary = [tempfile.mkdtemp(prefix="lrm-prepare-")]
    notes = Folder(temporary[0])
    if not work.is_local:
        temporary.append(tempfile.mkdtemp(prefix="lrm-work-"))
        work = Folder(temporary[1])
    return replace(job, work=work, notes=notes), temporary


def _remove(folders: list[str]) -> None:
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def _slim(job: Job) -> Job:
    """The job without the lists of its input: it travels with every transform, they with the tasks."""
    return replace(job, plan=replace(job.plan, parts=[], files=[]))


def _tasks(plan: Plan) -> list[Task]:
    return [
        Task(number, [(chunk, plan.names[chunk.path]) for chunk in chunks])
        for number, chunks in enumerate(plan.tasks)
    ]


def output_folder(out: FolderLike, runner: RunnerOptions) -> Folder:
    """The output folder, checked against the runner.

    Raises:
        UserError: an empty path, an unusable file system, or silly runner options.
    """
    runner.check()
    if not str(out):
        raise UserError("the path is empty", where="--out", fix="name a folder")
    return as_folder(out)


def absolute(base: str) -> str:
    """The input folder as every worker finds it, wherever it runs."""
    return base if "://" in base else str(Path(base).absolute())


def make_plan(spec: DatasetSpec, base: str, runner: RunnerOptions, skip_bad_files: bool) -> Plan:
    """The plan of the input, in chunks that keep all workers busy to the end."""
    plan = plan_input(spec, base, skip_bad_files=skip_bad_files)
    return plan.with_chunk_bytes(max(MIN_CHUNK_BYTES, min(CHUNK_BYTES, plan.bytes // (4 * runner.at_once))))


def count_buckets(spec: DatasetSpec, plan: Plan) -> int:
    """Number of buckets: by the input alone, so that the result depends on nothing else."""
    if spec.shards is not None:
        return spec.shards
    expanded = 0
    for part in plan.parts:
        form = spec.events[part.source]
        packed = form.kind == "parquet" or compression_of(part.path, form.compression) is not None
        expanded += part.size * (COMPRESSION_FACTOR if packed else 1)
    return max(1, round(expanded / BUCKET_BYTES))


_STAGES = ("read", "sort", "core", "count", "vocabulary", "tables", "write", "summary", "commit")


def _seconds(clock: Clock, begin: float, planned: float) -> dict[str, float]:
    """What each stage adds: from its first part, or the end of those before it, to its last's end."""
    parts = clock.parts()
    seconds = {"plan": planned - begin}
    if READ in parts:
        seconds["start"] = min(first for first, _ in parts[READ]) - planned
    reached = 0.0
    for stage in _STAGES:
        if stage in parts:
            end = max(last for _, last in parts[stage])
            seconds[stage] = max(0.0, end - max(reached, min(first for first, _ in parts[stage])))
            reached = max(reached, end)
    return seconds
