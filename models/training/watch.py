"""Processes of a training that end before it does."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Event, Thread

from behavior.errors import UserError
from behavior.printable import complain
from models.distributed.torch_processes import TorchProcesses

# Seconds between two looks.
_EVERY = 0.2
# Seconds in which this process may notice by itself that another is gone, before its GPU's work is ended.
_GRACE = 1.0
# Whether the GPU's work is ended so that this process can go on and tell, or this process tells and ends.
ABORTS = True
# Seconds it may take from then on, before it is ended where it stands.
_STUCK = 20.0


@contextmanager
def watched(others: Sequence[subprocess.Popen[str]], processes: TorchProcesses) -> Iterator[None]:
    """Within the block, free this process of what its GPU does with others, once one of them has failed.

    A host notices by itself that a connection broke. A GPU does not: it waits for what never comes, and
    whoever reads a result of it waits, too.
    """
    if processes.host_group is None:
        yield
        return
    over = Event()
    watch = Thread(target=_watch, args=(others, processes, over), daemon=True)
    watch.start()
    try:
        yield
    finally:
        over.set()
        watch.join()


def _watch(others: Sequence[subprocess.Popen[str]], processes: TorchProcesses, over: Event) -> None:
    while not any(other.poll() for other in others):
        if over.wait(_EVERY):
            return
    if over.wait(_GRACE):
        return
    if ABORTS:
        processes.abort()
        if over.wait(_STUCK):
            return
    try:
        raise_for_exit_codes(others)
    except UserError as error:
        complain(f"error: {error}")
    os._exit(1)


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
