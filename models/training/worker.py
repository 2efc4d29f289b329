"""One of several training processes, started by `models.training.launch` as `python -m` this module."""

from __future__ import annotations

import json
import os
import sys
import traceback
from threading import Thread
from typing import Any, NoReturn

from behavior.errors import UserError
from behavior.printable import complain
from models.distributed.torch_processes import TorchProcesses, is_lost_connection
from models.training.launch import join_as_told
from models.training.observer import Silent
from models.training.run import train_in
from models.training.watch import INTERRUPTED, TOLD, UNEXPECTED


def main() -> None:
    """Train as the first line of standard input says, for as long as that stays open."""
    told = json.loads(sys.stdin.readline())
    Thread(target=_end_with_the_first, daemon=True).start()
    take_part(told)


def take_part(told: dict[str, Any]) -> None:
    """Join the training and run this process's part of it, as the first process told it to."""
    arguments, processes = join_as_told(told)
    try:
        train_in(arguments, processes, Silent())
    except BaseException as error:
        _leave(processes, error)
    else:
        processes.close()


def _leave(processes: TorchProcesses, error: BaseException) -> NoReturn:
    """End with an error that this process met; it is told unless the first one knows of it."""
    code = UNEXPECTED
    if isinstance(error, UserError):
        # The first process mostly meets the same error; what this one alone met is told nowhere else.
        complain(f"training process {processes.rank}: {error}")
        code = TOLD
    elif isinstance(
        error, KeyboardInterrupt
    ):  # of the first process, which says so; the checkpoint is written
        code = INTERRUPTED
    elif isinstance(error, RuntimeError) and is_lost_connection(error):  # another process is gone
        code = TOLD
    else:
        complain("".join(traceback.format_exception(error)).rstrip("\n"))
    processes.leave()
    sys.stderr.flush()
    if processes.stuck:
        os._exit(code)
    sys.exit(code)


def _end_with_the_first() -> None:
    """End this process as soon as the first one is gone, for which a GPU would wait in vain."""
    # Not through `sys.stdin`, whose lock a thread must not hold when Python ends.
    while os.read(sys.stdin.fileno(), 1):
        pass
    os._exit(1)


if __name__ == "__main__":
    main()
