"""Jobs in processes: what ends them, and which GPU each sees."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

from models.experiments.pool import as_done

Did = tuple[int, int, str | None]


def job(number: int) -> Did:
    """Its number, its process and the GPU that this one sees."""
    if number == 3:
        raise ValueError("the third one fails")
    time.sleep(0.05)
    return number, os.getpid(), os.environ.get("CUDA_VISIBLE_DEVICES")


def test_each_process_sees_its_gpu_and_no_job_begins_once_one_has_failed() -> None:
    asked, failures, found = [], [], []

    def until_one_fails() -> Iterator[int]:
        for number in range(50):
            if failures:
                return
            asked.append(number)
            yield number

    for done in as_done(job, until_one_fails(), ["4", "GPU-7"]):
        error = done.exception()
        if error is not None:
            failures.append(error)
        else:
            found.append(done.result())
    assert [str(error) for error in failures] == ["the third one fails"]
    assert sorted(number for number, _, _ in found) == [number for number in asked if number != 3]
    assert 4 <= len(asked) < 50
    assert {place for _, _, place in found} <= {"4", "GPU-7"}
    assert all(process != os.getpid() for _, process, _ in found)


def test_no_jobs_are_no_processes() -> None:
    assert list(as_done(job, [], [None])) == []
