"""Processes that begin where the training has been imported, which takes longer than a small run."""

from __future__ import annotations

import faulthandler
import json
import multiprocessing
import subprocess
from collections.abc import Callable
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from typing import Any

_SERVER = multiprocessing.get_context("forkserver")


def warm_context() -> ForkServerContext:
    """Begins such processes."""
    _SERVER.set_forkserver_preload(
        ["models.training.worker", "models.experiments.runs", "behavior.synthetic", "pytest"]
    )
    return _SERVER


def start(work: Callable[..., None], *arguments: Any) -> BaseProcess:
    """Have a new process call a function of a module; it does not outlive this one."""
    process = warm_context().Process(target=work, args=arguments, daemon=True)
    process.start()
    return process


def run_apart(work: Callable[..., None], *arguments: Any, limit: float = 240.0) -> None:
    """Have a fresh process, which may use GPUs and start others, call a function of a module.

    Raises:
        AssertionError: it raised, or ended otherwise, or took longer than so many seconds. Its traceback, or
            where it hung, is on standard error.
    """
    process = multiprocessing.get_context("spawn").Process(target=_within, args=(limit, work, *arguments))
    process.start()
    process.join(limit + 60)
    process.kill()
    process.join()
    assert process.exitcode == 0, f"{work.__name__} ended with exit code {process.exitcode}"


def _within(limit: float, work: Callable[..., None], *arguments: Any) -> None:
    # By a thread that needs nothing of Python, which may be waiting for a device.
    faulthandler.dump_traceback_later(limit, exit=True)
    work(*arguments)


class WarmWorker:
    """What `models.training.launch` starts, as far as it asks of a `subprocess.Popen`."""

    stdin = None

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
    from models.training.worker import take_part

    take_part(json.loads(told))
