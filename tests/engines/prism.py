"""Prism, Beam's runner in Go."""

from __future__ import annotations

from pathlib import Path

from tests.engines.installed import PRISM
from tests.engines.processes import Processes, answers, free_ports, wait_for


class PrismServer:
    """Starts, and runs until `end`. The process that starts a job is its worker, too.

    Args:
        folder: for its log.
    """

    def __init__(self, folder: Path) -> None:
        self.processes = Processes(folder)
        [self.job] = free_ports(1)
        self.processes.start("prism", [str(PRISM), "-job_port", str(self.job), "-serve_http=false"])

    def wait(self) -> None:
        """Until jobs can be sent."""
        wait_for(lambda: answers(self.job), "Prism")

    def options(self) -> list[str]:
        """Options of Beam that run a job here."""
        return [f"--job_endpoint=localhost:{self.job}", "--environment_type=LOOPBACK"]

    def end(self) -> None:
        """End all processes."""
        self.processes.end()
