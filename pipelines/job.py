"""One run of a job on Beam: its folders, its stages, and the files that they leave for each other."""

from __future__ import annotations

import json
import pickle
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from behavior.errors import UserError
from behavior.flow.preparation import Preparation
from behavior.printable import printable_json
from behavior.shards.errors import explained
from behavior.shards.owned import JOB_FOLDER
from behavior.shards.storage import Folder
from pipelines.checkup.hello import introduce
from pipelines.clock import StageClock
from pipelines.fence import FencedFolder, GivenUpError, fenced

if TYPE_CHECKING:
    from pipelines.runner import RunnerOptions

FAILURE, SUMMARY = "failure.json", "summary.json"
"""Of a job on an engine, one of the two comes in the end: a user's error, or what the result is made from."""
_AT_ONCE = 16
"""Files of a remote folder that are read together."""


class Job:
    """What every job has.

    Attributes:
        work: folder for intermediate files; workers must see it under the same path.
        notes: folder for the clock, the workers' log and the error of a worker that fails. Of a local run it
            is a local folder elsewhere, since the disk of `work` may be what is full.
        timed: keep the times of stages, as local runs do.
    """

    work: Folder
    notes: Folder
    timed: bool

    @property
    def out(self) -> Folder:
        """The output folder."""
        raise NotImplementedError

    @property
    def log(self) -> Path:
        """What worker processes of a local run print."""
        return self.notes.path / "workers.log"

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """One part of a stage's work: keeps its time, and the user's error where the launcher finds it.

        Runners pass on little but a stack trace.
        """
        with self._clock.part(name):
            try:
                yield
            except UserError as error:
                self._keep(error)
                raise
            except OSError as error:
                told = explained(error, self.out, self.work, self.notes)
                if told is None:
                    raise
                self._keep(told)
                raise told from error
            if not self.keeps_freed:
                pa.default_memory_pool().release_unused()

    @property
    def keeps_freed(self) -> bool:
        """Whether Arrow may keep what is freed for the next part; many workers of an engine cannot all do."""
        return False

    @cached_property
    def _clock(self) -> StageClock:
        return StageClock(self.notes if self.timed else None)

    def give_up(self, error: UserError) -> None:
        """Have the workers of a job on an engine do nothing more: they find the reason in the notes."""
        self._keep(error)

    @property
    def given_up(self) -> bool:
        """Whether a job on an engine is to do nothing more. A local one ends with the error itself."""
        if self.timed:
            return False
        return not self.notes.stands if isinstance(self.notes, FencedFolder) else self.notes.exists(FAILURE)

    def _keep(self, error: UserError) -> None:
        record = {"what": error.what, "where": error.where, "fix": error.fix}
        # The error itself is on its way; that it cannot be kept must not take its place. The error of a run
        # that was given up is nobody's, least of all the next run's.
        with suppress(OSError, GivenUpError):
            self.notes.write_text(FAILURE, printable_json(record))
            if isinstance(self.notes, FencedFolder):
                self.notes.take_down()

    def kept_error(self) -> UserError | None:
        """The error a worker left, if any."""
        return read_error(self.notes) if self.notes.exists(FAILURE) else None


def read_error(notes: Folder) -> UserError:
    """The error that a worker left.

    Raises:
        OSError, ValueError: it cannot be read, or not yet.
    """
    return UserError(**json.loads(notes.read_text(FAILURE)))


def unless_given_up(process: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
    """For `process` of a `DoFn` with a `job`: nothing is done for an element once the job is given up.

    An error of the user's gives it up. It is not raised on an engine, which would try again what cannot
    succeed, as often and as slowly as it is set to: whoever started the job finds the error in the notes.
    Whatever else goes wrong in a job that is given up, such as files that are gone, is no error either.
    """

    @wraps(process)
    def checked(self: Any, *arguments: Any, **named: Any) -> Iterator[Any]:
        job: Job = self.job
        if job.given_up:
            return
        try:
            if not job.timed:
                introduce(job.notes)
            yield from process(self, *arguments, **named)
        except Exception:
            if not job.given_up:
                raise

    return checked


@dataclass(frozen=True)
class PrepareJob(Job):
    """One run of a preparation; pickled into the pipeline.

    Attributes:
        preparation: what is prepared.
        work, notes, timed: see `Job`.
    """

    preparation: Preparation
    work: Folder
    notes: Folder
    timed: bool = True

    @property
    def out(self) -> Folder:
        return self.preparation.out

    @property
    def keeps_freed(self) -> bool:
        # What is taken anew page by page costs a third of a local run.
        return self.timed


@dataclass(frozen=True)
class JobFolders:
    """The folders of a job, and those among them that are temporary: of the notes, which an error may name,
    first. On an engine workers write to them only while this run of the job goes on."""

    out: Folder
    work: Folder
    notes: Folder
    timed: bool
    temporary: list[str]


def job_folders(out: Folder, runner: RunnerOptions, name: str) -> JobFolders:
    """Where a job of some name works.

    A local run writes intermediate files to a local disk, also where its result goes elsewhere.
    """
    work = out.child(JOB_FOLDER)
    if not runner.is_local:
        fenced_out, fenced_work = fenced(out, work)
        return JobFolders(fenced_out, fenced_work, fenced_work, False, [])
    temporary = [tempfile.mkdtemp(prefix=f"lrm-{name}-")]
    if not work.is_local:
        temporary.append(tempfile.mkdtemp(prefix="lrm-work-"))
        work = Folder(temporary[1])
    return JobFolders(out, work, Folder(temporary[0]), True, temporary)


def leave(folder: Folder, name: str, value: Any) -> str:
    """Leave a stage's result in a file for the stages after it; returns the file's name.

    What goes through an engine stays small: a runner sends all that a stage has found as one message.
    """
    folder.write_bytes(name, pickle.dumps(value))
    return name


def left(folder: Folder, names: Iterable[str]) -> list[Any]:
    """What `leave` left in some files."""
    if folder.is_local:
        return [pickle.loads(folder.read_bytes(name)) for name in names]
    with ThreadPoolExecutor(_AT_ONCE) as pool:  # each waits for its answer
        return [pickle.loads(data) for data in pool.map(folder.read_bytes, names)]


def write_arrow(folder: Folder, name: str, table: pa.Table) -> None:
    """Write an Arrow IPC file whole or not at all."""
    with folder.create(name, checksum=False) as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)


def read_arrow(folder: Folder, name: str) -> pa.Table:
    """Read an Arrow IPC file; a local one is mapped into memory."""
    with folder.input_file(name) as source:
        return pa.ipc.open_file(source).read_all()
