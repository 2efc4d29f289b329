"""Workers of a job are awaited and looked at; the engine is a stand-in (tests/engines has real ones)."""

from __future__ import annotations

import os
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import pipelines.checkup.hello
from behavior.errors import UserError
from behavior.shards.storage import Folder
from pipelines.checkup import watch
from pipelines.checkup.facts import facts
from pipelines.checkup.hello import WORKERS, introduce, introduced
from pipelines.checkup.watch import WorkerWatch
from pipelines.fence import FencedFolder
from pipelines.job import Job, unless_given_up

BOOT = (Path(__file__).parents[1] / "engines" / "said" / "boot.txt").read_text()
POOL = ["--environment_type=EXTERNAL", "--environment_config=far:50000"]


class Stub:
    """An engine that has said something."""

    kind, options, base, job_name = "Flink", POOL, "", "lrm-1"

    def __init__(self, *said: str) -> None:
        self.told = list(said)

    def said(self) -> list[str]:
        return self.told

    def state(self) -> str:
        return "RUNNING"

    def flink_id(self) -> str:
        return ""

    def page(self, _: Any) -> str:
        return "http://flink/job"


@pytest.fixture
def notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    monkeypatch.setattr(pipelines.checkup.hello, "_introduced", set())
    monkeypatch.setattr(watch, "SECONDS_BETWEEN_QUESTIONS", -1.0)
    return Folder(str(tmp_path))


def watching(notes: Folder, limit: float, *said: str) -> WorkerWatch:
    found = WorkerWatch(notes, "FlinkRunner", POOL, "lrm-1", limit)
    found.__dict__["engine"] = Stub(*said)
    return found


def test_a_worker_introduces_itself_once_a_run(notes: Folder) -> None:
    for _ in range(2):
        introduce(notes)
        assert notes.names() == [f"{WORKERS}/{socket.gethostname()}-{os.getpid()}.json"]
    known: set[str] = set()
    assert introduced(notes, known) == [facts()]
    assert introduced(notes, known) == []
    notes.remove_tree(WORKERS)
    introduce(notes)
    assert notes.names() == []


def test_each_step_of_a_job_on_an_engine_begins_with_it(notes: Folder) -> None:
    class Step:
        @unless_given_up
        def process(self, element: int) -> Any:
            yield element

    step: Any = Step()
    step.job = Job()
    step.job.notes, step.job.timed = notes, True
    assert list(step.process(3)) == [3]
    assert notes.names() == []  # a local one has nothing to say
    step.job.timed = False
    assert list(step.process(3)) == [3]
    assert len(notes.names()) == 1


def test_a_run_that_is_given_up_while_a_worker_introduces_itself(
    notes: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That is no error, which an engine would try again."""

    class Step:
        @unless_given_up
        def process(self, element: int) -> Any:
            yield element

    def late(folder: FencedFolder) -> None:
        folder.take_down()
        introduce(folder)

    monkeypatch.setattr("pipelines.job.introduce", late)
    step: Any = Step()
    step.job = Job()
    step.job.notes, step.job.timed = FencedFolder(notes.url, notes.url, "running-1"), False
    step.job.notes.put_up()
    assert list(step.process(3)) == []
    assert notes.names() == []


def test_workers_that_are_as_they_should_be(notes: Folder) -> None:
    looking = watching(notes, 60.0)
    assert looking.look(None) is None
    introduce(notes)
    assert looking.look(None) is None
    assert looking.workers == [facts()]


def test_where_the_job_can_be_seen_is_said_once(notes: Folder) -> None:
    said: list[str] = []
    looking = watching(notes, 60.0)
    looking.say = said.append
    looking.engine.state = str  # type: ignore[method-assign]  # it does not have the job yet
    looking.look(None)
    assert said == []
    introduce(notes)
    looking.look(None)
    notes.write_text(f"{WORKERS}/far-1.json", replace(facts(), pid=1).to_json())
    looking.look(None)
    assert len(looking.workers) == 2
    assert said == ["the job lrm-1 on Flink: http://flink/job"]


def test_the_page_of_a_job_that_waits_for_its_workers_is_said(notes: Folder) -> None:
    said: list[str] = []
    looking = watching(notes, 60.0)
    looking.say = said.append
    for _ in range(2):
        assert looking.look(None) is None
        assert said == ["the job lrm-1 on Flink: http://flink/job"]
    introduce(notes)
    looking.look(None)
    assert len(said) == 1


def test_a_worker_of_another_version_ends_the_job(notes: Folder) -> None:
    other = replace(facts(), python="3.1.0", pid=1)
    notes.write_text(f"{WORKERS}/far-1.json", other.to_json())
    found = watching(notes, 60.0).look(None)
    assert found is not None
    assert found.what.startswith("workers have Python 3.1.0")


def test_no_worker_within_the_limit(notes: Folder) -> None:
    found = watching(notes, 1e-9).look(None)
    assert found is not None
    assert found.what.startswith(
        "no worker answered within 1e-09 s, and Flink says RUNNING: each task manager asks"
    )
    assert found.where == "http://flink/job"
    assert "--worker-timeout" in (found.fix or "")


def test_what_the_engine_says_ends_the_job_before_the_limit(notes: Folder) -> None:
    found = watching(notes, 600.0, BOOT, "older").look(None)
    assert found is not None
    assert found.what == "no worker starts: the program that starts workers ended by itself, with exit code 1"
    assert watching(notes, 600.0, "a.TimeoutException: Heartbeat of TaskManager with id x").look(None) is None
    assert watching(notes, 600.0, "nobody knows").look(None) is None


def test_once_workers_are_there_the_engine_tries_again_by_itself(notes: Folder) -> None:
    looking = watching(notes, 600.0, BOOT)
    introduce(notes)
    assert looking.look(None) is None
    assert looking.look(None) is None


def test_without_a_limit_nothing_is_looked_at(notes: Folder) -> None:
    notes.write_text(f"{WORKERS}/far-1.json", replace(facts(), python="3.1.0").to_json())
    assert watching(notes, 0.0, BOOT).look(None) is None


def test_a_folder_that_cannot_be_read_just_now_ends_nothing(
    notes: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def names(*_: object) -> list[str]:
        raise OSError("no answer")

    monkeypatch.setattr(Folder, "names", names)
    assert watching(notes, 60.0).look(None) is None
    assert isinstance(watching(notes, 1e-9).look(None), UserError)
