"""`lrm` as a process of its own, which cuts files into small chunks."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from tests.engines.installed import ROOT

_PROGRAM = """
import pipelines.prepare

pipelines.prepare.MIN_CHUNK_BYTES = pipelines.prepare.CHUNK_BYTES = {size}

from cli.main import command

command()
"""


class Lrm:
    """A command that runs; ended with the block.

    Args:
        arguments: of `lrm`.
        log: file for what it prints.
        chunk: bytes of a chunk.
    """

    def __init__(self, *arguments: object, log: Path, chunk: int = 20_000) -> None:
        self.log = log
        self.began = time.monotonic()
        with log.open("ab") as opened:
            self.process = subprocess.Popen(
                [sys.executable, "-c", _PROGRAM.format(size=chunk), *map(str, arguments)],
                env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "300"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=opened,
                start_new_session=True,  # a signal reaches it alone
            )

    def __enter__(self) -> Lrm:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    @property
    def is_over(self) -> bool:
        """Whether it has ended."""
        return self.process.poll() is not None

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def end(self, seconds: float = 600) -> int:
        """Wait for its end; returns its exit code."""
        return self.process.wait(seconds)

    @property
    def left(self) -> list[int]:
        """Processes that it has started and that are still there."""
        found = []
        for place in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError):
                state, _, _, session = place.read_text().rpartition(") ")[2].split()[:4]
                if int(session) == self.process.pid and state != "Z":
                    found.append(int(place.parent.name))
        return found

    @property
    def seconds(self) -> float:
        """Since its start."""
        return time.monotonic() - self.began

    @property
    def said(self) -> str:
        """What it printed on standard error."""
        return self.log.read_text(errors="replace")
