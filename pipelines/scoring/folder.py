"""The output folder of a scoring job: finished with its manifest, and not before."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from behavior.errors import UserError
from behavior.printable import printable_json
from behavior.shards.damage import parse_json
from behavior.shards.errors import errors_told
from behavior.shards.manifest import MANIFEST_NAME
from behavior.shards.owned import JOB_FOLDER, check_output
from behavior.shards.storage import Folder, FolderLike, as_folder, is_temporary

KIND, FORMAT_VERSION = "recommendations", 1
FOLDER = "recommendations"
_MARKER = f"{JOB_FOLDER}/job.json"
_OWN = re.compile(rf"{FOLDER}/part-\d+-of-\d+\.parquet|rejected/part-\d+\.jsonl")


def part_file(part: int, parts: int) -> str:
    """Name of the file of a part.

    >>> part_file(3, 8)
    'recommendations/part-00003-of-00008.parquet'
    """
    return f"{FOLDER}/part-{part:05d}-of-{parts:05d}.parquet"


def claim(out: Folder, digest: str, overwrite: bool, inputs: Iterable[str]) -> dict[str, Any] | None:
    """Make an output folder ours for one job.

    Args:
        out: the folder.
        digest: of all that the result depends on.
        overwrite: replace recommendations that are there.
        inputs: paths of the input files, none of which may lie in the folder.

    Returns:
        The manifest where the folder already holds this job's finished result, else None; then what another
        job left is gone and the folder is marked.

    Raises:
        UserError: the folder holds something else, or cannot be written.
    """
    with errors_told(out, "cannot use"):
        check_output(out, inputs)
        there = _manifest(out)
        if there is not None and there.get("digest") == digest and not overwrite and _whole(out, there):
            sweep(out, {entry["path"] for entry in there["files"]})
            return there
        if there is not None and not overwrite:
            raise UserError(
                f"'{out}' holds recommendations of another run, question or input",
                where="--out",
                fix="name another folder, or add --overwrite",
            )
        if there is None:
            _refuse_foreign(out)
        out.remove(MANIFEST_NAME)  # from now on nothing there is finished
        sweep(out)
        out.write_text(_MARKER, json.dumps({"kind": KIND, "digest": digest}))
    return None


def read_manifest(out: FolderLike) -> dict[str, Any]:
    """The manifest of a finished folder.

    Raises:
        UserError: there is none, or not one of recommendations.
    """
    out = as_folder(out)
    with errors_told(out, "cannot read"):
        found = _manifest(out)
    if found is None:
        raise UserError(
            f"'{out}' holds no finished recommendations", fix="run 'lrm recommend --runner' to its end"
        )
    return found


def commit(out: Folder, manifest: Mapping[str, Any]) -> None:
    """Write the manifest, which finishes the folder; then remove what was for the job."""
    with errors_told(out, "cannot write to"):
        out.write_text(MANIFEST_NAME, printable_json(dict(manifest), indent=2) + "\n")
        sweep(out, {entry["path"] for entry in manifest["files"]})


def sweep(out: Folder, kept: Iterable[str] = ()) -> None:
    """Remove all files of such jobs but those that are kept; what else lies there stays."""
    kept = set(kept)
    for name in out.names():
        folder, _, last = name.rpartition("/")
        ours = _OWN.fullmatch(name) or (is_temporary(last) and folder in ("", FOLDER, "rejected"))
        if ours and name not in kept:
            out.remove(name)
    out.remove_tree(JOB_FOLDER)
    for folder in (FOLDER, "rejected"):
        out.remove_empty(folder)


def _manifest(out: Folder) -> dict[str, Any] | None:
    """That of recommendations; None where there is no manifest.

    Raises:
        UserError: it is one of something else.
    """
    try:
        record = parse_json(out.read_bytes(MANIFEST_NAME))
    except FileNotFoundError:
        return None
    except ValueError:
        record = None
    if not isinstance(record, dict) or record.get("kind") != KIND:
        raise UserError(
            f"'{out}' holds something else than recommendations",
            where="--out",
            fix="name an empty or new folder",
        )
    return record


def _whole(out: Folder, manifest: dict[str, Any]) -> bool:
    sizes = out.sizes()
    return all(sizes.get(entry["path"]) == entry["bytes"] for entry in manifest["files"])


def _refuse_foreign(out: Folder) -> None:
    names = [name for name in out.names() if not is_temporary(name.rpartition("/")[2])]
    if not names:
        return
    marked = None
    if _MARKER in names:
        try:
            marked = parse_json(out.read_bytes(_MARKER))
        except ValueError:
            marked = None
    if not isinstance(marked, dict) or marked.get("kind") != KIND:
        some = sorted({name.partition("/")[0] for name in names})[:3]
        raise UserError(
            f"'{out}' holds something else ({', '.join(some)})",
            where="--out",
            fix="name an empty or new folder",
        )
