"""Waiting for a job on an engine, and ending it before its time.

Not every engine ends a job when it is asked to: Beam's job server for Flink says that it has, and Flink goes
on. So the workers are told by a note, `Job.give_up`: from then on they do nothing more, and the job is soon
done.
"""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from typing import Any, Protocol

from apache_beam.runners.runner import PipelineState

from behavior.errors import UserError
from pipelines import dataflow
from pipelines.engines.engine import Engine, name_of
from pipelines.job import SUMMARY, Job
from pipelines.signals import signals_interrupt

_SECONDS_BETWEEN_LOOKS = 1.0
_SECONDS_BETWEEN_REQUESTS = 5.0
_SECONDS_TO_END = 30.0
_SECONDS_TO_CANCEL = 30.0
_SECONDS_TO_COME = 15.0
"""From the job server to Flink."""
_FOR_SURE = ("has ended", "is cancelled")
"""How it is said of a job that is no more."""


class Watch(Protocol):
    """Looks at a job while it is waited for.

    Attributes:
        engine: where it runs.
        nobody: whether no worker has come.
    """

    @property
    def engine(self) -> Engine: ...

    @property
    def nobody(self) -> bool: ...

    def look(self, result: Any) -> UserError | None:
        """Why the job is not to be waited for any longer, if so."""


def wait_for_engine(result: Any, job: Job, watch: Watch | None = None) -> None:
    """Wait for the end of a job on an engine; end it where waiting for more is of no use.

    That is where a worker has left an error of the user's: workers give up then, since the engine would try
    again what cannot succeed. And where this process is interrupted, be it by SIGTERM or with its terminal.

    Args:
        result: of `beam.Pipeline.run`.
        job: whose it is.
        watch: looks at it meanwhile.

    Raises:
        UserError: what a worker or the watch found wrong, or the engine was told to cancel the job.
        KeyboardInterrupt: says what has become of the job.
        Exception: whatever the runner raises where the job fails.
    """
    waiting = _Waiting(result, watch)
    between = _SECONDS_BETWEEN_LOOKS if job.notes.is_local else _SECONDS_BETWEEN_REQUESTS
    with signals_interrupt():
        try:
            while not waiting.ended.wait(between):
                if _kept_error(job) is not None:
                    _end(waiting)
                    break
                found = watch.look(result) if watch is not None else None
                if found is not None:
                    job.give_up(found)
                    became = _end(waiting)
                    if became.endswith(_FOR_SURE):
                        raise found
                    raise UserError(found.what, where=found.where, fix=f"{found.fix}; {became}")
        except KeyboardInterrupt:
            raise KeyboardInterrupt(_interrupted(waiting, job)) from None
    error = _kept_error(job)
    if error is not None:
        raise error
    if waiting.error is not None:
        raise waiting.error
    if waiting.state not in (PipelineState.DONE, PipelineState.UNKNOWN):
        raise UserError(
            f"the job did not end by itself: the engine says {waiting.state}",
            where=(watch.engine.page(result) if watch else "") or _place_of(result),
            fix="see on its page who ended it, and why; nothing of it is left, so that it can be run again",
        )


def check_summary(result: Any, job: Job) -> None:
    """See that a job which has ended left what its commit works from.

    Raises:
        UserError: it has not: the engine ran something else, or its files went away meanwhile.
    """
    if not job.work.exists(SUMMARY):
        raise UserError(
            f"the engine says that the job is done, but it left no result in '{job.work}'",
            where=_place_of(result),
            fix="see that nothing else writes there or removes files, and run the same command again",
        )


class _Waiting(threading.Thread):
    """Waits in a thread of its own, where no signal reaches it."""

    def __init__(self, result: Any, watch: Watch | None) -> None:
        super().__init__(name="lrm-waiting", daemon=True)
        self.result, self.watch = result, watch
        self.error: Exception | None = None
        self.state = PipelineState.UNKNOWN
        self.ended = threading.Event()
        self.start()

    def run(self) -> None:
        try:
            on_dataflow = dataflow.is_job(self.result)
            self.state = dataflow.wait(self.result) if on_dataflow else self.result.wait_until_finish()
        except Exception as error:  # whatever runners raise: it is raised again
            self.error = error
        self.ended.set()


def _kept_error(job: Job) -> UserError | None:
    # The job goes on, and its end will tell, should it not be readable just now.
    with suppress(OSError, ValueError):
        return job.kept_error()
    return None


def _interrupted(waiting: _Waiting, job: Job) -> str:
    """End the job of a user who does not want it any more. Returns what has become of it."""
    try:
        job.give_up(UserError("the job was interrupted", fix="run the same command again"))
        return _end(waiting)
    except KeyboardInterrupt:  # who will not wait for that, either
        return f"the job {name_of(waiting.result)} may still run: cancel it {_where_to_cancel(waiting)}"


def _end(waiting: _Waiting) -> str:
    """Wait until the workers have given up; cancel the job where that takes long. Returns what was done.

    Dataflow is told at once: it does cancel jobs, and their machines are paid for. So is any engine whose
    workers never came.
    """
    on_dataflow, watch = dataflow.is_job(waiting.result), waiting.watch
    nobody_came = watch is not None and watch.nobody
    if waiting.ended.wait(0 if on_dataflow or nobody_came else _SECONDS_TO_END):
        return "the job on the engine has ended"
    name = name_of(waiting.result)
    # Beam's job server for Flink does not pass it on.
    if watch is not None and watch.engine.cancel(_SECONDS_TO_COME) and waiting.ended.wait(_SECONDS_TO_CANCEL):
        return f"the job {name} on {watch.engine.kind} is cancelled"
    reason = _cancel(waiting)
    if reason is not None:
        return f"the job {name} could not be cancelled ({reason}): cancel it {_where_to_cancel(waiting)}"
    if not on_dataflow:
        return f"the engine was told to cancel the job {name}: its page shows whether it has"
    if waiting.ended.wait(_SECONDS_TO_CANCEL):
        return f"the job {name} on Dataflow is cancelled"
    return f"Dataflow was told to cancel the job {name}: {dataflow.page_of(waiting.result)} shows when it has"


def _cancel(waiting: _Waiting) -> str | None:
    """Tell the engine to cancel a job. Returns why that was not possible, if it was not."""
    reasons: list[str | None] = []

    def cancel() -> None:
        result, deadline = waiting.result, time.monotonic() + _SECONDS_TO_CANCEL
        try:
            result.cancel()
            if dataflow.is_job(result):  # the thread that waits for the job sees its end
                reasons.append(None)
                return
            while not PipelineState.is_terminal(result.state):
                if time.monotonic() > deadline:
                    return
                time.sleep(0.2)
            reasons.append(None)
        except Exception as error:  # whatever runners raise
            reasons.append((str(error).strip().splitlines() or [type(error).__name__])[0])

    # In a thread of its own: an engine that does not answer is not waited for.
    thread = threading.Thread(target=cancel, name="lrm-cancelling", daemon=True)
    thread.start()
    thread.join(_SECONDS_TO_CANCEL + 1)
    return reasons[0] if reasons else f"not within {_SECONDS_TO_CANCEL:g} s"


def _where_to_cancel(waiting: _Waiting) -> str:
    if dataflow.is_job(waiting.result):
        return f"there: {dataflow.page_of(waiting.result)}"
    return "by the engine's own means"


def _place_of(result: Any) -> str:
    """Where a job can be seen, or else what it is called."""
    return dataflow.page_of(result) if dataflow.is_job(result) else name_of(result)
