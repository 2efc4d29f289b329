"""Beam's options as they were given, read without Beam."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from behavior.errors import UsageError

WORKER = "lrm-worker"
"""The program of `pipelines.boot`, beside the Python in which this package is installed."""


def value_of(options: Sequence[str], name: str) -> str | None:
    """The last value that an option is given; None where it is not."""
    found = None
    for place, option in enumerate(options):
        given, equals, value = option.partition("=")
        if given == name:
            found = value if equals else next(iter(options[place + 1 : place + 2]), "")
    return found


def with_worker(options: Sequence[str]) -> list[str]:
    """Options in which workers that are processes, of which nothing more is said, are `lrm-worker`.

    It is the one of this machine: the engine's machines must have it under the same path.

    Raises:
        UsageError: this machine has none.
    """
    given = ("--environment_config", "--environment_option", "--environment_options")
    silent = all(value_of(options, name) is None for name in given)
    if (value_of(options, "--environment_type") or "").upper() != "PROCESS" or not silent:
        return list(options)
    beside = Path(sys.executable).with_name(WORKER)
    program = str(beside) if beside.exists() else shutil.which(WORKER)
    if program is None:
        raise UsageError(
            f"workers are to be processes, and this machine has no {WORKER}, which they would be",
            where="--environment_type",
            fix="install lrm-kit anew, or name what starts them: -- "
            """--environment_config='{"command": "/path/to/lrm-worker"}'""",
        )
    return [*options, f"--environment_config={json.dumps({'command': program})}"]
