"""A worker introduces itself to whoever started the job: a file in the job's folder, once a process."""

from __future__ import annotations

from contextlib import suppress

from behavior.shards.storage import Folder
from pipelines.checkup.facts import Facts, facts

WORKERS = "workers"
_introduced: set[str] = set()


def introduce(notes: Folder) -> None:
    """Leave what this process knows about itself; nothing, where it has done so for this run of a job."""
    run = repr(notes)
    if run not in _introduced:
        _introduced.add(run)
        found = facts()
        # That a worker cannot say who it is must not end what it is at.
        with suppress(OSError):
            notes.write_text(f"{WORKERS}/{found.host}-{found.pid}.json", found.to_json())


def introduced(notes: Folder, known: set[str]) -> list[Facts]:
    """The workers that have introduced themselves since; their files are added to those that are known.

    Raises:
        OSError: the folder cannot be read.
    """
    new = [name for name in notes.names(f"{WORKERS}/") if name.endswith(".json") and name not in known]
    known.update(new)
    return [Facts.from_json(notes.read_text(name)) for name in new]
