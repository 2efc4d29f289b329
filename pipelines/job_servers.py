"""Runners of Beam's that start a job server of their own where none is named: only from a program that is
there, never from one that they would download."""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability.api import beam_job_api_pb2, beam_job_api_pb2_grpc
from apache_beam.runners.portability.flink_runner import FlinkJarJobServer
from apache_beam.runners.portability.spark_runner import SparkJarJobServer
from apache_beam.utils.subprocess_server import SubprocessServer

from behavior.errors import UsageError
from pipelines.option_values import value_of

_PROGRAMS = {
    "prismrunner": ("--prism_location", "its program"),
    "flinkrunner": ("--flink_job_server_jar", "its job server"),
    "sparkrunner": ("--spark_job_server_jar", "its job server"),
}
_SERVERS: dict[str, Any] = {"flinkrunner": FlinkJarJobServer, "sparkrunner": SparkJarJobServer}
_SECONDS_TO_ANSWER = 60.0
_SECONDS_TO_END = 5.0


def check_program(name: str, options: Sequence[str]) -> None:
    """Refuse a runner that would download what it needs.

    Args:
        name: of the runner, any.
        options: Beam's.

    Raises:
        UsageError: it would.
    """
    flag, what = _PROGRAMS.get(name.lower(), ("", ""))
    if not flag or value_of(options, "--job_endpoint") is not None:
        return
    given = value_of(options, flag)
    if given is not None and Path(given).is_file():
        return
    raise UsageError(
        f"{name} cannot be used: it would download {what}" + (f", '{given}' is no file" if given else ""),
        where="--runner",
        fix=f"name the program on this machine (-- {flag}=PATH) or the address where it runs "
        "(-- --job_endpoint=HOST:PORT): docs/deploy.md says how to get it; or use local",
    )


def options_of_program(name: str, options: Sequence[str]) -> set[str]:
    """What the job server knows that a runner starts; nothing where it starts none that can be asked.

    It is started for that, which takes seconds: for options that the SDK does not know.

    Raises:
        UsageError: it does not start.
    """
    kind = _SERVERS.get(name.lower())
    if kind is None or value_of(options, "--job_endpoint") is not None:
        return set()
    with tempfile.TemporaryDirectory(prefix="lrm-job-server-") as folder:
        server = kind(PipelineOptions([*options, f"--artifacts_dir={folder}/artifacts"]))
        given, endpoint = server.subprocess_cmd_and_endpoint()
        command = [str(part) for part in given]
        log = Path(folder, "log")
        with log.open("wb") as opened:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=opened, stderr=subprocess.STDOUT
            )
        try:
            return _asked(endpoint, process)
        except TimeoutError:
            said = log.read_text(errors="replace").strip().splitlines() or [f"{command[0]} says nothing"]
            raise UsageError(
                f"the job server does not start: {said[-1]}",
                where=_PROGRAMS[name.lower()][0],
                fix="see what 'java -jar' says of it",
            ) from None
        finally:
            process.kill()
            process.wait()


def end_started() -> None:
    """End the job servers that Beam has started, which it does itself only where Python ends in its own way.

    Beam's cache of its subprocesses is the only place to learn of them.
    """
    started = [entry.obj[0] for entry in list(SubprocessServer._cache._cache.values())]
    for process in started:
        process.terminate()
    deadline = time.monotonic() + _SECONDS_TO_END
    for process in started:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()


def _asked(endpoint: str, process: subprocess.Popen) -> set[str]:
    """Raises TimeoutError where the process has ended or does not answer in time."""
    request = beam_job_api_pb2.DescribePipelineOptionsRequest()
    deadline = time.monotonic() + _SECONDS_TO_ANSWER
    with grpc.insecure_channel(endpoint) as channel:
        server = beam_job_api_pb2_grpc.JobServiceStub(channel)
        while process.poll() is None and time.monotonic() < deadline:
            with suppress(grpc.RpcError):
                found = server.DescribePipelineOptions(request, timeout=1.0, wait_for_ready=True)
                return {f"--{option.name}" for option in found.options}
    raise TimeoutError
