"""Processes of a training that end before it does."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Event, Thread, get_ident

from behavior.errors import UserError
from behavior.printable import complain
from models.distributed.torch_processes import TorchProcesses

# Seconds between two looks.
_EVERY = 0.2
# Seconds in which this process may notice by itself that another is gone.
_GRACE = 1.0
TOLD, INTERRUPTED, UNEXPECTED = 1, 130, 70
"""Exit codes of a started process: an error for users, which the first one mostly meets, too; Ctrl-C, on
which all agree; any other error."""
_end = os._exit


@contextmanager
def watched(others: Sequence[subprocess.Popen[str]], processes: TorchProcesses) -> Iterator[None]:
    """Within the block, end this process where its GPU waits for one of the others that has failed.

    A host notices by itself that a connection broke. A GPU does not: it waits for what never comes, and
    whoever reads a result of it waits, too, and can be told nothing. The process then says which other one
    has failed, and ends with exit code 1, once what it may be writing to the run's folder is written.
    """
    if processes.host_group is None:
        yield
        return
    over = Event()
    watch = Thread(target=_watch, args=(others, get_ident(), over), daemon=True)
    watch.start()
    try:
        yield
    finally:
        over.set()
        watch.join()


def _watch(others: Sequence[subprocess.Popen[str]], thread: int, over: Event) -> None:
    while not any(other.poll() not in (None, 0, TOLD, INTERRUPTED) for other in others):
        if over.wait(_EVERY):
            return
    if over.wait(_GRACE):
        return
    while _writes(thread):
        if over.wait(_EVERY):
            return
    try:
        raise_for_exit_codes(others)
    except UserError as error:
        complain(f"error: {error}")
    _end(1)


def _writes(thread: int) -> bool:
    """Whether a thread is at the files of a run, and not waiting for a GPU."""
    frame = sys._current_frames().get(thread)
    while frame is not None:
        if str(frame.f_globals.get("__name__")).startswith("models.runs."):
            return True
        frame = frame.f_back
    return False


def raise_for_exit_codes(others: Sequence[subprocess.Popen[str]], cause: Exception | None = None) -> None:
    """Raise UserError where one of the processes, ranks 1 and on, has failed.

    Args:
        others: the processes.
        cause: what this process met because of it.
    """
    ended = [(other.returncode, rank) for rank, other in enumerate(others, 1) if other.poll()]
    if ended:
        # Those killed by a signal (negative) first: others end because of them, as connections break.
        code, rank = min(ended)
        raise UserError(
            f"training process {rank} ended with exit code {code}",
            fix="what it wrote stands above; killed (-9) often means that memory ran out",
        ) from cause
