"""One prepare job: its folders, and what every worker must know."""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from uuid import uuid4

import pyarrow as pa

from behavior.errors import UserError
from behavior.shards.folder import versioned
from behavior.shards.storage import Folder
from behavior.sources.plan import Plan
from behavior.spec.dataset_spec import DatasetSpec
from behavior.steps.previous import Previous

JOB_FOLDER = ".lrm-job"
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}
_STORAGE_ERRORS = {*_NO_ROOM, errno.EACCES, errno.EPERM}


@dataclass(frozen=True)
class Job:
    """What every worker must know; pickled into the pipeline.

    Attributes:
        spec: the dataset spec.
        base: folder the spec's paths are relative to.
        plan: of the input.
        out: the data set's folder; finished files are written there at once, and count from the commit on.
        work: folder for intermediate files; workers must see it under the same path.
        notes: folder for the clock, the workers' log and the error of a worker that fails. Of a local run it
            is a local folder elsewhere, since the disk of `work` may be what is full.
        buckets: number of hash buckets of users, each of which becomes one sequence file.
        version: of the data set that the job makes.
        previous: the data set that is added to; None for a new one.
        skip_bad_files: set files aside that cannot be read at all.
        timed: keep the times of stages, as local runs do.
        run: tells this run from all others.
    """

    spec: DatasetSpec
    base: str
    plan: Plan
    out: Folder
    work: Folder
    notes: Folder
    buckets: int
    version: int = 1
    previous: Previous | None = None
    skip_bad_files: bool = False
    timed: bool = True
    run: str = field(default_factory=lambda: uuid4().hex)

    def file(self, name: str) -> str:
        """The path under which this job writes a file of the data set."""
        return versioned(name, self.version)

    def sequence_file(self, bucket: int) -> str:
        """Logical name of the sequence file of a bucket."""
        return f"sequences/part-{bucket:05d}-of-{self.buckets:05d}.parquet"

    @property
    def log(self) -> Path:
        """What worker processes of a local run print."""
        return self.notes.path / "workers.log"

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """One part of a stage's work: keeps its time, and the user's error where the launcher finds it.

        Runners pass on little but a stack trace.
        """
        begin = time.time()
        try:
            yield
        except UserError as error:
            self._keep(error)
            raise
        except OSError as error:
            if error.errno not in _STORAGE_ERRORS:
                raise
            kept = self._explained(error)
            self._keep(kept)
            raise kept from error
        # Arrow keeps what it frees for later; several workers on one machine cannot all do that.
        pa.default_memory_pool().release_unused()
        self._clock.tick(name, begin)

    def _explained(self, error: OSError) -> UserError:
        """What the user can do about storage that is full or forbidden: an input, or where the job writes."""
        problem, file = error.strerror or str(error), str(error.filename or "")
        own = [_bare(str(folder)) for folder in (self.out, self.work, self.notes)]
        inside = any(_bare(file).startswith(folder) for folder in own)
        if error.errno not in _NO_ROOM and not inside:
            return UserError(problem, where=file or None, fix="check the permissions")
        return UserError(
            f"cannot write: {problem}",
            where=file or str(self.out),
            fix="make room, or write to another folder with --out",
        )

    @cached_property
    def _clock(self) -> Clock:
        return Clock(self.notes if self.timed else None)

    def _keep(self, error: UserError) -> None:
        record = {"what": error.what, "where": error.where, "fix": error.fix}
        # The error itself is on its way; that it cannot be kept must not take its place.
        with suppress(OSError):
            self.notes.write_text("failure.json", json.dumps(record, ensure_ascii=False))

    def kept_error(self) -> UserError | None:
        """The error a worker left, if any."""
        if not self.notes.exists("failure.json"):
            return None
        return UserError(**json.loads(self.notes.read_text("failure.json")))


def _bare(path: str) -> str:
    """A path as any system may write it in an error: without scheme or leading slash; ends with one."""
    return f"{path.partition('://')[2] or path}/".lstrip("/")


class Clock:
    """When the parts of each stage ran, on all workers of a local run: for progress and for timings.

    Each process appends lines to a file of its own. A remote run has the engine's own pages for that.
    """

    _FOLDER = "clock"

    def __init__(self, notes: Folder | None) -> None:
        self.folder = None if notes is None else notes.path / self._FOLDER

    def tick(self, stage: str, begin: float) -> None:
        """One part of a stage is done."""
        if self.folder is None:
            return
        # Time is not worth failing for.
        with suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True)
            with (self.folder / f"{os.getpid()}.txt").open("a", encoding="utf-8") as file:
                file.write(f"{stage} {begin:.6f} {time.time():.6f}\n")

    def parts(self) -> dict[str, list[tuple[float, float]]]:
        """Stage -> begin and end of each part that is done."""
        found: dict[str, list[tuple[float, float]]] = {}
        for path in self.folder.glob("*.txt") if self.folder is not None else ():
            # A line that is being written lacks its end.
            for line in path.read_text(encoding="utf-8").split("\n")[:-1]:
                stage, begin, end = line.split(" ")
                found.setdefault(stage, []).append((float(begin), float(end)))
        return found


def write_arrow(folder: Folder, name: str, table: pa.Table) -> None:
    """Write an Arrow IPC file whole or not at all."""
    with folder.create(name, checksum=False) as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)


def read_arrow(folder: Folder, name: str) -> pa.Table:
    """Read an Arrow IPC file; a local one is mapped into memory."""
    with folder.input_file(name) as source:
        return pa.ipc.open_file(source).read_all()
