"""A fence around each run of a job on an engine.

Nobody can be sure that a job on an engine has ended: who started it may be killed, an engine may go on with a
job that it was told to cancel, a worker that counts as lost may only have been slow. What is left of such a
run must not write among the files of the next one. So every run puts up a file with a name of its own in the
job's folder, and its workers write only while that file is there: who gives the run up takes it away, and the
next run begins by clearing the folder.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from behavior.shards.hashing import HashingFile
from behavior.shards.storage import Folder


class GivenUpError(Exception):
    """Something was to be written for a run that has been given up."""


@dataclass(frozen=True)
class FencedFolder(Folder):
    """A folder in which a file appears only while a run goes on.

    Attributes:
        url: see `Folder`.
        job: the URL of the job's folder.
        name: of the file there that stands for the run.
    """

    job: str = ""
    name: str = ""

    def put_up(self) -> None:
        """Begin the run."""
        Folder(self.job).write_text(self.name, "")

    def take_down(self) -> None:
        """Give the run up."""
        Folder(self.job).remove(self.name)

    @property
    def stands(self) -> bool:
        """Whether the run goes on: for a remote folder, a request."""
        return Folder(self.job).exists(self.name)

    def check(self) -> None:
        """Raises GivenUpError where the run has been given up."""
        if not self.stands:
            raise GivenUpError(self.name)

    def child(self, name: str) -> FencedFolder:
        """See `Folder.child`; within the same fence."""
        return FencedFolder(self.where(name), self.job, self.name)

    @contextmanager
    def create(self, name: str, *, checksum: bool = True) -> Iterator[HashingFile]:
        """See `Folder.create`. Raises GivenUpError, and nothing appears, where the run has been given up."""
        self.check()  # before folders are made
        try:
            with super().create(name, checksum=checksum) as file:
                yield file
                self.check()
        except GivenUpError:
            self._remove_empty_above(name)
            raise

    def write_bytes(self, name: str, data: bytes) -> None:
        """See `Folder.write_bytes`, and `create`."""
        with self.create(name) as file:
            file.write(data)

    def _remove_empty_above(self, name: str) -> None:
        """Folders that were made for a file, unless others have been put into them."""
        if self.is_local:
            for folder in (self.path / name).parents:
                with suppress(OSError):
                    folder.rmdir()
                if folder == self.path:
                    break


def fenced(out: Folder, work: Folder) -> tuple[FencedFolder, FencedFolder]:
    """The output folder and the job's folder for one run, which begins."""
    name = f"running-{uuid.uuid4().hex}"
    folders = FencedFolder(out.url, work.url, name), FencedFolder(work.url, work.url, name)
    folders[0].put_up()
    return folders
