"""The workers of a local run, and what a local run leaves to them."""

from __future__ import annotations

import operator
import threading
from collections.abc import Callable
from concurrent.futures import Future, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import pipelines.local
from behavior.errors import UserError
from behavior.shards.storage import Folder
from pipelines.crashed import JobCrashError
from pipelines.pool import Alone, Threads, working
from pipelines.prepare import prepare
from pipelines.runner import RunnerOptions
from tests.pipelines.conftest import make_spec


@dataclass
class AJob:
    notes: Folder = field(default_factory=lambda: Folder("notes"))

    def __add__(self, number: int) -> int:
        return 1_000 + number


@pytest.mark.parametrize("number", [0, 1, 3])
def test_parts_are_called_with_the_job(number: int) -> None:
    job = AJob()
    with working(Threads(number, job) if number else Alone(job)) as workers:
        parts = [workers.submit(operator.add, n) for n in range(5)]
        assert sorted(part.result() for part in as_completed(parts)) == [1_000, 1_001, 1_002, 1_003, 1_004]
        with pytest.raises(TypeError):
            workers.submit(operator.add, "x").result()


def test_an_error_leaves_what_waits_undone() -> None:
    job, begun, go, done = AJob(), threading.Event(), threading.Event(), []
    threads = Threads(1, job)

    def first(_: AJob) -> None:
        begun.set()
        go.wait(60)

    def fail() -> None:
        threads.submit(first)
        threads.submit(lambda _: done.append(1))
        begun.wait(60)
        threading.Timer(0.1, go.set).start()
        raise RuntimeError("of the caller")

    with pytest.raises(RuntimeError), working(threads):
        fail()
    assert not done


@pytest.mark.parametrize("workers", [1, 0])
@pytest.mark.parametrize("part", ["read_whole_group", "merge_counts", "users", "write_and_clear", "tables"])
def test_a_part_that_fails_fails_the_job(
    part: str, workers: int, raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever it is: a user's error as it is, anything else as a crash."""
    monkeypatch.setattr("pipelines.runner._cores", lambda: 2)
    monkeypatch.setattr(pipelines.local, "MERGED", 1)
    runner = RunnerOptions(workers=workers)
    for error, told in (
        (UserError("of the user's"), "of the user's"),
        (KeyError("x"), "the job failed: Key"),
    ):

        def fail(*_: object, error: Exception = error) -> None:
            raise error

        with monkeypatch.context() as patch:
            patch.setattr(pipelines.local, part, fail)
            with pytest.raises(UserError, match=told) as raised:
                prepare(make_spec(), str(raw), tmp_path / "out", runner=runner)
        assert isinstance(raised.value, JobCrashError) == isinstance(error, KeyError)
    prepare(make_spec(), str(raw), tmp_path / "out", runner=runner)


def test_ctrl_c_within_compiled_code_is_one(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There it comes out as the cause of another error."""

    def fail(*_: object) -> None:
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt as error:
            raise SystemError("returned a result with an exception set") from error

    monkeypatch.setattr(pipelines.local, "sort_and_count", fail)
    with pytest.raises(KeyboardInterrupt):
        prepare(make_spec(), str(raw), tmp_path / "out", runner=RunnerOptions(workers=1))


def test_one_worker_raises_at_once() -> None:
    workers = Alone(AJob())
    with pytest.raises(ZeroDivisionError):
        workers.submit(lambda _, given: 1 // given, 0)


class Sizes:
    def size(self, name: str) -> int:
        return int(name.partition("/")[2].partition(".")[0])


@pytest.mark.parametrize("known_after", [0, 1, 5, 8])
def test_sequences_are_written_until_the_users_are_known(known_after: int) -> None:
    """The largest first, and the tables as soon as they can be made."""
    known: Future = Future()
    given: list[object] = []

    class Noting:
        def submit(self, function: Callable[..., object], *arguments: object) -> Future:
            future: Future = Future()
            if function is pipelines.local.write_and_clear:
                given.append(arguments[0])
                future.set_result(None if arguments[0] == 3 else arguments[0])
            else:
                given.append(function.__name__)
                future.set_result(arguments)
            if len(given) == known_after:
                known.set_result("users")
            return future

    job: Any = SimpleNamespace(work=Sizes())
    stages = pipelines.local._Stages(job, Noting(), at_once=1)
    if known_after == 0:
        known.set_result("users")
    report, written = stages._write(list(range(8)), "items", known, None)
    assert report == ("items", "users")
    assert written == [7, 6, 5, 4, 2, 1, 0]
    tables_at = given.index("tables")
    assert max(2, known_after) <= tables_at <= max(2, known_after + 2)
    assert given == [*range(7, 7 - tables_at, -1), "tables", *range(7 - tables_at, -1, -1), "clear_events"]
