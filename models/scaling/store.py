"""The folder of a grid: which of its runs are done, which failed, and where they lie.

grid.yaml         the grid, as the last call had it
plan.json         what each run was expected to take, when it was last planned
runs/NAME/        a run, as `lrm train` makes it; summary.json and metrics.jsonl are its points
results/ID.json   of each run that is done: it is never run again
failures/ID.json  of each run that went wrong, and how
crowded/ID.json   of each run that ran out of memory beside others: with how many it may be run again
claims/           who works on what
calls/            one file a call: the command, the machine, versions
"""

from __future__ import annotations

import json
import platform
import sys
import time
from collections.abc import Container
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

from behavior.runtime.cores import usable_cores
from behavior.runtime.versions import NOT_INSTALLED, installed_version
from models.experiments.results import RunRecord
from models.runs.files import has_file, write_atomically, write_shared
from models.runs.run_folder import RunFolder
from models.scaling.claims import this_process
from models.scaling.grid import ScaleGrid
from models.scaling.rates import Asked
from models.scaling.records import Call, CrowdedRecord, FailureRecord, Result, read_all


@dataclass(frozen=True)
class Failure:
    """A run that went wrong."""

    label: str
    error: str


@dataclass(frozen=True)
class Store:
    """Paths of a grid's folder, and what is written there."""

    path: Path

    @property
    def runs(self) -> Path:
        return self.path / "runs"

    @property
    def claims(self) -> Path:
        return self.path / "claims"

    @property
    def results(self) -> Path:
        return self.path / "results"

    @property
    def failures(self) -> Path:
        return self.path / "failures"

    @property
    def crowded(self) -> Path:
        return self.path / "crowded"

    @property
    def grid_file(self) -> Path:
        return self.path / "grid.yaml"

    @property
    def plan_file(self) -> Path:
        return self.path / "plan.json"

    def is_settled(self, digest: str) -> bool:
        """Whether a run is done or has failed."""
        return any((folder / f"{digest}.json").exists() for folder in (self.results, self.failures))

    def write_result(self, asked: Asked, record: RunRecord, folder: Path, about: dict[str, Any]) -> None:
        """Write down that a run is done."""
        found = {
            "record": asdict(record),
            "size": asdict(asked.size),
            "rate": asked.rate,
            "searches": asked.searches,
            "run": folder.relative_to(self.path).as_posix(),
            "dataset": data_digest(folder),
            **about,
        }
        _write(self.results / f"{record.digest}.json", found)

    def write_failure(self, asked: Asked, digest: str, error: str, trace: str) -> None:
        """Write down that a run went wrong."""
        found = {
            "label": asked.size.label,
            "size": asdict(asked.size),
            "rate": asked.rate,
            "error": error,
            "trace": trace,
            "when": _now(),
            "machine": this_process()["host"],
        }
        _write(self.failures / f"{digest}.json", found)

    def write_crowded(self, asked: Asked, digest: str, at_once: int) -> None:
        """Write down that a run ran out of memory, and how many may go on while it does."""
        found = {"size": asdict(asked.size), "rate": asked.rate, "at_once": at_once, "when": _now()}
        _write(self.crowded / f"{digest}.json", found)

    def read_crowded(self) -> dict[str, CrowdedRecord]:
        """By the runs' digests.

        Raises:
            UserError: a file is damaged.
        """
        return read_all(CrowdedRecord, self.crowded, "the record of a run that ran out of memory")

    def read_results(self, *, known: Container[str] = ()) -> dict[str, Result]:
        """By the runs' digests, but for those that are known already.

        Raises:
            UserError: a file is damaged.
        """
        return read_all(Result, self.results, "the result of a run", known=known)

    def read_failures(self, *, known: Container[str] = ()) -> dict[str, FailureRecord]:
        """Likewise; not of runs that were done later, on another machine for one."""
        found = read_all(FailureRecord, self.failures, "the record of a failure", known=known)
        return {name: each for name, each in found.items() if not (self.results / f"{name}.json").exists()}

    def read_calls(self) -> list[Call]:
        """Likewise, in order."""
        return list(read_all(Call, self.path / "calls", "the record of a call").values())

    def forget_failures(self) -> None:
        """Let runs that failed be tried again, beside as many others as at first."""
        for folder in (self.failures, self.crowded):
            for path in folder.glob("*.json"):
                path.unlink(missing_ok=True)

    def begin_call(self, grid: ScaleGrid, data: str) -> None:
        """Write down the grid, the command and the machine."""
        settings = {name: value for name, value in grid.model_dump(mode="json").items() if value != []}
        write_shared(self.grid_file, yaml.safe_dump(settings, sort_keys=False).encode())
        about = this_process()
        name = f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{about['host']}-{about['pid']}.json"
        _write(self.path / "calls" / name, {"command": sys.argv, "data": data, **machine(), **about})


def data_digest(run: Path) -> str | None:
    """The digest of the data set that a run was trained on; None where it does not say.

    Raises:
        UserError: what marks it as a run is damaged.
    """
    folder = RunFolder(run)
    return folder.about().dataset.get("digest") if has_file(folder.marker) else None


def machine() -> dict[str, Any]:
    """What runs here run on."""
    cuda = torch.cuda.is_available()
    cards = (
        [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())] if cuda else []
    )
    return {
        "when": _now(),
        "system": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "cores": usable_cores(),
        "gpus": cards,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "version": installed_version() or NOT_INSTALLED,
    }


def _write(path: Path, content: dict[str, Any]) -> None:
    write_atomically(path, (json.dumps(content, indent=1, default=str) + "\n").encode())


def _now() -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
