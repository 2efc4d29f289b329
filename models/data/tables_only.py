"""A data set without its sequences: what a run keeps of it, so that a model is served without the rest."""

from __future__ import annotations

import json
import shutil
import uuid
from pathlib import Path
from typing import Any, NoReturn

import pyarrow as pa

from behavior.errors import UserError
from behavior.shards.folder import ShardFolder
from behavior.shards.manifest import MANIFEST_NAME, FileEntry, Manifest, load_manifest
from behavior.shards.names import ITEMS, STATS, VOCABULARY, logical
from behavior.shards.storage import Folder

_ABOUT = "serving.json"


class TablesOnly(ShardFolder):
    """The manifest, the items, the vocabularies and the statistics of a data set; no sequences, no users.

    Args:
        folder: where they are.
        manifest: that of the whole data set.
        missing: why the data set itself is not there: raised where sequences are asked for.
    """

    def __init__(self, folder: Folder, manifest: Manifest, missing: UserError) -> None:
        super().__init__(folder, manifest)
        self.missing = missing

    def sequence_files(self) -> list[FileEntry]:
        """None are there.

        Raises:
            UserError: always.
        """
        self._refuse()

    def users(self) -> pa.Table:
        """Not there.

        Raises:
            UserError: always.
        """
        self._refuse()

    def about_serving(self) -> dict[str, Any]:
        """What was kept besides, as plain values, with `protocol`: see `keep_tables`.

        Raises:
            UserError: it is damaged.
        """
        path = self.folder.path / _ABOUT
        try:
            found = dict(json.loads(path.read_text(encoding="utf-8")))
            bool(found["protocol"]["exclude_seen"]), str(found["protocol"]["exclude_seen_reason"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(
                "what the run keeps of its data set is damaged",
                where=str(path),
                fix="name the data set: --data DIR; or bring the file back from a copy",
            ) from error
        return found

    def _refuse(self) -> NoReturn:
        raise self.missing


def has_sequences(shards: ShardFolder) -> bool:
    """Whether the sequences of a data set are at hand, and not its tables alone."""
    return not isinstance(shards, TablesOnly)


def keep_tables(shards: ShardFolder, into: Path, about: dict[str, Any]) -> None:
    """Copy the tables of a data set, in place of what was kept of an earlier version of it.

    Args:
        shards: the data set.
        into: a local folder; it is there when it is whole.
        about: what else is to be known, as plain values.
    """
    temporary = into.with_name(f"{into.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        for entry in shards.manifest.files:
            name = logical(entry.path)
            if name in (ITEMS, STATS) or name.startswith(f"{VOCABULARY}/"):
                path = temporary / entry.path
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(shards.folder.read_bytes(entry.path))
        (temporary / _ABOUT).write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
        (temporary / MANIFEST_NAME).write_bytes(shards.folder.read_bytes(MANIFEST_NAME))
        if into.exists():
            shutil.rmtree(into)
        temporary.rename(into)
    except OSError as error:
        raise UserError(
            f"what the run is to keep of its data set cannot be written: {error.strerror or error}",
            where=str(into),
            fix="check the disk, and resume the run",
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def open_tables(path: Path, missing: UserError) -> TablesOnly | None:
    """What a run keeps of its data set; None where it keeps nothing, as those of earlier versions.

    Args:
        path: of the folder.
        missing: why the data set itself is not there.

    Raises:
        UserError: it is damaged.
    """
    if not (path / MANIFEST_NAME).is_file():
        return None
    folder = Folder(str(path))
    return TablesOnly(folder, load_manifest(folder), missing)
