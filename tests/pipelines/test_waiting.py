"""What ends a job on an engine before its time; the engine is a stand-in (tests/engines has real ones)."""

from __future__ import annotations

import os
import signal
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from apache_beam.runners.runner import PipelineState

import pipelines.waiting
from behavior.errors import UserError
from behavior.shards.storage import Folder
from behavior.sources.chunks import Chunk
from pipelines.job import PrepareJob
from pipelines.reading import ChunkGroup, ReadChunks
from pipelines.shuffle import FileShuffle
from pipelines.waiting import wait_for_engine
from tests.pipelines.test_transforms import make_job


class Engine:
    """Runs for ever, until it is cancelled or ends as it is told to."""

    _job_id = "job-7"

    def __init__(self, end: object = None, cancels: bool = True) -> None:
        self.state, self.end, self.cancels = PipelineState.RUNNING, end, cancels
        self.cancelled = 0
        self.over = threading.Event()
        if end is not None:
            self.over.set()

    def wait_until_finish(self) -> object:
        self.over.wait()
        if isinstance(self.end, Exception):
            raise self.end
        self.state = self.end or PipelineState.CANCELLED
        return self.state

    def cancel(self) -> None:
        self.cancelled += 1
        if not self.cancels:
            raise RuntimeError("no connection\nat line 3")
        self.state = PipelineState.CANCELLED
        self.over.set()


@pytest.fixture
def job(raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PrepareJob:
    monkeypatch.setattr(pipelines.waiting, "_SECONDS_BETWEEN_LOOKS", 0.02)
    monkeypatch.setattr(pipelines.waiting, "_SECONDS_TO_END", 0.5)
    return make_job(raw, tmp_path / "work")


def test_a_job_that_ends_well(job: PrepareJob) -> None:
    wait_for_engine(Engine(PipelineState.DONE), job)


def test_what_the_runner_raises_is_raised(job: PrepareJob) -> None:
    with pytest.raises(ZeroDivisionError, match="on the engine"):
        wait_for_engine(Engine(ZeroDivisionError("on the engine")), job)


@pytest.mark.parametrize("gives_up", [True, False])
def test_the_users_error_ends_the_job(gives_up: bool, job: PrepareJob) -> None:
    """Workers give up; those that cannot, since none runs perhaps, are not waited for."""
    engine = Engine()
    with pytest.raises(UserError, match="what"), job.stage("read"):
        raise UserError("what", where="where", fix="fix")
    if gives_up:
        engine.end = PipelineState.DONE
        threading.Timer(0.1, engine.over.set).start()
    with pytest.raises(UserError) as error:
        wait_for_engine(engine, job)
    assert (error.value.what, error.value.where, error.value.fix) == ("what", "where", "fix")
    assert engine.cancelled == (not gives_up)


def test_an_error_that_cannot_be_read_ends_nothing(job: PrepareJob, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[str] = []
    engine = Engine(PipelineState.DONE)
    engine.over.clear()

    def look(self: Folder, name: str) -> bool:
        looks.append(name)
        if len(looks) == 3:
            engine.over.set()
        raise OSError("no answer")

    monkeypatch.setattr(Folder, "exists", look)
    wait_for_engine(engine, job)
    assert len(looks) >= 3


def test_a_job_that_somebody_cancels_on_the_engine_is_not_done(job: PrepareJob) -> None:
    with pytest.raises(UserError, match="the engine says CANCELLED") as error:
        wait_for_engine(Engine(PipelineState.CANCELLED), job)
    assert error.value.where == "job-7"


class Watching:
    """Finds a job that is not to be waited for, on an engine that has a page or none."""

    nobody = True

    def __init__(self, engine: Engine, has_page: bool) -> None:
        def cancel(within: float) -> bool:
            if has_page:
                engine.over.set()
            return has_page

        self.engine = SimpleNamespace(cancel=cancel, kind="Flink", page=lambda _: "its page")

    def look(self, _: object) -> UserError:
        return UserError("nobody came", where="there", fix="fetch somebody")


@pytest.mark.parametrize(("has_page", "cancels"), [(True, False), (False, True), (False, False)])
def test_a_job_that_is_not_to_be_waited_for(has_page: bool, cancels: bool, job: PrepareJob) -> None:
    """No worker is waited for to give up where none has come."""
    job = replace(job, timed=False)
    engine = Engine(cancels=cancels)
    with pytest.raises(UserError, match="nobody came") as error:
        wait_for_engine(engine, job, Watching(engine, has_page))
    told = "; the engine was told to cancel the job job-7: its page shows whether it has"
    not_told = "; the job job-7 could not be cancelled (no connection): cancel it by the engine's own means"
    assert error.value.fix == "fetch somebody" + ("" if has_page else told if cancels else not_told)
    assert engine.cancelled == (not has_page)
    assert job.given_up


@pytest.mark.usefixtures("no_signal_ignored")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("ends", ["itself", "cancelled", "never"])
def test_signals_end_the_job(number: int, ends: str, job: PrepareJob) -> None:
    job = replace(job, timed=False)
    before = signal.getsignal(number)
    engine = Engine(cancels=ends == "cancelled")
    timer = threading.Timer(0.2, os.kill, (os.getpid(), number))
    timer.start()
    if ends == "itself":
        threading.Timer(0.3, engine.over.set).start()
    with pytest.raises(KeyboardInterrupt) as interrupt:
        wait_for_engine(engine, job)
    timer.join()
    said = {
        "itself": "the job on the engine has ended",
        "cancelled": "the engine was told to cancel the job job-7: its page shows whether it has",
        "never": "the job job-7 could not be cancelled (no connection): cancel it by the engine's own means",
    }
    assert str(interrupt.value) == said[ends]
    assert signal.getsignal(number) is before
    assert list(ReadChunks(job, FileShuffle()).process(ChunkGroup(0, []))) == []  # workers do nothing more
    assert job.work.names() == ["failure.json"]


def test_an_error_of_the_users_is_kept_and_not_raised_on_an_engine(job: PrepareJob) -> None:
    group = ChunkGroup(0, [(Chunk(0, 0, 0, "/nowhere.csv", 0, 9), "nowhere.csv")])
    with pytest.raises(UserError) as local:
        list(ReadChunks(job, FileShuffle()).process(group))
    job = replace(job, timed=False, notes=job.notes.child("engine"))
    assert not job.given_up
    assert list(ReadChunks(job, FileShuffle()).process(group)) == []
    assert job.given_up
    assert str(job.kept_error()) == str(local.value)
