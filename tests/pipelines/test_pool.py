"""The workers of a job, and what is given out ahead."""

from __future__ import annotations

import operator
import threading
from dataclasses import dataclass, field

import pytest

from behavior.shards.storage import Folder
from pipelines.pool import Pool, Threads, pool_of, working


@dataclass
class AJob:
    notes: Folder = field(default_factory=lambda: Folder("notes"))

    def __add__(self, number: int) -> int:
        return 1_000 + number


def test_what_was_given_out_ahead_is_not_done_again() -> None:
    job, done = AJob(), []
    threads = Threads(2, job)
    pool = Pool(threads)

    def part(_: AJob, number: int) -> int:
        done.append(number)
        return number

    pool.ahead("a", part, 1)
    assert pool.taken("a", part, 2).result() == 1
    assert pool.taken("a", part, 3).result() == 3
    assert pool.submit(operator.add, 4).result() == 1_004
    threads.close()
    assert sorted(done) == [1, 3]


def test_a_job_has_its_pool_while_it_runs() -> None:
    job, other = AJob(), AJob(Folder("elsewhere"))
    with working(job, Threads(1, job)):
        assert pool_of(job) is pool_of(AJob())  # found by the folder: Beam hands on a copy
        assert pool_of(other) is None
    assert pool_of(job) is None
    with working(job, None):
        assert pool_of(job) is None


def test_an_error_leaves_what_waits_undone() -> None:
    job, begun, go, done = AJob(), threading.Event(), threading.Event(), []
    threads = Threads(1, job)

    def first(_: AJob) -> None:
        begun.set()
        go.wait(60)

    def fail() -> None:
        pool = pool_of(job)
        assert pool is not None
        pool.submit(first)
        pool.submit(lambda _: done.append(1))
        begun.wait(60)
        threading.Timer(0.1, go.set).start()
        raise RuntimeError("of the caller")

    with pytest.raises(RuntimeError), working(job, threads):
        fail()
    assert not done
