"""How an engine starts workers, by Beam's options, and what of that can be looked at from here."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from pipelines.checkup.pool import ANSWERS, SILENT, UNREACHABLE, ask_pool, is_local
from pipelines.engines.causes import BOOT_ADVICE
from pipelines.option_values import WORKER, value_of, with_worker

_SECONDS_FOR_A_WORKER = 20.0
_IMPORTS = "import apache_beam, behavior, pipelines"


def why_silent(options: Sequence[str]) -> tuple[str, str]:
    """Why workers may not answer, and what to do: as precise as it can be told from this machine.

    It may take half a minute: a worker pool of this machine is asked for a worker.
    """
    options = with_worker(options)
    kind = (value_of(options, "--environment_type") or "DOCKER").upper()
    config = value_of(options, "--environment_config") or ""
    if kind == "EXTERNAL":
        return _external(config)
    if kind == "PROCESS":
        return _process(config)
    if kind == "LOOPBACK":
        return (
            "this process is the worker, and the engine's machines must reach it",
            "use LOOPBACK for an engine on this machine alone; else PROCESS, EXTERNAL or DOCKER",
        )
    image = config or "Beam's own image, which lacks lrm-kit"
    return (
        f"workers are containers of {image}",
        "see on the engine's machines whether they start (docker ps -a, docker logs); name lrm-kit's image "
        "in --environment_config, or use --environment_type=PROCESS or EXTERNAL where there is no Docker",
    )


def _external(address: str) -> tuple[str, str]:
    found = ask_pool(address, _SECONDS_FOR_A_WORKER) if is_local(address) else ""
    if found == SILENT:
        return (
            f"the worker pool at {address} was asked for a worker from here, too, and none came: the "
            "'python' that it starts has no Beam, or another one",
            "start the pool with a PATH that leads first to the Python in which lrm-kit is installed",
        )
    if found == ANSWERS:
        return (
            f"the worker pool at {address} starts a worker when it is asked from here: what keeps the "
            "engine's workers away is between the two",
            "give each task manager a pool of its own: where two share one, each ends the other's worker; "
            f"and {address} is asked from each task manager's machine",
        )
    if found == UNREACHABLE:
        why = (
            f"no worker pool answers at {address} on this machine; each task manager's machine must have one"
        )
    else:
        why = f"each task manager asks the worker pool at {address}"
    return (
        why,
        "start it there (python -m apache_beam.runners.worker.worker_pool_main --service_port=PORT, or the "
        "image with --worker_pool), by a Python that has lrm-kit and is first in its PATH",
    )


def _process(config: str) -> tuple[str, str]:
    try:
        record = json.loads(config)
        command = str(record["command"])
        variables = {str(name): str(value) for name, value in dict(record.get("env") or {}).items()}
    except (ValueError, KeyError, TypeError):
        return (
            "--environment_config is not what PROCESS takes",
            f"""write it as '{{"command": "/path/to/{WORKER}"}}', with what that needs in "env": {{...}}""",
        )
    if not shutil.which(command):
        return f"'{command}' is on the workers' machines, not on this one", BOOT_ADVICE
    if Path(command).name == WORKER:
        missing = _fails([command, "--help"], variables)
        why = f"fails here: {missing}" if missing else "would start here, and has what it needs"
        return f"'{command}' {why}", BOOT_ADVICE
    python = shutil.which("python", path=str(variables.get("PATH") or os.environ.get("PATH", "")))
    if python is None:
        return "the PATH of --environment_config leads to no 'python' on this machine", BOOT_ADVICE
    missing = _fails([python, "-c", _IMPORTS], variables)
    if missing:
        return f"the PATH of --environment_config leads to {python} here: {missing}", BOOT_ADVICE
    return f"'{command}' would start {python} here, which has what it needs", BOOT_ADVICE


def _fails(command: list[str], variables: dict[str, str]) -> str:
    """The last line of what a command says that fails; empty where it does not."""
    try:
        found = subprocess.run(
            command,
            env=variables,
            cwd="/",
            capture_output=True,
            text=True,
            timeout=_SECONDS_FOR_A_WORKER,
            check=False,
        )
    except (OSError, subprocess.SubprocessError) as error:
        return str(error)
    return "" if found.returncode == 0 else (found.stderr.strip().splitlines() or ["it fails"])[-1]
