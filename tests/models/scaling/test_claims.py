"""Claims in a shared folder: one holder at a time, and stale ones taken over by one."""

from __future__ import annotations

import json
import multiprocessing
import os
import threading
import time
from pathlib import Path

import pytest

from models.scaling.claims import Claims, is_gone, this_process

ELSEWHERE = {"token": "t", "host": "another", "place": "another kernel", "pid": 1, "started": "1"}


def left_behind(folder: Path, name: str, generation: int, *, age: float, about: dict | None = None) -> None:
    """A claim that nobody touches any more."""
    path = folder / f"{name}.{generation}"
    path.write_text(json.dumps(about or ELSEWHERE))
    os.utime(path, (time.time() - age, time.time() - age))


def test_a_run_is_claimed_once_and_again_when_it_was_released(tmp_path: Path) -> None:
    ours, theirs = Claims(tmp_path), Claims(tmp_path)
    claim = ours.claim("run")
    assert claim is not None
    assert theirs.claim("run") is None
    assert theirs.claim("other") is not None
    assert claim.beat()
    claim.release()
    assert not claim.beat()
    again = theirs.claim("run")
    assert again is not None
    assert again.generation == 1


def test_a_stale_claim_is_taken_over_by_one(tmp_path: Path) -> None:
    """Of another machine by its age; sixteen who want it at the same moment."""
    left_behind(tmp_path, "old", 1, age=100)
    left_behind(tmp_path, "fresh", 1, age=10)
    many = [Claims(tmp_path, stale_seconds=60) for _ in range(16)]
    assert all(claims.claim("fresh") is None for claims in many)
    found, gate = [], threading.Barrier(len(many))

    def want(claims: Claims) -> None:
        gate.wait()
        found.append(claims.claim("old"))

    threads = [threading.Thread(target=want, args=(claims,)) for claims in many]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    held = [claim for claim in found if claim is not None]
    assert len(held) <= 1  # two may get in each other's way, and both look again
    taken = held[0] if held else many[0].claim("old")
    assert taken is not None
    assert taken.generation == 2
    assert many[1].claim("old") is None
    taken.release()
    assert not list(tmp_path.glob("old.*"))


def test_whoever_was_taken_over_learns_of_it_and_harms_nobody(tmp_path: Path) -> None:
    slow = Claims(tmp_path).claim("run")
    assert slow is not None
    left_behind(tmp_path, "run", 1, age=100)  # as if it had slept
    quick = Claims(tmp_path).claim("run")
    assert quick is not None
    assert not slow.beat()
    slow.release()
    assert quick.beat()
    assert Claims(tmp_path).claim("run") is None


def test_the_claim_of_a_process_that_ended_here_is_stale_at_once(tmp_path: Path) -> None:
    """Killed, it could not release it; another one with its number, later, is not it."""
    queue: multiprocessing.SimpleQueue = multiprocessing.get_context("fork").SimpleQueue()
    child = multiprocessing.get_context("fork").Process(target=_claim_and_hang, args=(tmp_path, queue))
    child.start()
    about = queue.get()
    assert not is_gone(about)
    assert Claims(tmp_path).claim("run") is None
    child.kill()
    child.join()
    assert is_gone(about)
    taken = Claims(tmp_path).claim("run")
    assert taken is not None
    assert taken.generation == 2
    assert is_gone({**this_process(), "started": "1"})
    assert not is_gone(ELSEWHERE)  # nothing is known of it here


def _claim_and_hang(folder: Path, queue: multiprocessing.SimpleQueue) -> None:
    assert Claims(folder).claim("run") is not None
    queue.put(this_process())
    time.sleep(60)


def test_one_released_and_begun_again_in_between_is_not_run_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stale claim goes, and somebody begins at its number, just before we make the next one."""
    left_behind(tmp_path, "run", 1, age=100)
    ours, theirs = Claims(tmp_path), Claims(tmp_path)
    make, held = ours._make, []

    def late(claim: object) -> bool:
        (tmp_path / "run.1").unlink()
        held.append(theirs.claim("run"))
        return make(claim)  # type: ignore[arg-type]

    monkeypatch.setattr(ours, "_make", late)
    assert ours.claim("run") is None
    assert held[0] is not None
    assert held[0].beat()
