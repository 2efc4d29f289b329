"""What is done where a process of a training has ended and a GPU waits for it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from behavior.errors import UserError
from models.distributed.torch_processes import TorchProcesses, is_lost_connection
from models.training import launch, watch
from models.training.launch import TrainArguments
from models.training.watch import raise_for_exit_codes
from tests.models.training.training_runs import settings


class Gpu(TorchProcesses):
    """Of a process that talks to nobody."""

    def __init__(self, host_group: Any = "gloo") -> None:
        self.host_group = host_group


class Other:
    """A started process."""

    def __init__(self, returncode: int | None) -> None:
        self.returncode = returncode

    def poll(self) -> int | None:
        return self.returncode


@pytest.mark.parametrize(
    ("code", "host_group", "ends"),
    [
        (None, "gloo", False),
        (0, "gloo", False),
        (-9, None, False),
        (1, "gloo", False),
        (130, "gloo", False),
        (70, "gloo", True),
        (-9, "gloo", True),
    ],
)
def test_it_ends_where_a_gpu_waits_for_one_that_failed(
    code: int | None, host_group: Any, ends: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Connections between hosts break by themselves."""
    ended = Event()
    monkeypatch.setattr(watch, "_GRACE", 0.001)
    monkeypatch.setattr(watch, "_EVERY", 0.001)
    monkeypatch.setattr(watch, "_end", lambda code: ended.set())
    others: list[Any] = [Other(None), Other(code)]
    with watch.watched(others, Gpu(host_group)):
        assert ended.wait(60 if ends else 0.05) is ends


def test_what_is_being_written_is_written_first(monkeypatch: pytest.MonkeyPatch) -> None:
    ended, written = Event(), []
    monkeypatch.setattr(watch, "_GRACE", 0.001)
    monkeypatch.setattr(watch, "_EVERY", 0.001)
    monkeypatch.setattr(watch, "_end", lambda code: ended.set())

    other = Other(None)

    def slow() -> None:
        other.returncode = -9
        written.append(ended.wait(0.2))

    module: dict[str, Any] = {"__name__": "models.runs.checkpoint", "slow": slow}
    exec("def save():\n    slow()", module)
    with watch.watched([other], Gpu()):  # type: ignore[list-item]
        module["save"]()
        assert ended.wait(60)
    assert written == [False]


def test_the_one_that_failed_first_is_named() -> None:
    others: list[Any] = [Other(1), Other(-9), Other(None), Other(0)]
    with pytest.raises(UserError, match="training process 2 ended with exit code -9"):
        raise_for_exit_codes(others)
    raise_for_exit_codes(others[2:])


def test_it_says_so_and_has_no_traceback() -> None:
    program = """
import time
from tests.models.training.test_watch import Gpu, Other, watch
watch._GRACE = watch._EVERY = 0.01
with watch.watched([Other(None), Other(-9)], Gpu()):
    time.sleep(60)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "training process 2 ended with exit code -9" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_group_of_gpus_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """And another training on several devices is refused, rather than to wait for it."""
    monkeypatch.setattr(TorchProcesses, "stuck", False)
    Gpu().leave()
    assert TorchProcesses.stuck
    arguments = TrainArguments(settings(), "", tmp_path, resume=False)
    with (
        pytest.raises(UserError, match="may still be at it"),
        launch._started(arguments, 2, "gloo"),
    ):
        raise AssertionError("started")


def test_lost_connections_are_told_from_other_errors() -> None:
    assert is_lost_connection(RuntimeError("[gloo/pair.cc:534] Connection closed by peer [127.0.0.1]:4711"))
    assert not is_lost_connection(RuntimeError("CUDA out of memory"))
