"""Running a job on a runner: progress, errors of workers, and a process that is left as it was."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import apache_beam as beam
from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner

from behavior.errors import UserError
from behavior.flow.ahead import compile_ahead
from behavior.runtime.forks import processes, started
from pipelines import dataflow
from pipelines.checkup.watch import WorkerWatch
from pipelines.clock import StageClock
from pipelines.engines.crash import JobCrashError, engine_crash, local_crash
from pipelines.engines.engine import name_of
from pipelines.job import Job, PrepareJob
from pipelines.left import EngineJob
from pipelines.pipeline import PrepareDataset
from pipelines.pool import Threads, Workers, working
from pipelines.quiet import dead_workers_passed_over, quiet_beam, traces_kept
from pipelines.reading import ChunkGroup
from pipelines.runner import RunnerOptions
from pipelines.shuffle import EngineShuffle, FileShuffle, Shuffle
from pipelines.threads import pools_restored
from pipelines.waiting import check_summary, wait_for_engine
from pipelines.work import FORKED_WITH, ready
from pipelines.workers import ended_by_an_interrupt

Progress = Callable[[str, int, int], None]
"""Called with a stage (`read`, `sort`, `write`), how many of its parts are done, and how many there are."""
_SECONDS_FOR_COUNTERS = 20.0
_ONE_AT_A_TIME = threading.Lock()
"""Jobs of one process wait for each other: Beam's log and the pools of threads are the process's own."""


def run_job(
    job: PrepareJob, groups: list[ChunkGroup], runner: RunnerOptions, progress: Progress | None
) -> dict[str, int]:
    """Run the pipeline of a preparation to its end; see `run_pipeline`."""
    shuffle: Shuffle = EngineShuffle() if runner.through_engine else FileShuffle()
    partitions = job.preparation.partitions
    totals = {"read": len(groups), "sort": partitions, "write": partitions}
    transform = "Prepare" >> PrepareDataset(job, groups, shuffle)
    return run_pipeline(job, transform, runner, totals, progress, _workers(job, runner))


def _workers(job: PrepareJob, runner: RunnerOptions) -> Workers | None:
    """Who do the parts of a job; None: Beam's workers."""
    if not runner.is_local or runner.at_once == 1:
        return None
    shared = job.out.is_local and "://" not in job.preparation.base  # what only this process may know of
    number = processes(runner.workers) if runner.workers or shared else 0
    if not number:
        # While the pipeline is made and the input is read.
        threading.Thread(target=compile_ahead, args=(job.preparation,), daemon=True).start()
        return Threads(runner.at_once, job)
    forks = started(number, [FORKED_WITH])
    forks.begin(job, ready, job.log)
    return forks


def run_pipeline(
    job: Job,
    transform: beam.PTransform,
    runner: RunnerOptions,
    totals: dict[str, int],
    progress: Progress | None,
    workers: Workers | None = None,
) -> dict[str, int]:
    """Run a pipeline to its end, or leave it on the engine where the runner's options say so.

    Args:
        job: whose it is.
        transform: all of it.
        runner: where to run.
        totals: how many parts the stages have that `progress` is told of.
        progress: told how far a local job is.
        workers: who do the parts of a local job, where Beam's own worker is to pass on results only.

    Returns:
        Beam's counters of the namespace `lrm`, where the runner reports them.

    Raises:
        UserError: what a worker found wrong.
        JobCrashError: a failure that no worker explained.
        KeyboardInterrupt: the user interrupted it.
    """
    log = _worker_log(job, runner)
    with (
        _ONE_AT_A_TIME,
        _process_left_as_it_was(runner, log),
        ended_by_an_interrupt() as processes,
        _watched(job, totals, progress),
        working(job, workers),
    ):
        result: Any = None
        watch = WorkerWatch(
            job.notes, runner.name, runner.beam, runner.job_name, runner.seconds_to_answer, runner.say
        )
        try:
            runs_on = None
            if runner.is_local:
                runs_on = runner.runner(log) if workers is None else FnApiRunner()
            options = runner.pipeline_options(alone=workers is not None)
            if not runner.is_local:
                watch.before()
            with dataflow.submission(options) if runner.is_dataflow else nullcontext():
                pipeline = beam.Pipeline(runs_on, options=options)
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
            if processes.interrupted or _interrupted(error):
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


def _interrupted(error: BaseException | None) -> bool:
    """Whether Ctrl-C is behind an error: Beam wraps it like any other, or passes on no more than its text."""
    while error is not None:
        last = (str(error).strip().splitlines() or [""])[-1]
        if isinstance(error, KeyboardInterrupt) or last.partition(": ")[2].startswith("KeyboardInterrupt"):
            return True
        if last.startswith("KeyboardInterrupt"):
            return True
        error = error.__cause__ or error.__context__
    return False


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


@contextmanager
def _watched(job: Job, totals: dict[str, int], progress: Progress | None) -> Iterator[None]:
    """Report the progress of a local run; a remote one has the engine's own pages for that."""
    if progress is None or not job.timed:
        yield
        return
    clock, done = StageClock(job.notes), threading.Event()

    def report() -> None:
        parts = clock.parts()
        for stage, total in totals.items():
            progress(stage, len(parts.get(stage, ())), total)

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
