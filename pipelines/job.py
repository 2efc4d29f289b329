"""One prepare job: its working folder, and what every worker must know."""

from __future__ import annotations

import errno
import json
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from behavior.errors import UserError
from behavior.sources.plan import Plan
from behavior.spec import DatasetSpec

JOB_FOLDER = ".lrm-job"
_STORAGE_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS}


@dataclass(frozen=True)
class Job:
    """What every worker must know; pickled into the pipeline.

    Attributes:
        spec: the dataset spec.
        base: folder the spec's paths are relative to.
        plan: of the input.
        work: folder for intermediate files; workers must see it under the same path.
        buckets: number of hash buckets of users, each of which becomes one sequence file.
        notes: folder for the workers' log and the error of a worker that fails; default: `work`. A local run
            has it elsewhere, since the disk of `work` may be what is full.
    """

    spec: DatasetSpec
    base: str
    plan: Plan
    work: str
    buckets: int
    notes: str = ""

    @property
    def staging(self) -> Path:
        """Where finished files wait for the commit, laid out as in the data set."""
        return Path(self.work) / "data"

    def path(self, folder: str, name: str) -> Path:
        """A path of the working folder, whose folder exists."""
        path = Path(self.work) / folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def name_of(self, path: str) -> str:
        """How messages name an input file."""
        return self.plan.names[path]

    @property
    def failure(self) -> Path:
        """Where a worker leaves the error that the user must see."""
        return Path(self.notes or self.work) / "failure.json"

    @property
    def log(self) -> Path:
        """What worker processes print."""
        return Path(self.notes or self.work) / "workers.log"

    @property
    def summary(self) -> Path:
        """What the pipeline hands to the commit."""
        return Path(self.work) / "summary.json"

    @contextmanager
    def errors_kept(self) -> Iterator[None]:
        """Keep a user's error where the launcher finds it: runners pass on little but a stack trace."""
        try:
            yield
        except UserError as error:
            self._keep(error)
            raise
        except OSError as error:
            if error.errno not in _STORAGE_ERRORS:
                raise
            kept = UserError(
                f"cannot write: {error.strerror or error}",
                where=str(error.filename or Path(self.work).parent),
                fix="make room, or write to another folder with --out",
            )
            self._keep(kept)
            raise kept from error

    def _keep(self, error: UserError) -> None:
        record = {"what": error.what, "where": error.where, "fix": error.fix}
        # The error itself is on its way; that it cannot be kept must not take its place.
        with suppress(OSError):
            write_text(self.failure, json.dumps(record, ensure_ascii=False))

    def kept_error(self) -> UserError | None:
        """The error a worker left, if any."""
        if not self.failure.exists():
            return None
        return UserError(**json.loads(self.failure.read_text(encoding="utf-8")))


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all; a second attempt of the same work replaces it."""
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex}.tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


def write_arrow(path: Path, table: pa.Table) -> None:
    """Write an Arrow IPC file whole or not at all."""
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex}.tmp")
    with pa.OSFile(str(temporary), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    os.replace(temporary, path)


def read_arrow(path: Path) -> pa.Table:
    """Map an Arrow IPC file into memory."""
    with pa.memory_map(str(path)) as source:
        return pa.ipc.open_file(source).read_all()
