"""What is done where a process of a training has ended and a GPU waits for it."""

from __future__ import annotations

import subprocess
import sys
from threading import Event
from typing import Any

import pytest

from behavior.errors import UserError
from models.distributed.torch_processes import TorchProcesses, is_lost_connection
from models.training import watch
from models.training.watch import raise_for_exit_codes, watched


class Gpu(TorchProcesses):
    """Of a process that talks to nobody."""

    def __init__(self, host_group: Any = "gloo") -> None:
        self.host_group, self.aborted = host_group, Event()

    def abort(self) -> None:
        self.aborted.set()


class Other:
    """A started process."""

    def __init__(self, returncode: int | None) -> None:
        self.returncode = returncode

    def poll(self) -> int | None:
        return self.returncode


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "_EVERY", 0.001)
    monkeypatch.setattr(watch, "_GRACE", 0.001)


@pytest.mark.parametrize("code", [1, -9])
def test_a_gpu_that_waits_for_a_process_that_failed_is_freed(code: int) -> None:
    gpu = Gpu()
    others: list[Any] = [Other(None), Other(code)]
    with watched(others, gpu):
        assert gpu.aborted.wait(60)
    with pytest.raises(UserError, match=f"training process 2 ended with exit code {code}"):
        raise_for_exit_codes(others)


def test_nothing_is_done_while_all_goes_well() -> None:
    gpu, going, done = Gpu(), Other(None), Other(0)
    others: list[Any] = [going, done]
    with watched(others, gpu):
        assert not gpu.aborted.wait(0.05)
    raise_for_exit_codes(others)
    hosts = Gpu(None)  # their connections break
    with watched([Other(-9)], hosts):  # type: ignore[list-item]
        assert not hosts.aborted.wait(0.05)


def test_one_that_cannot_be_freed_is_ended_with_the_message() -> None:
    program = """
import time
from tests.models.training.test_watch import Gpu, Other, watch
watch._GRACE = watch._EVERY = watch._STUCK = 0.01
with watch.watched([Other(-9)], Gpu()):
    time.sleep(60)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "training process 1 ended with exit code -9" in done.stderr
    assert "Traceback" not in done.stderr


def test_lost_connections_are_told_from_other_errors() -> None:
    assert is_lost_connection(RuntimeError("[gloo/pair.cc:534] Connection closed by peer [127.0.0.1]:4711"))
    assert not is_lost_connection(RuntimeError("CUDA out of memory"))
