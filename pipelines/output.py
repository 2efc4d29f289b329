"""The output folder: what may be written there, and how a finished job is committed.

A job writes its files under their final names (with a version, see `behavior.shards`), where no reader looks
for them: the manifest does not name them. Replacing the manifest is the commit; then the rest goes.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from behavior.errors import UserError
from behavior.manifest import MANIFEST_NAME, Manifest, load_manifest
from behavior.shards import (
    BUCKETS,
    ITEMS,
    REJECTED,
    SEQUENCES,
    STATS,
    USERS,
    VOCABULARY,
    logical,
    open_shards,
)
from behavior.storage import Folder
from pipelines.job import JOB_FOLDER

_MARKER = f"{JOB_FOLDER}/job.json"
_OWN_FILES = {BUCKETS, ITEMS, USERS, STATS}
_OWN_FOLDERS = (SEQUENCES, VOCABULARY, REJECTED, JOB_FOLDER)


@contextmanager
def exclusive(out: Folder) -> Iterator[None]:
    """Hold an output folder for one job; one that is made here goes again if it is left empty.

    Remote folders cannot be held: that two jobs never write to the same one is up to who starts them.

    Raises:
        UserError: another job is writing there, or it cannot be a folder of ours.
    """
    if not out.is_local:
        try:
            yield
        except OSError as error:
            raise UserError(
                f"'{out}' cannot be used: {error}", where="--out", fix="check the address and credentials"
            ) from error
        return
    if out.path.exists() and not out.path.is_dir():
        raise UserError(f"'{out}' is a file, not a folder", where="--out", fix="name another folder")
    made = not out.path.exists()
    try:
        out.make()
        # The folder itself is locked: no file of ours lies about, and the lock goes with the process.
        handle = os.open(out.path, os.O_RDONLY)
    except OSError as error:
        raise UserError(
            f"the folder '{out}' cannot be used: {error.strerror}", where="--out", fix="name another folder"
        ) from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise UserError(
            f"another job is writing to '{out}'", where="--out", fix="wait for it, or name another folder"
        ) from None
    finally:
        os.close(handle)
        if made:
            with suppress(OSError):
                out.path.rmdir()  # fails, as it should, where anything is in it


def claim(out: Folder, digests: dict[str, str], overwrite: bool) -> Manifest | None:
    """Make an output folder ours for one job.

    Args:
        out: the folder.
        digests: spec_digest and input_digest of the job.
        overwrite: replace a data set that is there.

    Returns:
        The manifest where the folder already holds this job's finished result (there is nothing to do), else
        None; then what an unfinished job left is gone and the folder is marked.

    Raises:
        UserError: the folder holds something else, or cannot be written.
    """
    marked = _own_job(out) == digests
    # A job of ours that was interrupted while it replaced a data set had leave to do so.
    finished = None if overwrite else _finished(out, digests, replacing=marked)
    if finished is not None:
        out.remove_tree(JOB_FOLDER)
        return finished
    _refuse_foreign(out, digests, overwrite)
    mark(out, digests)
    return None


def mark(out: Folder, digests: dict[str, str]) -> None:
    """Clear away what an unfinished job left, and mark the folder as ours.

    Raises:
        UserError: the folder cannot be written.
    """
    try:
        sweep(out)
        out.write_text(_MARKER, json.dumps(digests))
    except OSError as error:
        raise UserError(f"cannot write to '{out}': {error.strerror or error}", where="--out") from None


def version_of(out: Folder) -> int:
    """Version of the data set that is there; 0 for none."""
    try:
        return load_manifest(out).version
    except UserError:
        return _written_version(out)


def _written_version(out: Folder) -> int:
    """The version that a manifest which cannot be used says; 0 for none."""
    try:
        version = json.loads(out.read_text(MANIFEST_NAME)).get("version", 1)
        return version if isinstance(version, int) else 1
    except (OSError, ValueError, AttributeError):
        return 0


def _finished(out: Folder, digests: dict[str, str], *, replacing: bool) -> Manifest | None:
    if not out.exists(MANIFEST_NAME):
        return None
    manifest = load_manifest(out)
    if {"spec_digest": manifest.spec_digest, "input_digest": manifest.input_digest} != digests:
        if replacing:
            return None
        what = "of another spec" if manifest.spec_digest != digests["spec_digest"] else "of other input files"
        raise UserError(
            f"'{out}' holds a data set {what}", where="--out", fix="name another folder, or add --overwrite"
        )
    return open_shards(out).manifest


def _refuse_foreign(out: Folder, digests: dict[str, str], overwrite: bool) -> None:
    there = sorted({name.partition("/")[0] for name in out.names()})
    if not there:
        return
    job = _own_job(out)
    ours = job is not None or _is_data_set(out)
    if overwrite and ours:
        return
    if overwrite:
        raise UserError(
            f"'{out}' holds something else ({', '.join(there[:3])})",
            where="--out",
            fix="name another folder: --overwrite replaces data sets only",
        )
    if job != digests:
        what = (
            "an unfinished job of another spec or input"
            if ours
            else f"something else ({', '.join(there[:3])})"
        )
        raise UserError(
            f"'{out}' holds {what}", where="--out", fix="name an empty or new folder, or add --overwrite"
        )


def _is_data_set(out: Folder) -> bool:
    """Whether a manifest of ours is there, be it damaged or of a newer format."""
    try:
        record = json.loads(out.read_text(MANIFEST_NAME))
    except (OSError, ValueError):
        return False
    return isinstance(record, dict) and {"format_version", "spec_digest", "files"} <= set(record)


def _own_job(out: Folder) -> dict[str, str] | None:
    try:
        record = json.loads(out.read_text(_MARKER))
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) else None


def sweep(out: Folder) -> None:
    """Remove all files of ours that the manifest does not name: an unfinished job, or an older version."""
    try:
        kept = {entry.path for entry in load_manifest(out).files}
    except UserError:
        kept = set()
    for name in out.names():
        if name not in kept and _is_own(name):
            out.remove(name)
    for folder in _OWN_FOLDERS:
        if not out.names(f"{folder}/"):
            out.remove_tree(folder)


def _is_own(name: str) -> bool:
    if name.startswith(tuple(f"{folder}/" for folder in _OWN_FOLDERS)):
        return True
    # A file that was being written has a hidden name until it is whole.
    hidden = name.startswith(".") and name.endswith(".tmp")
    return hidden or logical(name) in _OWN_FILES


def commit(out: Folder, manifest: Manifest) -> None:
    """Write the manifest: only that makes the files a data set. Then remove what it does not name.

    Killed at any point, it leaves what was there before and our job's mark, or the whole data set.
    """
    manifest.save(out)
    sweep(out)
