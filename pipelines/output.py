"""The output folder: what may be written there, and how a finished job is committed."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from behavior.errors import UserError
from behavior.manifest import MANIFEST_NAME, Manifest, load_manifest
from behavior.shards import ITEMS, REJECTED, SEQUENCES, STATS, USERS, VOCABULARY, open_shards
from pipelines.job import JOB_FOLDER, write_text

_MARKER = "job.json"
_OWN = (SEQUENCES, VOCABULARY, REJECTED, ITEMS, USERS, STATS, MANIFEST_NAME, MANIFEST_NAME + ".tmp")


@contextmanager
def exclusive(out: Path) -> Iterator[None]:
    """Hold an output folder for one job; it is made where it is not there, and goes again if left empty.

    Raises:
        UserError: another job is writing there, or it cannot be a folder of ours.
    """
    if out.exists() and not out.is_dir():
        raise UserError(f"'{out}' is a file, not a folder", where="--out", fix="name another folder")
    try:
        out.mkdir(parents=True, exist_ok=True)
        # The folder itself is locked: no file of ours lies about, and the lock goes with the process.
        handle = os.open(out, os.O_RDONLY)
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
        with suppress(OSError):
            out.rmdir()  # fails, as it should, where anything is in it


def claim(out: Path, digests: dict[str, str], overwrite: bool) -> Manifest | None:
    """Make an output folder ours for one job.

    Args:
        out: the folder.
        digests: spec_digest and input_digest of the job.
        overwrite: replace a data set that is there.

    Returns:
        The manifest where the folder already holds this job's finished result (there is nothing to do), else
        None; then the job folder inside is empty and marked.

    Raises:
        UserError: the folder holds something else, or cannot be written.
    """
    finished = None if overwrite else _finished(out, digests)
    if finished is not None:
        shutil.rmtree(out / JOB_FOLDER, ignore_errors=True)
        return finished
    _refuse_foreign(out, digests, overwrite)
    job = out / JOB_FOLDER
    try:
        shutil.rmtree(job, ignore_errors=True)
        job.mkdir(parents=True)
        write_text(job / _MARKER, json.dumps(digests))
    except OSError as error:
        raise UserError(f"cannot write to '{out}': {error.strerror}", where="--out") from None
    return None


def _finished(out: Path, digests: dict[str, str]) -> Manifest | None:
    if not (out / MANIFEST_NAME).exists():
        return None
    manifest = load_manifest(out)
    if {"spec_digest": manifest.spec_digest, "input_digest": manifest.input_digest} != digests:
        what = "of another spec" if manifest.spec_digest != digests["spec_digest"] else "of other input files"
        raise UserError(
            f"'{out}' holds a data set {what}", where="--out", fix="name another folder, or add --overwrite"
        )
    return open_shards(out).manifest


def _refuse_foreign(out: Path, digests: dict[str, str], overwrite: bool) -> None:
    if not out.is_dir():
        return
    there = sorted(entry.name for entry in out.iterdir())
    if not there:
        return
    ours = _own_job(out) is not None or _is_data_set(out)
    if overwrite and ours:
        return
    if overwrite:
        raise UserError(
            f"'{out}' holds something else ({', '.join(there[:3])})",
            where="--out",
            fix="name another folder: --overwrite replaces data sets only",
        )
    if _own_job(out) != digests:
        what = (
            "an unfinished job of another spec or input"
            if ours
            else f"something else ({', '.join(there[:3])})"
        )
        raise UserError(
            f"'{out}' holds {what}", where="--out", fix="name an empty or new folder, or add --overwrite"
        )


def _is_data_set(out: Path) -> bool:
    """Whether a manifest of ours is there, be it damaged or of a newer format."""
    try:
        record = json.loads((out / MANIFEST_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(record, dict) and {"format_version", "spec_digest", "files"} <= set(record)


def _own_job(out: Path) -> dict[str, str] | None:
    try:
        record = json.loads((out / JOB_FOLDER / _MARKER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) else None


def discard(out: Path) -> None:
    """Take away our job."""
    shutil.rmtree(out / JOB_FOLDER, ignore_errors=True)


def commit(out: Path, staging: Path, manifest: Manifest) -> None:
    """Move the finished files into place, then write the manifest: only that makes it a data set.

    Killed at any point, it leaves either no manifest and our job's mark, or the whole data set.
    """
    (out / MANIFEST_NAME).unlink(missing_ok=True)
    for name in _OWN:
        path = out / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    for entry in sorted(staging.iterdir()):
        os.replace(entry, out / entry.name)
    manifest.save(out)
    shutil.rmtree(out / JOB_FOLDER)
