"""What a process finds out about itself: versions, cores, memory, compiled code, and folders that it sees."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import platform
import socket
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from behavior.errors import UserError
from behavior.runtime.code_cache import CodeCache
from behavior.runtime.compiled import compiled
from behavior.runtime.cores import usable_cores
from behavior.runtime.versions import OWN, installed_version
from behavior.shards.remote import open_system, storage_errors
from behavior.shards.storage import Folder

SAME = (OWN, "apache-beam", "pyarrow", "numba", "numpy")
"""Packages whose versions should be those of the machine that starts the job."""
EXTRAS = ("torch", "gcsfs", "s3fs")
"""Packages that some jobs need."""
_POOL = "worker_pool_main"
_OWN_PACKAGES = ("behavior", "pipelines")


@dataclass(frozen=True)
class Place:
    """A file or folder, as one process sees it.

    Attributes:
        path: of the input, or of `--out`.
        use: `read` or `write`.
        problem: what is wrong; empty where nothing is.
        fix: what to do about it.
    """

    path: str
    use: str
    problem: str = ""
    fix: str = ""


@dataclass(frozen=True)
class Facts:
    """About one process.

    Attributes:
        host, pid: which it is.
        worker: the name that the engine gave the worker; empty where none did.
        pool: the worker pool that started it, as host and process id; empty where none did.
        python: version.
        versions: of `SAME` and `EXTRAS`; None: not installed.
        code: digest of the source of this package.
        cores: that it may use.
        memory: bytes that it may use.
        compiled: how Numba's code came about: `kept` on disk, `not kept`, or what failed.
        places: what it sees of the folders that it was asked about.
    """

    host: str
    pid: int
    worker: str
    pool: str
    python: str
    versions: dict[str, str | None]
    code: str
    cores: int
    memory: int
    compiled: str
    places: list[Place] = field(default_factory=list)

    def to_json(self) -> str:
        """One line."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Facts:
        """What `to_json` made."""
        record = json.loads(text)
        return cls(**{**record, "places": [Place(**place) for place in record["places"]]})


KEPT, NOT_KEPT = "kept", "not kept"


def facts(places: Sequence[Place] = ()) -> Facts:
    """Of this process."""
    return Facts(
        host=socket.gethostname(),
        pid=os.getpid(),
        worker=_worker_name(),
        pool=_pool(),
        python=platform.python_version(),
        versions={name: installed_version(name) for name in (*SAME, *EXTRAS)},
        code=_code(),
        cores=usable_cores(),
        memory=_memory(),
        compiled=_compiles(),
        places=list(places),
    )


def reads(path: str) -> Place:
    """Whether this process can read a file or folder, be it a glob."""
    try:
        with storage_errors():
            system, place = open_system(path if "://" in path else os.path.abspath(path))
            found = system.glob(place) if "*" in path else [place] if system.exists(place) else []
            if not found:
                raise FileNotFoundError(errno.ENOENT, "No such file or folder")
            if "*" in path or not system.isdir(place):
                with system.open(found[0], "rb") as file:
                    file.read(1)
            else:
                system.ls(place)
    except (OSError, UserError) as error:
        return _wrong(path, "read", error)
    return Place(path, "read")


def writes(folder: Folder, seen: str, token: str) -> Place:
    """Whether this process can write to a folder, and finds there what the starting machine has written.

    Args:
        folder: where.
        seen: name of the file that lies there.
        token: its content.
    """
    path = str(folder)
    try:
        if not folder.exists(seen) or folder.read_text(seen) != token:
            return Place(
                path,
                "write",
                "a worker does not see what this machine writes there",
                "name a folder that all workers see under the same path: an object store, or a mounted one",
            )
        folder.write_text(f"{token}/{socket.gethostname()}-{os.getpid()}.txt", token)
    except (OSError, UserError) as error:
        return _wrong(path, "write", error)
    return Place(path, "write")


def _wrong(path: str, use: str, error: Exception) -> Place:
    if isinstance(error, UserError):
        return Place(path, use, error.what, error.fix or "")
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    if isinstance(error, FileNotFoundError):
        fix = "a path must be the same on all workers: name it by URL, or mount it"
    else:
        fix = "give the workers' own account the right: it is not that of this machine"
    return Place(path, use, reason, fix)


@compiled
def _sum(values: np.ndarray) -> int:
    total = 0
    for value in values:
        total += value
    return total


@cache
def _compiles() -> str:
    try:
        if _sum(np.arange(4)) != 6:
            return "compiled code computes something else"
        cache = getattr(_sum, "_cache", None)
        return KEPT if isinstance(cache, CodeCache) and cache.kept() else NOT_KEPT
    except Exception as error:  # whatever a compiler raises
        return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"


@cache
def _code() -> str:
    """Versions say little of a checkout: the files themselves."""
    digest, root = hashlib.sha256(), Path(__file__).parents[2]
    for package in _OWN_PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]


def _memory() -> int:
    """Of the machine, or what the control groups leave of it."""
    found = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        try:
            limit = (Path("/sys/fs/cgroup") / name).read_text().strip()
        except OSError:
            continue
        if limit.isdigit():
            found = min(found, int(limit))
    return found


def _worker_name() -> str:
    """As the boot program tells it, or as a worker pool writes it into the command line."""
    told = os.environ.get("WORKER_ID")
    if told:
        return told
    _, found, rest = " ".join(sys.orig_argv).partition('worker_id="')
    return rest.partition('"')[0] if found else ""


def _pool() -> str:
    """The worker pool among the processes above this one, on Linux."""
    process = os.getpid()
    for _ in range(8):
        try:
            command = Path(f"/proc/{process}/cmdline").read_bytes()
            status = Path(f"/proc/{process}/stat").read_text()
        except OSError:
            return ""
        if _POOL.encode() in command:
            return f"{socket.gethostname()}:{process}"
        process = int(status.rpartition(")")[2].split()[1])
    return ""


def summary_of(found: Facts) -> dict[str, Any]:
    """What distinguishes a kind of worker from another: all but which process it is."""
    record = asdict(found)
    for name in ("pid", "worker", "pool"):
        record.pop(name)
    return record
