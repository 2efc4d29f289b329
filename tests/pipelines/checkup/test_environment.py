"""How workers are started, looked at from here: with real worker pools and programs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipelines.checkup import environment
from pipelines.checkup.environment import why_silent
from pipelines.checkup.pool import ANSWERS, SILENT, UNREACHABLE, ask_pool
from tests.engines.processes import answers, free_ports

Pool = Callable[[str], str]


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[Pool]:
    """Starts a worker pool whose `python` is some program; returns its address."""
    started: list[subprocess.Popen] = []

    def start(python: str) -> str:
        folder = tmp_path / f"bin{len(started)}"
        folder.mkdir()
        (folder / "python").write_text(f'#!/bin/sh\nexec {python} "$@"\n')
        (folder / "python").chmod(0o755)
        [port] = free_ports(1)
        command = [
            sys.executable,
            "-m",
            "apache_beam.runners.worker.worker_pool_main",
            f"--service_port={port}",
        ]
        env = {**os.environ, "PATH": f"{folder}:/usr/bin:/bin"}
        quiet = subprocess.DEVNULL
        started.append(subprocess.Popen(command, env=env, stdout=quiet, stderr=quiet))
        deadline = time.monotonic() + 60
        while not answers(port):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        return f"localhost:{port}"

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_a_pool_is_asked_for_a_worker(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "_SECONDS_FOR_A_WORKER", 1.0)
    without = pool("false")
    assert ask_pool(without, 1.0) == SILENT
    why, fix = why_silent(["--environment_type=EXTERNAL", f"--environment_config={without}"])
    assert "has no Beam" in why
    assert "PATH" in fix
    assert ask_pool(pool(sys.executable), 60.0) == ANSWERS


def test_no_pool_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.checkup.pool._SECONDS_TO_REACH", 0.3)
    [port] = free_ports(1)
    assert ask_pool(f"localhost:{port}", 1.0) == UNREACHABLE
    why, fix = why_silent(["--environment_type=EXTERNAL", f"--environment_config=localhost:{port}"])
    assert f"no worker pool answers at localhost:{port} on this machine" in why
    assert "worker_pool_main" in fix


def test_a_pool_elsewhere_is_not_asked() -> None:
    why, _ = why_silent(["--environment_type=EXTERNAL", "--environment_config=far.example:50000"])
    assert why == "each task manager asks the worker pool at far.example:50000"


def config(command: str, **env: str) -> list[str]:
    record = json.dumps({"command": command, "env": env})
    return ["--environment_type=PROCESS", f"--environment_config={record}"]


def test_programs_that_start_workers(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho \"ModuleNotFoundError: No module named 'apache_beam'\" >&2\nexit 1\n")
    python.chmod(0o755)
    why, fix = why_silent(config("/bin/true", PATH=str(tmp_path)))
    assert why.endswith(f"leads to {python} here: ModuleNotFoundError: No module named 'apache_beam'")
    assert "RUN_PYTHON_SDK_IN_DEFAULT_ENVIRONMENT" in fix
    python.write_text("#!/bin/sh\nexit 0\n")
    assert "has what it needs" in why_silent(config("/bin/true", PATH=str(tmp_path)))[0]
    assert "leads to no 'python'" in why_silent(config("/bin/true", PATH="/nowhere"))[0]
    own = tmp_path / "lrm-worker"
    own.write_text('#!/bin/sh\n[ "$1" = --help ] || exit 1\necho "No module named $WHAT" >&2\nexit $CODE\n')
    own.chmod(0o755)
    assert "has what it needs" in why_silent(config(str(own), CODE="0"))[0]
    assert why_silent(config(str(own), CODE="1", WHAT="x"))[0] == f"'{own}' fails here: No module named x"
    assert "'/nowhere/boot' is on the workers' machines" in why_silent(config("/nowhere/boot"))[0]
    assert "what PROCESS takes" in why_silent(["--environment_type=PROCESS", "--environment_config=boot"])[0]


def test_other_kinds() -> None:
    assert "this process is the worker" in why_silent(["--environment_type=LOOPBACK"])[0]
    assert "Beam's own image, which lacks lrm-kit" in why_silent([])[0]
    assert "containers of mine:1" in why_silent(["--environment_config=mine:1"])[0]
