"""The output folder: what may be written there, and how a finished job is committed (atomically).

A job writes its files under their final names (with a version, see `behavior.shards.names`), where no reader
looks for them: the manifest does not name them. Replacing the manifest is the commit; then the rest goes.

Nothing that a manifest may name is removed on a guess: that there is no data set is what a missing
`manifest.json` says, not one that cannot be read.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from behavior.errors import UserError
from behavior.shards.damage import parse_json
from behavior.shards.errors import errors_told
from behavior.shards.folder import open_shards
from behavior.shards.manifest import MANIFEST_NAME, Manifest, load_manifest
from behavior.shards.names import version_in
from behavior.shards.owned import JOB_FOLDER, OWN_FOLDERS, check_output, is_own, may_go
from behavior.shards.storage import Folder, is_temporary
from behavior.spec.record import same_but_files

_MARKER = f"{JOB_FOLDER}/job.json"


def claim(
    out: Folder,
    digests: dict[str, str],
    overwrite: bool,
    inputs: Iterable[str] = (),
    spec: Mapping[str, Any] | None = None,
) -> Manifest | None:
    """Make an output folder ours for one job.

    Args:
        out: the folder.
        digests: spec_digest and input_digest of the job.
        overwrite: replace a data set that is there.
        inputs: paths and URLs of its input files, none of which may lie in the folder.
        spec: the record of its spec, for advice where the folder holds another data set.

    Returns:
        The manifest where the folder already holds this job's finished result (there is nothing to do), else
        None; then what an unfinished job left is gone and the folder is marked.

    Raises:
        UserError: the folder holds something else, or cannot be written.
    """
    with errors_told(out, "cannot use"):
        check_output(out, inputs)
        there = _look(out)
        marked = _own_job(out) == digests
        # A job of ours that was interrupted while it replaced a data set had leave to do so.
        finished = None if overwrite else _finished(out, there, digests, spec, replacing=marked)
        if finished is None:
            _refuse_foreign(out, there, digests, overwrite)
    if finished is not None:
        sweep(out)  # what a commit that was killed had still to do
        return finished
    mark(out, digests)
    return None


def mark(out: Folder, digests: dict[str, str]) -> None:
    """Clear away what an unfinished job left, and mark the folder as ours.

    Raises:
        UserError: the folder cannot be read or written.
    """
    sweep(out)
    with errors_told(out, "cannot write to"):
        out.write_text(_MARKER, json.dumps(digests))


def version_of(out: Folder) -> int:
    """Version of the data set that is there; 0 for none.

    Where its manifest cannot be used it is one that no file there goes beyond.

    Raises:
        UserError: the folder cannot be read.
    """
    with errors_told(out, "cannot read"):
        there = _look(out)
        if there is None:
            return 0
        if there.manifest is not None:
            return there.manifest.version
        said = there.record.get("version") if isinstance(there.record, dict) else None
        written = [version_in(name) for name in out.names() if is_own(name)]
    return max([1, *written, *([said] if isinstance(said, int) else [])])


@dataclass(frozen=True)
class _Found:
    """A `manifest.json` that is there.

    Attributes:
        record: its JSON; None where it is none.
        manifest: what it says; None where it cannot be used.
        error: why it cannot be used.
    """

    record: Any
    manifest: Manifest | None
    error: UserError | None = None

    @property
    def is_ours(self) -> bool:
        """Whether it is a manifest of ours, be it damaged or of a newer format."""
        keys = {"format_version", "spec_digest", "files"}
        return isinstance(self.record, dict) and keys <= set(self.record)


def _look(out: Folder) -> _Found | None:
    """The manifest; None where there certainly is none.

    Raises:
        OSError: whether there is one cannot be told.
    """
    try:
        data = out.read_bytes(MANIFEST_NAME)
    except FileNotFoundError:
        return None
    record = None
    with suppress(ValueError):
        record = parse_json(data)
    try:
        return _Found(record, load_manifest(out))
    except UserError as error:
        return _Found(record, None, error)


def _finished(
    out: Folder,
    there: _Found | None,
    digests: dict[str, str],
    spec: Mapping[str, Any] | None,
    *,
    replacing: bool,
) -> Manifest | None:
    if there is None:
        return None
    if there.error is not None:
        raise there.error
    manifest = there.manifest
    assert manifest is not None
    if {"spec_digest": manifest.spec_digest, "input_digest": manifest.input_digest} != digests:
        if replacing:
            return None
        what, fix = "of another spec", "name another folder, or add --overwrite"
        if manifest.spec_digest == digests["spec_digest"]:
            what = "of other input files"
            fix = "to add new files to it: --append FILES; to replace it: --overwrite; or name another folder"
        elif spec is not None and same_but_files(manifest.spec, spec):
            what = "of other input files"
            fix = (
                "to add new files to it, leave 'files' in the spec as it was: --append FILES; "
                "to replace it: --overwrite; or name another folder"
            )
        raise UserError(f"'{out}' holds a data set {what}", where="--out", fix=fix)
    return open_shards(out).manifest


def _refuse_foreign(out: Folder, found: _Found | None, digests: dict[str, str], overwrite: bool) -> None:
    # A job may have been killed while it wrote its mark, or any other file.
    whole = [name for name in out.names() if not (is_own(name) and is_temporary(name.rpartition("/")[2]))]
    there = sorted({name.partition("/")[0] for name in whole})
    if not there:
        return
    job = _own_job(out)
    ours = job is not None or (found is not None and found.is_ours)
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


def _own_job(out: Folder) -> dict[str, str] | None:
    try:
        record = parse_json(out.read_bytes(_MARKER))
    except (FileNotFoundError, ValueError):
        return None
    return record if isinstance(record, dict) else None


def sweep(out: Folder, kept: Collection[str] | None = None) -> None:
    """Remove all files of ours that the manifest does not name: an unfinished job, or an older version.

    Only what has a name that this program gives is ours: a user's notes stay, wherever they lie. Where there
    is a manifest that cannot be used, only what certainly is a job's goes.

    Args:
        out: the folder.
        kept: the files that the manifest names, where that is known; default: it is read.

    Raises:
        UserError: the folder cannot be read or written. Where the manifest cannot be read nothing is removed.
    """
    with errors_told(out, "cannot clear"):
        usable = True
        whole = True
        if kept is None:
            there = _look(out)
            manifest = there.manifest if there is not None else None
            kept = {entry.path for entry in manifest.files} if manifest is not None else set()
            if there is not None and manifest is None:
                usable = False
                whole = there.is_ours  # else the mark alone says that the folder is ours
        own = [name for name in out.names() if name not in kept and is_own(name, job_only=not usable)]
        # The mark goes last: without it, what is left would be taken for something else.
        for name in own:
            if name != _MARKER and may_go(out, name):
                out.remove(name)
        if not whole:
            return
        if _MARKER in own:
            out.remove(_MARKER)
        out.remove_tree(JOB_FOLDER)
        for folder in OWN_FOLDERS if usable else ():
            out.remove_empty(folder)


def commit(out: Folder, manifest: Manifest) -> None:
    """Write the manifest: only that makes the files a data set. Then remove what it does not name.

    Killed at any point, it leaves what was there before and our job's mark, or the whole data set.

    Raises:
        UserError: the folder cannot be written.
    """
    with errors_told(out, "cannot write to"):
        manifest.save(out)
    sweep(out, {entry.path for entry in manifest.files})
