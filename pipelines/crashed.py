"""The error of a job that no worker explained, and that of a local run."""

from __future__ import annotations

from pathlib import Path

from behavior.errors import UserError

_WORKER_DIED = ("Channel closed prematurely", "a worker process died")
"""What Beam says of a worker process of its own that was killed, and `behavior.runtime.forks` of one."""


class JobCrashError(UserError):
    """A failure that no worker explained. The log is kept, of an engine what it has said."""


def local_crash(error: Exception, log: Path | None) -> JobCrashError:
    """Of a local run.

    Args:
        error: what Beam raised.
        log: what worker processes have printed, where that is kept.
    """
    reason = (str(error).strip().splitlines() or ["no reason given"])[-1]
    if any(said in str(error) for said in _WORKER_DIED):
        what = "a worker process died; often the system ends one for want of memory"
        fix = "free memory, or take fewer --workers, and run the same command again; the log may say more"
    else:
        what = f"{type(error).__name__}: {reason}"
        fix = "look at the log" if log is not None else "lrm --debug shows where it was raised"
    return JobCrashError(f"the job failed: {what}", where=str(log) if log else None, fix=fix)


def interrupted(error: BaseException | None) -> bool:
    """Whether Ctrl-C is behind an error: compiled code makes it a SystemError, and
    Beam wraps it like any other, or passes on no more than its text."""
    while error is not None:
        last = (str(error).strip().splitlines() or [""])[-1]
        if isinstance(error, KeyboardInterrupt) or last.partition(": ")[2].startswith("KeyboardInterrupt"):
            return True
        if last.startswith("KeyboardInterrupt"):
            return True
        error = error.__cause__ or error.__context__
    return False
