"""`prepare`: raw logs in, a finished shard folder out."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial

from behavior.errors import UserError
from behavior.flow.manifest import manifest_of
from behavior.flow.preparation import Preparation, absolute, prepare_afresh
from behavior.flow.totals import Summary
from behavior.shards.commit import commit, sweep
from behavior.shards.lock import exclusive
from behavior.shards.manifest import Manifest
from behavior.shards.storage import Folder, FolderLike, as_folder
from behavior.sources.chunks import CHUNK_BYTES, Plan
from behavior.sources.plan import plan_input
from behavior.spec.dataset_spec import DatasetSpec
from pipelines.clock import Part, StageClock
from pipelines.crashed import JobCrashError
from pipelines.job import SUMMARY, PrepareJob, job_folders, leave
from pipelines.left import MANIFEST_OF, EngineJob, refuse_at_work
from pipelines.local import run_here
from pipelines.progress import Progress
from pipelines.runner import RunnerOptions
from pipelines.signals import interrupted_by_signals
from pipelines.work import READ, ChunkGroup

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
            read), read, sort, core, count, vocabulary, write, tables, summary, commit. Partitions are counted
            while others are sorted, unless there is a core to find: then count adds little; and tables are
            made while sequences are written.
        cpu_seconds: of a local run, what the parts of each stage took on all workers: `user`, their own, and
            `system`, the system's for them.
    """

    manifest: Manifest
    done_before: bool
    counters: dict[str, int]
    seconds: dict[str, float]
    cpu_seconds: dict[str, dict[str, float]] = field(default_factory=dict)


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
    return ended(
        start(
            spec,
            base,
            out,
            runner=runner,
            overwrite=overwrite,
            skip_bad_files=skip_bad_files,
            progress=progress,
        )
    )


def ended(result: PrepareResult | EngineJob) -> PrepareResult:
    """What a job did that was not left.

    Raises:
        ValueError: it was.
    """
    if isinstance(result, EngineJob):
        raise ValueError(f"the job {result.name} was left on the engine: `start` says so")
    return result


def start(
    spec: DatasetSpec,
    base: str,
    out: FolderLike,
    *,
    runner: RunnerOptions | None = None,
    overwrite: bool = False,
    skip_bad_files: bool = False,
    progress: Progress | None = None,
) -> PrepareResult | EngineJob:
    """`prepare`, whose job may be left on an engine (`RunnerOptions.detach`): then that job is returned."""
    begin = time.time()
    runner = runner or RunnerOptions()
    base, folder = absolute(base), output_folder(out, runner)
    plan = make_plan(spec, base, runner, skip_bad_files)
    with exclusive(folder), interrupted_by_signals(runner):
        if not overwrite:
            refuse_at_work(folder)
        claimed = prepare_afresh(spec, base, plan, folder, overwrite=overwrite, skip_bad_files=skip_bad_files)
        if isinstance(claimed, Manifest):
            return PrepareResult(claimed, True, {}, {})
        return execute(claimed, runner, progress, begin, partial(manifest_of, claimed))


def execute(
    preparation: Preparation,
    runner: RunnerOptions,
    progress: Progress | None,
    begin: float,
    finish: Callable[[Summary], Manifest],
) -> PrepareResult | EngineJob:
    """Run a preparation in an output folder that is ours, and commit; or leave it on an engine.

    Args:
        preparation: with the whole plan.
        runner: where to run.
        progress: told how far a local job is.
        begin: when the work began.
        finish: makes the manifest from the summary; on an engine it travels.
    """
    planned = time.time()
    folders = job_folders(preparation.out, runner, "prepare")
    # The lists of the input travel with the chunks, not with every transform.
    job = PrepareJob(replace(preparation.slim(), out=folders.out), folders.work, folders.notes, folders.timed)
    temporary = folders.temporary
    try:
        if not runner.is_local:
            leave(job.work, MANIFEST_OF, finish)
        counters = run_job(job, _chunk_groups(preparation.plan), runner, progress)
        noted = None if runner.is_local else EngineJob.noted(job.work)
        if noted is not None and noted.detached:
            return noted
        with job.stage("commit"):
            # On an engine the job has done so itself: this writes the same, and clears up.
            manifest = finish(Summary.from_json(job.work.read_text(SUMMARY)))
            commit(preparation.out, manifest)
    except JobCrashError:
        remove_folders(temporary[1:])  # the notes stay: the error names the log
        raise
    except UserError:
        # The user will correct something and try again: the folder must not be in the way.
        with suppress(OSError, UserError):
            sweep(preparation.out)
        remove_folders(temporary)
        raise
    except KeyboardInterrupt:
        if not runner.is_local:  # the job is cancelled, and what it has left may be large
            with suppress(OSError, UserError):
                sweep(preparation.out)
        remove_folders(temporary)
        raise
    except BaseException:
        remove_folders(temporary)
        raise
    parts = StageClock(job.notes if job.timed else None).parts()
    remove_folders(temporary)
    return PrepareResult(manifest, False, counters, _seconds(parts, begin, planned), _cpu_seconds(parts))


def run_job(
    job: PrepareJob, groups: list[ChunkGroup], runner: RunnerOptions, progress: Progress | None
) -> dict[str, int]:
    """Do the work up to the summary, here or on Beam; gives its counters."""
    if runner.without_beam:
        return run_here(job, groups, runner, progress)
    from pipelines.execution import run_on_beam

    return run_on_beam(job, groups, runner, progress)


def remove_folders(folders: list[str]) -> None:
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def _chunk_groups(plan: Plan) -> list[ChunkGroup]:
    return [
        ChunkGroup(number, [(chunk, plan.names[chunk.path]) for chunk in chunks])
        for number, chunks in enumerate(plan.chunk_groups)
    ]


def output_folder(out: FolderLike, runner: RunnerOptions) -> Folder:
    """The output folder, checked against the runner.

    Raises:
        UserError: an empty path, an unusable file system, or silly runner options.
    """
    runner.check()
    if not str(out):
        raise UserError("the path is empty", where="--out", fix="name a folder")
    folder = as_folder(out)
    runner.check_reachable(str(folder), "--out")
    return folder


def make_plan(spec: DatasetSpec, base: str, runner: RunnerOptions, skip_bad_files: bool) -> Plan:
    """The plan of the input, in chunks that keep all workers busy to the end."""
    plan = plan_input(spec, base, skip_bad_files=skip_bad_files)
    for file in plan.files:
        runner.check_reachable(file.path, "--input")
    return plan.with_chunk_bytes(max(MIN_CHUNK_BYTES, min(CHUNK_BYTES, plan.bytes // (4 * runner.at_once))))


_STAGES = ("read", "sort", "core", "count", "vocabulary", "write", "tables", "summary", "commit")


def _cpu_seconds(parts: dict[str, list[Part]]) -> dict[str, dict[str, float]]:
    return {
        stage: {"user": sum(part.user for part in every), "system": sum(part.system for part in every)}
        for stage, every in parts.items()
    }


def _seconds(parts: dict[str, list[Part]], begin: float, planned: float) -> dict[str, float]:
    """What each stage adds: from its first part, or the end of those before it, to its last's end."""
    seconds = {"plan": planned - begin}
    if READ in parts:
        seconds["start"] = min(part.begin for part in parts[READ]) - planned
    reached = 0.0
    for stage in _STAGES:
        if stage in parts:
            end = max(part.end for part in parts[stage])
            seconds[stage] = max(0.0, end - max(reached, min(part.begin for part in parts[stage])))
            reached = max(reached, end)
    return seconds
