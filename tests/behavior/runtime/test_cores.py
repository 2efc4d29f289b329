"""The number of threads: what the system grants, what others leave, what was asked for."""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest

from behavior.errors import UserError
from behavior.runtime import cores


def _write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize(
    ("files", "quotas"),
    [
        ({}, []),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n"}, []),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "150000 100000\n"}, [1.5]),
        # The quota of a group around this one holds, too.
        (
            {
                "proc/self/cgroup": "0::/a/b\n",
                "sys/fs/cgroup/a/b/cpu.max": "max 100000\n",
                "sys/fs/cgroup/a/cpu.max": "400000 100000\n",
            },
            [4.0],
        ),
        # Version 1, where -1 is no quota, and one without a controller of the CPU.
        (
            {
                "proc/self/cgroup": "4:memory:/x\n3:cpu,cpuacct:/docker/x\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "250000\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
                "sys/fs/cgroup/cpu/docker/x/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/docker/x/cpu.cfs_period_us": "100000\n",
            },
            [2.5],
        ),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "nonsense\n"}, []),
    ],
)
def test_quotas_of_control_groups(files: dict[str, str], quotas: list[float], tmp_path: Path) -> None:
    assert list(cores._quotas(_write(tmp_path, files))) == quotas


@pytest.mark.parametrize(
    ("usable", "allowed", "load", "busy", "left"),
    [
        (8, 8, 0.2, math.inf, 8),  # idle: nothing is watched
        (2, 2, 1.1, 1.0, 1),
        (2, 2, 9.0, 2.0, 1),  # one is always left
        (8, 8, 6.0, 0.1, 8),  # what made the load has ended
        (8, 8, 0.0, 8.0, 8),  # busy for a moment
        (8, 8, 3.2, math.inf, 5),  # the moment is not told on this system
        (2, 64, 30.0, 30.0, 2),  # a quota, and idle cores enough
        (2, 64, 63.4, 63.0, 1),
    ],
)
def test_what_others_leave(usable: int, allowed: int, load: float, busy: float, left: int) -> None:
    assert cores._left(usable, allowed, load, lambda: busy) == left


def test_busy_cores_are_those_whose_clock_ticks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Idle time and waiting for disks are not busy; of cores that this process may not use none counts."""
    monkeypatch.setattr(cores, "_affinity", lambda: {0, 2})
    stat = tmp_path / "stat"
    stat.write_text("cpu 9 9 9 9 9\ncpu0 10 0 10 100 0 0 0 0 5\ncpu1 0 0 0 0 0 0 0\ncpu2 0 0 0 50 50 0 0 0\n")
    later = "cpu0 20 0 20 100 0 0 0 0 9\ncpu1 99 0 0 0 0 0 0\ncpu2 5 0 0 60 55 0 0 0\n"
    monkeypatch.setattr(cores.time, "sleep", lambda _: stat.write_text(later))
    assert cores._busy_now(stat, 0.1) == 1.0 + 5 / 20
    assert cores._busy_now(tmp_path / "none", 0.1) == math.inf


def test_this_process_may_use_what_it_is_allowed() -> None:
    assert 1 <= cores.free_cores() <= cores.usable_cores() <= (os.cpu_count() or 1)


def test_who_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cores, "free_cores", lambda: 5)
    monkeypatch.setattr(cores, "usable_cores", lambda: 5)
    nothing: dict[str, str] = {}
    cores.limit_threads(nothing)
    assert nothing == dict.fromkeys(cores.POOLS, "5")
    of_all = {"OMP_NUM_THREADS": "3"}
    cores.limit_threads(of_all)
    # Where some cores are left to others, threads wait without keeping theirs busy.
    assert of_all == dict.fromkeys(cores.POOLS, "3") | {"OMP_WAIT_POLICY": "PASSIVE"}
    of_one = {"MKL_NUM_THREADS": "1"}
    cores.limit_threads(of_one)
    assert of_one == dict.fromkeys(cores.POOLS, "5") | {"MKL_NUM_THREADS": "1"}
    asked = {"OMP_NUM_THREADS": "3", cores.THREADS: "7"}
    cores.limit_threads(asked)
    assert asked == dict.fromkeys([*cores.POOLS, cores.THREADS], "7")
    assert cores.thread_count(asked) == 7
    cores._free_cores_once.cache_clear()
    try:
        assert cores.thread_count(of_all) == 5
        monkeypatch.setattr(cores, "free_cores", lambda: 3)
        assert cores.thread_count(of_all) == 5  # a process looks once
        assert cores.thread_count(asked) == 7
    finally:
        cores._free_cores_once.cache_clear()
    for wrong in ("0", "many", "-1", "1.5", "99999"):
        with pytest.raises(UserError, match="number of threads"):
            cores.limit_threads({cores.THREADS: wrong})
