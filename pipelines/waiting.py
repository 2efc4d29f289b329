"""Waiting for a job on an engine, and ending it before its time.

Not every engine ends a job when it is asked to: Beam's job server for Flink says that it has, and Flink goes
on. So the workers are told by a note, `Job.give_up`: from then on they do nothing more, and the job is soon
done.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from apache_beam.runners.runner import PipelineState

from behavior.errors import UserError
from pipelines.job import Job

_SECONDS_BETWEEN_LOOKS = 1.0
_SECONDS_BETWEEN_REQUESTS = 5.0
_SECONDS_TO_END = 30.0
_SECONDS_TO_CANCEL = 30.0


def wait_for_engine(result: Any, job: Job) -> None:
    """Wait for the end of a job on an engine; end it where waiting for more is of no use.

    That is where a worker has left an error of the user's: workers give up then, since the engine would try
    again what cannot succeed. And where this process is interrupted, be it by SIGTERM or with its terminal.

    Args:
        result: of `beam.Pipeline.run`.
        job: whose it is.

    Raises:
        UserError: what a worker found wrong, or the engine was told to cancel the job.
        KeyboardInterrupt: says what has become of the job.
        Exception: whatever the runner raises where the job fails.
    """
    waiting = _Waiting(result)
    between = _SECONDS_BETWEEN_LOOKS if job.notes.is_local else _SECONDS_BETWEEN_REQUESTS
    with _signals_interrupt():
        try:
            while not waiting.ended.wait(between):
                if _kept_error(job) is not None:
                    _end(waiting)
                    break
        except KeyboardInterrupt:
            job.give_up(UserError("the job was interrupted", fix="run the same command again"))
            raise KeyboardInterrupt(_end(waiting)) from None
    error = _kept_error(job)
    if error is not None:
        raise error
    if waiting.error is not None:
        raise waiting.error
    if waiting.state not in (PipelineState.DONE, PipelineState.UNKNOWN):
        raise UserError(
            f"the job did not end by itself: the engine says {waiting.state}",
            where=_name_of(result),
            fix="run the same command again",
        )


class _Waiting(threading.Thread):
    """Waits in a thread of its own, where no signal reaches it."""

    def __init__(self, result: Any) -> None:
        super().__init__(name="lrm-waiting", daemon=True)
        self.result = result
        self.error: Exception | None = None
        self.state = PipelineState.UNKNOWN
        self.ended = threading.Event()
        self.start()

    def run(self) -> None:
        try:
            self.state = self.result.wait_until_finish()
        except Exception as error:  # whatever runners raise: it is raised again
            self.error = error
        self.ended.set()


def _kept_error(job: Job) -> UserError | None:
    # The job goes on, and its end will tell, should it not be readable just now.
    with suppress(OSError, ValueError):
        return job.kept_error()
    return None


def _end(waiting: _Waiting) -> str:
    """Wait until the workers have given up; cancel the job where that takes long. Returns what was done."""
    if waiting.ended.wait(_SECONDS_TO_END):
        return "the job on the engine has ended"
    result, deadline = waiting.result, time.monotonic() + _SECONDS_TO_CANCEL
    name = _name_of(result)
    try:
        result.cancel()
        while not PipelineState.is_terminal(result.state) and time.monotonic() < deadline:
            time.sleep(0.2)
        if PipelineState.is_terminal(result.state):
            return f"the engine was told to cancel the job {name}: its page shows whether it has"
        reason = f"not within {_SECONDS_TO_CANCEL:g} s"
    except Exception as error:  # whatever runners raise
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return f"the job {name} could not be cancelled ({reason}): cancel it by the engine's own means"


def _name_of(result: Any) -> str:
    found = getattr(result, "job_id", None) or getattr(result, "_job_id", None)
    return str(found()) if callable(found) else str(found or "")


@contextmanager
def _signals_interrupt() -> Iterator[None]:
    """SIGTERM and SIGHUP interrupt this process as Ctrl-C does; otherwise they would end it at once."""
    before = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is signal.SIG_DFL:
                before[number] = signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
