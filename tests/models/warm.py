"""Processes that begin where the training has been imported, which takes longer than a small run."""

from __future__ import annotations

import io
import multiprocessing
import subprocess
import sys
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from typing import Any

_SERVER = multiprocessing.get_context("forkserver")


def start(work: Callable[..., None], *arguments: Any) -> BaseProcess:
    """Have a new process call a function of a module; it does not outlive this one."""
    _SERVER.set_forkserver_preload(["models.training.worker", "behavior.synthetic", "pytest"])
    process = _SERVER.Process(target=work, args=arguments, daemon=True)
    process.start()
    return process


class WarmWorker:
    """What `models.training.launch` starts, as far as it asks of a `subprocess.Popen`."""

    def __init__(self, told: str) -> None:
        self.process = start(_work, told)

    @property
    def returncode(self) -> int | None:
        return self.process.exitcode

    def poll(self) -> int | None:
        return self.process.exitcode

    def wait(self, timeout: float | None = None) -> int | None:
        self.process.join(timeout)
        if self.process.is_alive():
            raise subprocess.TimeoutExpired("a worker", timeout or 0.0)
        return self.process.exitcode

    def kill(self) -> None:
        self.process.kill()


def _work(told: str) -> None:
    from models.training.worker import main

    sys.stdin = io.StringIO(told)
    main()
