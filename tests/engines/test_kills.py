"""Workers, task managers and the job manager are killed while a job runs."""

from __future__ import annotations

import os
import random
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from behavior.shards.owned import JOB_FOLDER
from behavior.spec.dataset_spec import DatasetSpec
from pipelines.engines.crash import JobCrashError
from pipelines.prepare import prepare
from pipelines.runner import RunnerOptions
from tests.engines.flink import FlinkCluster
from tests.engines.processes import wait_for
from tests.pipelines.conftest import make_rows, make_spec, write_rows
from tests.pipelines.test_prepare import contents

SHARDS = 40


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two hundred chunks."""
    monkeypatch.setattr("pipelines.prepare.MIN_CHUNK_BYTES", 20_000)
    monkeypatch.setattr("pipelines.prepare.CHUNK_BYTES", 20_000)
    folder = tmp_path / "raw"
    folder.mkdir()
    write_rows(folder / "part-1.csv", make_rows(users=5000, events=200_000))
    prepare(spec(), str(folder), tmp_path / "local")
    return folder


def spec() -> DatasetSpec:
    return make_spec(shards=SHARDS, filters={"min_item_events": 2})


@contextmanager
def job(flink: FlinkCluster, log: Path, out: Path) -> Iterator[list[Exception]]:
    """A job that runs meanwhile, and to its end; what it raises."""
    raised: list[Exception] = []

    def work() -> None:
        try:
            prepare(spec(), str(log), out, runner=RunnerOptions("PortableRunner", beam=flink.options()))
        except Exception as error:
            raised.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield raised
    finally:
        thread.join()


def reached(out: Path, folder: str, files: int) -> None:
    """Wait until so many files of a stage are there."""
    place = out / JOB_FOLDER / folder
    wait_for(lambda: place.exists() and len(list(place.iterdir())) >= files, f"{folder}: {files} files", 300)


def test_workers_and_a_task_manager(flink: FlinkCluster, log: Path, tmp_path: Path) -> None:
    rng = random.Random(0)
    with job(flink, log, tmp_path / "out") as raised:
        reached(tmp_path / "out", "reports", 20)
        victim = rng.choice(flink.processes.like("sdk_worker_main"))
        os.kill(victim, signal.SIGKILL)
        reached(tmp_path / "out", "sorted", SHARDS // 4)
        flink.processes.kill("task-manager-0")
        flink.start_task_manager(0)
    assert raised == []
    assert contents(tmp_path / "out") == contents(tmp_path / "local")


def test_the_job_manager(flink: FlinkCluster, log: Path, tmp_path: Path) -> None:
    """Without high availability nobody knows of the job any more; the next cluster does it from the start."""
    with job(flink, log, tmp_path / "out") as raised:
        reached(tmp_path / "out", "reports", 20)
        flink.processes.kill("job-manager")
        wait_for(lambda: bool(raised), "the error", 300)
    [error] = raised
    assert isinstance(error, JobCrashError)
    assert not (tmp_path / "out" / "manifest.json").exists()
    for name in list(flink.processes.running):
        with suppress(KeyError):
            flink.processes.kill(name)
    flink.start()
    flink.wait()
    runner = RunnerOptions("PortableRunner", beam=flink.options())
    prepare(spec(), str(log), tmp_path / "out", runner=runner)
    assert contents(tmp_path / "out") == contents(tmp_path / "local")
