"""Running a job on a runner: progress, errors of workers, and a process that is left as it was."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import apache_beam as beam

from behavior.errors import UserError
from pipelines import dataflow
from pipelines.checkup.watch import WorkerWatch
from pipelines.crashed import JobCrashError, interrupted, local_crash
from pipelines.engines.crash import engine_crash
from pipelines.engines.engine import name_of
from pipelines.job import Job, PrepareJob
from pipelines.left import EngineJob
from pipelines.pipeline import PrepareDataset
from pipelines.progress import Progress, watched
from pipelines.quiet import dead_workers_passed_over, quiet_beam, traces_kept
from pipelines.reading import ChunkGroup
from pipelines.runner import RunnerOptions
from pipelines.shuffle import EngineShuffle, FileShuffle, Shuffle
from pipelines.threads import ONE_AT_A_TIME, pools_restored
from pipelines.waiting import check_summary, wait_for_engine
from pipelines.workers import ended_by_an_interrupt

_SECONDS_FOR_COUNTERS = 20.0


def run_on_beam(
    job: PrepareJob, groups: list[ChunkGroup], runner: RunnerOptions, progress: Progress | None
) -> dict[str, int]:
    """Run the pipeline of a preparation to its end; see `run_pipeline`."""
    shuffle: Shuffle = EngineShuffle() if runner.through_engine else FileShuffle()
    partitions = job.preparation.partitions
    totals = {"read": len(groups), "sort": partitions, "write": partitions}
    transform = "Prepare" >> PrepareDataset(job, groups, shuffle)
    return run_pipeline(job, transform, runner, totals, progress)


def run_pipeline(
    job: Job,
    transform: beam.PTransform,
    runner: RunnerOptions,
    totals: dict[str, int],
    progress: Progress | None,
) -> dict[str, int]:
    """Run a pipeline to its end, or leave it on the engine where the runner's options say so.

    Args:
        job: whose it is.
        transform: all of it.
        runner: where to run.
        totals: how many parts the stages have that `progress` is told of.
        progress: told how far a local job is.

    Returns:
        Beam's counters of the namespace `lrm`, where the runner reports them.

    Raises:
        UserError: what a worker found wrong.
        JobCrashError: a failure that no worker explained.
        KeyboardInterrupt: the user interrupted it.
    """
    log = _worker_log(job, runner)
    with (
        ONE_AT_A_TIME,
        _process_left_as_it_was(runner, log),
        ended_by_an_interrupt() as processes,
        watched(job, totals, progress),
    ):
        result: Any = None
        watch = WorkerWatch(
            job.notes, runner.name, runner.beam, runner.job_name, runner.seconds_to_answer, runner.say
        )
        try:
            options = runner.pipeline_options()
            if not runner.is_local:
                watch.before()
            with dataflow.submission(options) if runner.is_dataflow else nullcontext():
                pipeline = beam.Pipeline(runner.runner(log), options=options)
                pipeline | transform
                result = pipeline.run()
            if runner.is_local:
                result.wait_until_finish()
            else:
                _noted(result, runner).note(job.work)
                _say_where(result, runner)
            if not runner.is_local and not runner.detach:
                wait_for_engine(result, job, watch)
                check_summary(result, job)
        except Exception as error:
            if processes.interrupted or interrupted(error):
                raise KeyboardInterrupt from error
            if isinstance(error, UserError) and not runner.is_local:
                raise
            raise (job.kept_error() or _crash(error, runner, watch, result, log)) from error
    return _counters(result)


def _noted(result: Any, runner: RunnerOptions) -> EngineJob:
    page, service = "", []
    if dataflow.is_job(result):
        page, service = dataflow.page_of(result), dataflow.options_to_ask(result)
    return EngineJob(name_of(result), runner.endpoint, page, runner.detach, service)


def _say_where(result: Any, runner: RunnerOptions) -> None:
    if runner.say is not None and dataflow.is_job(result):
        runner.say(f"the job {result.job_id()} on Dataflow: {dataflow.page_of(result)}")


def _crash(
    error: Exception, runner: RunnerOptions, watch: WorkerWatch, result: Any, log: Path
) -> JobCrashError:
    printed = log if log.exists() else None
    return (
        local_crash(error, printed) if runner.is_local else engine_crash(error, watch.engine, result, printed)
    )


def _worker_log(job: Job, runner: RunnerOptions) -> Path:
    """What workers of this process, or that it has started, print; of an engine's those of LOOPBACK."""
    return job.log if runner.is_local else Path(tempfile.gettempdir()) / f"{runner.job_name}.log"


@contextmanager
def _process_left_as_it_was(runner: RunnerOptions, log: Path) -> Iterator[None]:
    """What Beam and the workers in this process change is changed back."""
    with quiet_beam(), traces_kept(log), pools_restored(), dead_workers_passed_over():
        try:
            yield
        except JobCrashError:  # which names the log
            raise
        except BaseException:
            _remove_log(runner, log)
            raise
        _remove_log(runner, log)


def _remove_log(runner: RunnerOptions, log: Path) -> None:
    if not runner.is_local:  # that of a local run lies in a folder of the job's
        with suppress(OSError):
            log.unlink(missing_ok=True)


def _counters(result: Any) -> dict[str, int]:
    """What a runner reports, which is not waited for any longer than it is worth: the job itself is done."""
    found: list[Any] = []

    def ask() -> None:
        with suppress(Exception):  # whatever a runner raises that does not report them
            found.extend(result.metrics().query()["counters"])

    thread = threading.Thread(target=ask, name="lrm-counters", daemon=True)
    thread.start()
    thread.join(_SECONDS_FOR_COUNTERS)
    entries = list(found)
    return {
        entry.key.metric.name: entry.committed for entry in entries if entry.key.metric.namespace == "lrm"
    }
