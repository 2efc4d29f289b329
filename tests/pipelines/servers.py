"""Beam's own servers in processes of their own: what a job on an engine needs, without the engine."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def serving(module: str, flag: str, folder: Path, *more: str) -> Iterator[str]:
    """A server of Beam's, while the block runs, with more flags; its address."""
    port = free_port()
    # A pool starts `python`: it must be the one that has the packages.
    env = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"}
    if "PYTHONPATH" in os.environ:  # the packages of another checkout than the installed one
        env["PYTHONPATH"] = os.environ["PYTHONPATH"]
    with (folder / f"{module}.log").open("w") as file:
        command = [sys.executable, "-m", module, f"{flag}={port}", *more]
        process = subprocess.Popen(command, stdout=file, stderr=file, cwd=folder, env=env)
    address, deadline = f"localhost:{port}", time.monotonic() + 60
    try:
        while not _answers(address):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        yield address
    finally:
        process.terminate()
        process.wait()


@contextmanager
def worker_pool(folder: Path, program: Path | None = None) -> Iterator[str]:
    """A service that starts worker processes, as clusters run it beside their machines.

    Args:
        folder: for its log.
        program: that it starts as a worker; default: Beam's, within the pool's own `python`.
    """
    module = "apache_beam.runners.worker.worker_pool_main"
    more = [] if program is None else [f"--container_executable={program}"]
    with serving(module, "--service_port", folder, *more) as address:
        yield address


def lrm_worker(folder: Path) -> Path:
    """The program `lrm-worker`, as pip makes it."""
    program = folder / "lrm-worker"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m pipelines.boot "$@"\n')
    program.chmod(0o755)
    return program


@contextmanager
def job_server(folder: Path) -> Iterator[str]:
    """A job server that runs jobs in its own process, whoever has started them."""
    module = "apache_beam.runners.portability.local_job_service_main"
    with serving(module, "--port", folder) as address:
        yield address


def _answers(address: str) -> bool:
    host, _, port = address.partition(":")
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) == 0
