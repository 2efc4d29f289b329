"""Forked workers: other processes, whose results, errors and ends are seen by the caller."""

from __future__ import annotations

import operator
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import wait
from pathlib import Path

import pytest

from behavior.runtime import forks
from behavior.runtime.forks import Forks, WorkerDiedError, processes, start_ahead, started

PID = "__import__('os').getpid()"
SLOW = f"(__import__('time').sleep(0.2), {PID}, __import__('os').getppid())"
CALLER = """
import sys, time
from pathlib import Path
from behavior.runtime.forks import Forks
workers = Forks([])
code = "open(f, 'w').write(str(__import__('os').getpid())), __import__('time').sleep(600)"
workers.begin(2, code, len, Path(sys.argv[1], "log"))
for number in (1, 2):
    workers.submit(eval, {"f": f"{sys.argv[1]}/{number}.pid"})
time.sleep(600)
"""


def _await_others(path: str, own: int, number: int) -> int:
    """Return in one process once all are at it: none is done by a worker that did another."""
    folder = Path(path).parent
    (folder / f"{own}.here").touch()
    deadline = time.monotonic() + 60
    while len(list(folder.glob("*.here"))) < number and time.monotonic() < deadline:
        time.sleep(0.01)
    return os.getpid()


@pytest.fixture
def workers() -> Iterator[Forks]:
    found = Forks(["fractions"])
    yield found
    found.close()


def gone(pid: int) -> bool:
    """Whether a process has ended: soon, if it was told to."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            if "Z" in Path("/proc", str(pid), "stat").read_text().split():
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.01)
    return False


def test_calls_get_what_is_shared_and_give_results(workers: Forks, tmp_path: Path) -> None:
    workers.begin(2, 7, len, tmp_path / "log")  # which no number has: that is printed and passed over
    futures = [workers.submit(operator.mul, number) for number in range(20)]
    assert [future.result() for future in futures] == [7 * number for number in range(20)]
    assert "TypeError" in (tmp_path / "log").read_text()


def test_they_are_two_processes_forked_from_one(workers: Forks, tmp_path: Path) -> None:
    workers.begin(2, SLOW, len, tmp_path / "log")
    found = {future.result()[1:] for future in [workers.submit(eval) for _ in range(4)]}
    assert len(found) == 2
    assert len({parent for _, parent in found}) == 1
    assert os.getpid() not in {number for pair in found for number in pair}
    workers.close()
    assert all(gone(number) for pair in found for number in pair)


def test_modules_are_there_before_they_are_forked(workers: Forks, tmp_path: Path) -> None:
    workers.begin(2, "'fractions' in __import__('sys').modules", len, tmp_path / "log")
    assert workers.submit(eval).result()


def test_workers_do_without_pandas(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which Arrow imports at the first conversion, where it is installed."""
    (tmp_path / "pandas.py").write_text("raise RuntimeError('imported')")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    convert = "__import__('pyarrow').array(__import__('numpy').arange(3)).to_pylist()"
    usual = subprocess.run([sys.executable, "-c", convert], cwd=tmp_path, capture_output=True, text=True)
    assert "RuntimeError: imported" in usual.stderr
    workers = Forks(["numpy", "pyarrow"])
    workers.begin(1, convert, id, tmp_path / "log")
    assert workers.submit(eval).result() == [0, 1, 2]
    workers.close()


def test_an_error_is_that_of_the_call_and_others_go_on(workers: Forks, tmp_path: Path) -> None:
    workers.begin(2, 1, id, tmp_path / "log")
    with pytest.raises(ZeroDivisionError):
        workers.submit(operator.truediv, 0).result()
    assert workers.submit(operator.truediv, 2).result() == 0.5
    assert "ZeroDivisionError" in (tmp_path / "log").read_text()


def test_a_worker_that_dies_fails_its_call_and_all_to_come(workers: Forks, tmp_path: Path) -> None:
    workers.begin(2, 3, id, tmp_path / "log")
    with pytest.raises(WorkerDiedError, match="a worker process died"):
        workers.submit(os._exit).result()
    futures = [workers.submit(operator.mul, number) for number in range(4)]
    wait(futures, 60)
    assert all(isinstance(future.exception(), WorkerDiedError) for future in futures)


def test_killed_workers_end_whatever_they_are_at(workers: Forks, tmp_path: Path) -> None:
    workers.begin(2, f"open({str(tmp_path / 'pid')!r}, 'w').write(str({PID}))", len, tmp_path / "log")
    workers.submit(eval).result()
    slept = workers.submit(eval, {"f": "a builtin"})
    slept.result()
    pid = int((tmp_path / "pid").read_text())
    workers.kill()
    assert gone(pid)
    with pytest.raises(WorkerDiedError):
        workers.submit(eval).result(60)


def test_they_end_with_a_caller_that_is_killed(tmp_path: Path) -> None:
    caller = subprocess.Popen([sys.executable, "-c", CALLER, str(tmp_path)], start_new_session=True)
    try:
        deadline = time.monotonic() + 60
        while len(pids := [path.read_text() for path in tmp_path.glob("*.pid")]) < 2 or "" in pids:
            assert time.monotonic() < deadline
            assert caller.poll() is None
            time.sleep(0.02)
    finally:
        os.kill(caller.pid, signal.SIGKILL)
        caller.wait()
    assert all(gone(int(pid)) for pid in pids)


def test_those_started_ahead_are_taken_once() -> None:
    start_ahead(["fractions"])
    start_ahead(["fractions"])
    [ahead] = forks._ahead.values()
    other = started(["decimal"])
    taken = started(["fractions"])
    later = started(["fractions"])
    assert taken is ahead
    assert other is not ahead
    assert later is not ahead
    for workers in (taken, other, later):
        workers.close()


@pytest.mark.parametrize("number", [1, 70])
def test_any_number_of_workers(number: int, workers: Forks, tmp_path: Path) -> None:
    together = str(tmp_path / "{0}")
    workers.begin(number, together, id, tmp_path / "log")
    calls = [workers.submit(_await_others, each, number) for each in range(number)]
    assert len({call.result() for call in calls}) == number


def test_how_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forks, "FROM_CORES", 4)
    for cores, asked, expected in [(3, 0, 0), (4, 0, 4), (16, 0, 16), (2, 2, 2), (16, 1, 0), (1, 8, 8)]:
        monkeypatch.setenv("LRM_THREADS", str(cores))
        assert processes(asked) == expected


def test_files_of_the_working_folder_are_in_nobodys_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("queue", "random", "secrets"):
        (tmp_path / f"{module}.py").write_text("raise SystemExit('not the one that is meant')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    workers = Forks(["random"])
    workers.begin(1, 7, id, tmp_path / "log")
    assert workers.submit(operator.mul, 6).result(60) == 42
    workers.close()
