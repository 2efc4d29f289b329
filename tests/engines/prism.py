"""Prism, Beam's runner in Go."""

from __future__ import annotations

from pathlib import Path

from tests.engines.installed import PRISM
from tests.engines.processes import Processes, answers, free_ports, wait_for


class PrismServer:
    """Starts, and runs until `end`. The process that starts a job is its worker, too.

    Attributes:
        runner: Beam's own for this engine.
        known_there: options of Beam that only the server knows.

    Args:
        folder: for its log.
    """

    runner = "PrismRunner"
    known_there = ()

    def __init__(self, folder: Path) -> None:
        self.processes = Processes(folder)
        [self.job] = free_ports(1)
        self.processes.start("prism", [str(PRISM), "-job_port", str(self.job), "-serve_http=false"])

    def wait(self) -> None:
        """Until jobs can be sent."""
        wait_for(lambda: answers(self.job), "Prism")

    def mend(self) -> None:
        """Start it again if it has been killed."""
        self.processes.mend()
        self.wait()

    def options(self) -> list[str]:
        """Options of Beam that run a job here."""
        return [f"--job_endpoint=localhost:{self.job}", "--environment_type=LOOPBACK"]

    def by_path(self, folder: Path) -> list[str]:
        """The same with a server that is started from its program."""
        return [f"--prism_location={PRISM}"]

    def end(self) -> None:
        """End all processes."""
        self.processes.end()
