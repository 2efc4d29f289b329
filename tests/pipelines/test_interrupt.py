"""An interrupt ends a job and its workers, also where it reaches the parent alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from apache_beam.runners.portability import local_job_service

import pipelines.prepare
from pipelines.append import append
from pipelines.prepare import prepare
from pipelines.runner import RunnerOptions
from pipelines.workers import ended_by_an_interrupt
from tests.pipelines.conftest import make_rows, make_spec, write_rows
from tests.pipelines.test_prepare import contents

STALLED_WORKER = """
import os, pathlib, sys, time

if "behavior.runtime.forks" in sys.orig_argv:
    import pipelines.work

    def stalled(*arguments):
        for process in (os.getppid(), os.getpid()):
            pathlib.Path({folder!r}, str(process)).touch()
        time.sleep(600)

    pipelines.work.read_whole_group = stalled
"""


@pytest.mark.usefixtures("no_signal_ignored")
def test_workers_end_with_the_job() -> None:
    usual, handler = local_job_service.subprocess, signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), ended_by_an_interrupt() as workers:  # noqa: PT012
        first = local_job_service.subprocess.Popen("exec sleep 600", shell=True)
        assert first.poll() is None
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(60)
        finally:
            assert workers.interrupted
            assert first.wait(60) == -signal.SIGKILL
            late = local_job_service.subprocess.Popen("exec sleep 600", shell=True)
            assert late.wait(60) == -signal.SIGKILL
    assert local_job_service.subprocess is usual
    assert signal.getsignal(signal.SIGINT) is handler


@pytest.mark.usefixtures("no_signal_ignored")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_before_the_engine_has_the_job(
    number: int, raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is an interrupt like a later one, and leaves what was there."""
    handler, runner = signal.getsignal(number), RunnerOptions("PortableRunner", beam=["--job_endpoint=embed"])
    write_rows(raw / "later.csv", make_rows(users=60, events=300, seed=1))
    prepare(make_spec(), str(raw), tmp_path / "added")
    before = contents(tmp_path / "added")

    def end_me(*_: object) -> None:
        os.kill(os.getpid(), number)
        time.sleep(60)

    monkeypatch.setattr(pipelines.prepare, "run_job", end_me)
    with pytest.raises(KeyboardInterrupt):
        prepare(make_spec(), str(raw), tmp_path / "new", runner=runner)
    assert not (tmp_path / "new").exists()
    with pytest.raises(KeyboardInterrupt):
        append(make_spec(), str(raw), tmp_path / "added", [str(raw / "later.csv")], runner=runner)
    assert contents(tmp_path / "added") == before
    assert signal.getsignal(number) is handler


def test_a_job_in_a_thread_leaves_signals_alone() -> None:
    found = []

    def work() -> None:
        with ended_by_an_interrupt():
            found.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [signal.getsignal(signal.SIGINT)]


def test_a_parent_interrupted_alone_ends_at_once(raw: Path, tmp_path: Path) -> None:
    """One of its workers is at something that takes ten minutes; the process it was forked from ends too."""
    spec = raw / "spec.yaml"
    spec.write_text(make_spec().model_dump_json())  # JSON is YAML
    site, started = tmp_path / "site", tmp_path / "started"
    site.mkdir()
    started.mkdir()
    (site / "sitecustomize.py").write_text(STALLED_WORKER.format(folder=str(started)))
    path = os.pathsep.join([str(site), str(Path(__file__).parents[2])])
    command = ["-m", "cli.main", "prepare", str(spec), "--out", str(tmp_path / "out"), "--workers", "2"]
    process = subprocess.Popen(
        [sys.executable, *command],
        env={**os.environ, "PYTHONPATH": path},
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 120
        while len(list(started.iterdir())) < 2:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        os.kill(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=60)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    assert process.returncode == 130
    assert b"Traceback" not in said
    deadline = time.monotonic() + 20
    while any(Path("/proc", process.name).exists() for process in started.iterdir()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
