"""How many threads to compute with: the cores that this process may use, less what others keep busy.

Torch, BLAS and Arrow each make a pool of a thread a core. Where cores are shared, threads of a pool
wait for the one that has to share its core, and each step of them takes as long as that one.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import suppress
from functools import cache
from pathlib import Path

from behavior.errors import UserError

THREADS = "LRM_THREADS"
"""Environment variable: the number of threads, in place of what is free; started processes inherit it."""
POOLS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
"""What the libraries read when they are loaded. The first one is torch's and Arrow's, too, and that
of compiled loops, which threads of torch's number share; Numba's own pool is not used."""
_SECONDS = 0.1
"""How long others are watched."""


def limit_threads(environment: MutableMapping[str, str]) -> None:
    """Tell the libraries their number of threads, before they are loaded.

    That is `LRM_THREADS` where it is set. Otherwise what is set stays (`OMP_NUM_THREADS` is how `torchrun`
    and users tell all programs), and the rest becomes `free_cores()`.

    Args:
        environment: `os.environ`, which started processes inherit.

    Raises:
        UserError: `LRM_THREADS` is no number from 1 to 4096.
    """
    asked = _asked(environment)
    if asked is None and all(pool in environment for pool in POOLS):
        return
    threads = str(asked or environment.get(POOLS[0]) or free_cores())
    if threads.isdigit() and int(threads) < usable_cores():
        # The cores are shared, and others may come to want more of them: wait without keeping a core busy.
        environment.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    for pool in POOLS:
        environment[pool] = threads if asked else environment.get(pool, threads)


def thread_count(environment: Mapping[str, str]) -> int:
    """How many parts of a work to do at once: `LRM_THREADS`, or else `free_cores()` as first found.

    Raises:
        UserError: `LRM_THREADS` is no number from 1 to 4096.
    """
    return _asked(environment) or _free_cores_once()


@cache
def _free_cores_once() -> int:
    """Looking takes a tenth of a second, and later what this process does itself would count."""
    return free_cores()


def _asked(environment: Mapping[str, str]) -> int | None:
    asked = environment.get(THREADS)
    if not asked:
        return None
    if not asked.isascii() or not asked.isdigit() or not 1 <= int(asked) <= 4096:
        raise UserError(
            f"'{asked}' is no number of threads",
            where=f"--threads, or the environment variable {THREADS}",
            fix="use a number from 1 to 4096, or leave it out: as many as cores are free",
        )
    return int(asked)


def usable_cores() -> int:
    """Cores that this process may use, at least 1: by its affinity and the quotas of its control groups."""
    allowed = len(_affinity())
    return max(1, min(allowed, math.ceil(min(_quotas(Path("/")), default=allowed))))


def free_cores() -> int:
    """`usable_cores` less the cores that other programs keep busy now, at least 1.

    The load average of the last minute and the last tenth of a second must both say so: neither what has just
    ended counts, such as an earlier command, nor what is busy for a moment only.
    """
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    return _left(usable_cores(), len(_affinity()), load, lambda: _busy_now(Path("/proc/stat"), _SECONDS))


def _left(usable: int, allowed: int, load: float, busy_now: Callable[[], float]) -> int:
    # A quota may leave fewer of the allowed cores: those that are idle are used first.
    if round(allowed - load) < usable:
        load = min(load, busy_now())
    return max(1, min(usable, round(allowed - load)))


def _affinity() -> set[int]:
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))


def _quotas(root: Path) -> Iterator[float]:
    """Cores that the control groups of this process and those around them grant, version 2 and 1."""
    for line in _lines(root / "proc/self/cgroup"):
        _, controllers, path = line.split(":", 2)
        if not controllers:
            for folder in _upwards(root / "sys/fs/cgroup", path):
                yield from _quota(_words(folder / "cpu.max"))
        elif "cpu" in controllers.split(","):
            for folder in _upwards(root / "sys/fs/cgroup" / "cpu", path):
                names = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
                yield from _quota([word for name in names for word in _words(folder / name)])


def _upwards(mount: Path, path: str) -> Iterator[Path]:
    """A group's folder and those around it; in a container the mount itself is often the group."""
    parts = [part for part in path.split("/") if part not in ("", "..")]
    for count in range(len(parts), -1, -1):
        yield mount.joinpath(*parts[:count])


def _quota(words: list[str]) -> Iterator[float]:
    with suppress(ValueError, ZeroDivisionError):  # "max", or no such group
        quota, period = map(int, words)
        if quota > 0:
            yield quota / period


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


def _words(path: Path) -> list[str]:
    return " ".join(_lines(path)).split()


def _busy_now(path: Path, seconds: float) -> float:
    """Cores of those allowed that are busy, on average over some time; infinite where that is not told."""
    before = _times(path)
    time.sleep(seconds)
    shares = []
    for core, (busy, total) in _times(path).items():
        if core in before and total > before[core][1]:
            shares.append((busy - before[core][0]) / (total - before[core][1]))
    return sum(shares) if shares else math.inf


def _times(path: Path) -> dict[str, tuple[int, int]]:
    """Core -> clock ticks that it was busy, and all."""
    names = {f"cpu{core}" for core in _affinity()}
    found = {}
    for line in _lines(path):
        name, *ticks = line.split()
        if name in names and all(tick.isdigit() for tick in ticks) and len(ticks) >= 5:
            numbers = [int(tick) for tick in ticks[:8]]
            found[name] = (sum(numbers) - numbers[3] - numbers[4], sum(numbers))
    return found
