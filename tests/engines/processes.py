"""Processes of a cluster: started with a log each, ended with all that they have started."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).parents[2]
_MARK = "LRM_ENGINE_PROCESSES"


_RESERVED: list[socket.socket] = []


def free_ports(count: int) -> list[int]:
    """So many ports that nobody listens on, and nobody will before they are used.

    They are below those that the system gives to connections, and other processes of these tests are told:
    each port is a name among the abstract addresses of sockets, until this process ends.
    """
    first, found = 10_000, []
    last = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while len(found) < count:
        port = random.SystemRandom().randrange(first, max(last, first + 10_000))
        taken = socket.socket(socket.AF_UNIX)
        with socket.socket() as probe:
            try:
                taken.bind(f"\0lrm-engine-port-{port}")
                probe.bind(("", port))
            except OSError:
                taken.close()
                continue
        _RESERVED.append(taken)
        found.append(port)
    return found


def answers(port: int) -> bool:
    """Whether somebody listens on a port."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def wait_for(ready: Callable[[], bool], what: str, seconds: float = 120) -> None:
    """Wait until something is so; fail where it takes too long."""
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        time.sleep(0.1)


def marked(mark: str) -> list[int]:
    """Ids of the processes that have a mark."""
    wanted = f"{_MARK}={mark}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                if wanted in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
    return found


def end_marked(mark: str) -> None:
    """End the processes that have a mark, and those that they start meanwhile."""
    for _ in range(50):
        found = marked(mark)
        for process in found:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        if not found:
            break
        time.sleep(0.1)


class Processes:
    """All processes of one cluster, also those that its members start: their environment has a mark.

    Attributes:
        folder: for their logs.
        running: name -> process of those that were started here.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.running: dict[str, subprocess.Popen] = {}
        self._commands: dict[str, tuple[Sequence[str], Mapping[str, str] | None]] = {}
        self._mark = uuid.uuid4().hex
        # Ends them where this process is killed: its pipe is closed then.
        self._guard = subprocess.Popen(
            [sys.executable, "-m", __name__, self._mark],
            stdin=subprocess.PIPE,
            cwd=ROOT,
            start_new_session=True,
        )

    def start(
        self, name: str, command: Sequence[str], env: Mapping[str, str] | None = None
    ) -> subprocess.Popen:
        """Start a process; it ends with this one, however this one ends."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [str(part) for part in command],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                cwd=self.folder,
                env={**os.environ, **(env or {}), _MARK: self._mark},
                start_new_session=True,
            )
        self.running[name] = process
        self._commands[name] = command, env
        return process

    def mend(self) -> list[str]:
        """Start again those members of a cluster that have ended, as supervisors do; returns their names."""
        ended = [name for name, process in self.running.items() if process.poll() is not None]
        for name in ended:
            self.start(name, *self._commands[name])
        return ended

    def members(self) -> list[int]:
        """Ids of all that are there."""
        return marked(self._mark)

    def like(self, text: str) -> list[int]:
        """Ids of those whose command line holds a text."""
        found = []
        for member in self.members():
            with suppress(OSError):
                line = (
                    Path(f"/proc/{member}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                )
                if text in line:
                    found.append(member)
        return found

    def kill(self, name: str) -> None:
        """End one at once, for good."""
        self.lose(name)
        del self.running[name]

    def lose(self, name: str) -> None:
        """End one at once; `mend` starts it again."""
        process = self.running[name]
        process.kill()
        process.wait()

    def kill_like(self, text: str, in_vain: Callable[[], bool]) -> None:
        """End a process whose command line holds a text, as soon as there is one, or waiting is in vain."""
        found: list[int] = []

        def is_there() -> bool:
            found[:] = self.like(text)
            return bool(found) or in_vain()

        wait_for(is_there, text, 600)
        with suppress(ProcessLookupError, IndexError):
            os.kill(random.choice(found), signal.SIGKILL)

    def end(self) -> None:
        """End all."""
        for process in self.running.values():
            process.kill()
            process.wait()
        self.running.clear()
        end_marked(self._mark)
        self._guard.communicate()

    def logs(self, lines: int = 40) -> str:
        """The end of each log."""
        shown = []
        for path in sorted(self.folder.glob("*.log")):
            tail = path.read_text(errors="replace").splitlines()[-lines:]
            shown.append("\n".join([f"--- {path}", *tail]))
        return "\n".join(shown)


if __name__ == "__main__":
    sys.stdin.read()
    end_marked(sys.argv[1])
