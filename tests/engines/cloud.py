"""Google Cloud on this machine: storage, Dataflow's job API, and what runs its jobs."""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path
from typing import Any

import fsspec

from pipelines.runner import RunnerOptions
from tests.engines.dataflow import DataflowService, Work
from tests.engines.installed import STORAGE
from tests.engines.processes import Processes
from tests.engines.staged import StagedPipelines
from tests.engines.storage import StorageEmulator

PROJECT, REGION = "some-project", "europe-west4"
IMAGE = f"{REGION}-docker.pkg.dev/{PROJECT}/repository/lrm-kit:0.1.0"


def missing() -> str:
    """Why there is no Google Cloud on this machine; empty where there is."""
    if not STORAGE.exists():
        return "no emulator of Google Cloud Storage: make engines"
    try:
        there = importlib.util.find_spec("google.cloud.dataflow") and importlib.util.find_spec("gcsfs")
    except ModuleNotFoundError:
        there = None
    return "" if there else "the packages for Google Cloud are not installed: make engines"


class Cloud:
    """Starts, and runs until `end`.

    Args:
        folder: for logs.

    Attributes:
        storage: with the buckets `logs-bucket`, `data-bucket`, `temp-bucket` and `docs-bucket`.
        staged: runs pipelines.
        service: the job API; its jobs run their staged pipelines unless its `work` is changed.
    """

    def __init__(self, folder: Path) -> None:
        self.storage = StorageEmulator(folder)
        self.staged = StagedPipelines(self.storage, folder)
        self.service = DataflowService(self.staged)

    @property
    def processes(self) -> Processes:
        """Those whose logs are shown where a test failed."""
        return self.staged.processes

    @property
    def variables(self) -> dict[str, str]:
        """Of the environment of a process that uses this cloud."""
        return self.storage.variables

    def wait(self) -> None:
        """Until it can be used."""
        self.storage.wait()
        self.staged.wait()
        for name in ("logs-bucket", "data-bucket", "temp-bucket", "docs-bucket"):
            self.storage.make_bucket(name)

    def fresh(self, work: Work | None = None) -> DataflowService:
        """A service of its own for a test, whose jobs are done by `work`."""
        self.service.end()
        self.service = DataflowService(work or self.staged)
        return self.service

    def options(self, *more: str) -> list[str]:
        """Options of Beam, those that docs/deploy.md names and the address of the service."""
        return [
            f"--project={PROJECT}",
            f"--region={REGION}",
            "--temp_location=gs://temp-bucket/tmp",
            f"--sdk_container_image={IMAGE}",
            "--machine_type=n2-standard-4",
            "--max_num_workers=50",
            *self.service.options(),
            *more,
        ]

    def runner(self, *more: str, **options: Any) -> RunnerOptions:
        """Runs jobs here."""
        return RunnerOptions("DataflowRunner", beam=self.options(*more), **options)

    def put(self, folder: Path, url: str) -> None:
        """Copy the files of a folder to the storage."""
        system = fsspec.filesystem("gs")
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                system.put_file(str(path), f"{url}/{path.relative_to(folder).as_posix()}")

    def contents(self, url: str) -> dict[str, str]:
        """Name -> checksum of all objects under an address."""
        bucket, _, prefix = url.removeprefix("gs://").partition("/")
        names = [name.removeprefix(f"{prefix}/") for name in self.storage.names(bucket, f"{prefix}/")]
        return {name: hashlib.sha256(self.storage.read(f"{url}/{name}")).hexdigest() for name in names}

    def end(self) -> None:
        """End all of it."""
        self.service.end()
        self.staged.end()
        self.storage.end()
