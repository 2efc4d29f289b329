"""Claims of runs in a folder that several processes, on several machines, share: nobody runs one twice.

A claim is a file that only one process can make (`O_EXCL`). Whoever holds it touches it every few seconds;
one that was not touched for long, or whose process is gone, is stale, and taken over by making the file of
the next generation, which again only one can do. Ages are told by the folder's own clock:
those of machines may differ. What is done the results say, which are looked at again once a claim is made.
"""

from __future__ import annotations

import json
import os
import socket
import uuid
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

STALE_SECONDS = 60.0
"""After so long without a sign of life a claim of another machine is taken over."""


@dataclass(frozen=True)
class Claim:
    """One that this process holds."""

    folder: Path
    name: str
    generation: int
    """From 1; above it, so many before gave up or were ended."""
    token: str

    @property
    def path(self) -> Path:
        return _file(self.folder, self.name, self.generation)

    def beat(self) -> bool:
        """Show a sign of life; false where somebody has taken the claim over."""
        if _file(self.folder, self.name, self.generation + 1).exists():
            return False
        try:
            os.utime(self.path)
        except FileNotFoundError:
            return False
        return True

    def release(self) -> None:
        """Give it up, with those of before."""
        for generation in range(1, self.generation + 1):
            with suppress(FileNotFoundError):
                _file(self.folder, self.name, generation).unlink()


@dataclass
class Claims:
    """The claims in a folder.

    Args:
        folder: made where missing.
        stale_seconds: see `STALE_SECONDS`.
    """

    folder: Path
    stale_seconds: float = STALE_SECONDS
    token: str = field(default_factory=lambda: uuid.uuid4().hex)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)

    def claim(self, name: str) -> Claim | None:
        """Claim a run; None where another process works on it."""
        generation, before = self._latest(name), None
        if generation:
            before = _content(_file(self.folder, name, generation))
            if not self._is_stale(name, generation, before):
                return None
        claim = Claim(self.folder, name, generation + 1, self.token)
        if not self._make(claim):
            return None
        # Somebody may have released the stale claim in between, and another one begun at its number.
        below = _content(_file(self.folder, name, generation)) if generation else None
        if self._latest(name) != claim.generation or (below is not None and below != before):
            with suppress(FileNotFoundError):
                claim.path.unlink()
            return None
        return claim

    def holder(self, name: str) -> dict[str, Any] | None:
        """Who works on a run; None where nobody does."""
        generation = self._latest(name)
        content = _content(_file(self.folder, name, generation)) if generation else None
        return None if not generation or self._is_stale(name, generation, content) else content or {}

    def _latest(self, name: str) -> int:
        numbers = [path.suffix[1:] for path in self.folder.glob(f"{name}.*")]
        return max((int(number) for number in numbers if number.isdigit()), default=0)

    def _make(self, claim: Claim) -> bool:
        about = {"token": claim.token, **this_process()}
        try:
            handle = os.open(claim.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        except FileExistsError:
            return False
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(json.dumps(about))
        return True

    def _is_stale(self, name: str, generation: int, content: dict[str, Any] | None) -> bool:
        if content is not None and is_gone(content):
            return True
        try:
            touched = _file(self.folder, name, generation).stat().st_mtime
        except FileNotFoundError:  # released just now: whoever wants it looks again
            return False
        return self._now() - touched > self.stale_seconds

    def _now(self) -> float:
        """By the clock that files of the folder are stamped with."""
        clock = self.folder / f".clock-{self.token}"
        clock.touch()
        now = clock.stat().st_mtime
        clock.unlink(missing_ok=True)
        return now


def this_process() -> dict[str, Any]:
    """What tells this process from all others, on this machine and elsewhere."""
    return {
        "host": socket.gethostname(),
        "place": _place(),
        "pid": os.getpid(),
        "started": _started(os.getpid()),
    }


def is_gone(process: dict[str, Any]) -> bool:
    """Whether a process that `this_process` described has ended; false where that is not to be seen."""
    place, pid = process.get("place"), process.get("pid")
    if not place or place != _place() or not isinstance(pid, int):
        return False
    return _started(pid) != process.get("started")


def _place() -> str:
    """The kernel that runs, and the process numbers that are seen; empty where the system does not tell."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _started(pid: int) -> str | None:
    """When a process began; None where it is none, or has ended and was not yet waited for."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in ("Z", "X") else fields[19]


def _file(folder: Path, name: str, generation: int) -> Path:
    return folder / f"{name}.{generation}"


def _content(path: Path) -> dict[str, Any] | None:
    """None where there is no such file, or it is being written."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None
