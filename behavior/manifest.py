"""The manifest: what a shard folder holds, and the proof that it is complete.

`manifest.json` is written last. A folder without a valid one is not a data set. It holds nothing that
depends on when or where it was made, so that equal input gives equal bytes.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pydantic

from behavior.errors import UserError

FORMAT_VERSION = 1
MANIFEST_NAME = "manifest.json"


class _Record(pydantic.BaseModel):
    # A newer minor writer may add keys; readers of the same format version ignore what they do not know.
    model_config = pydantic.ConfigDict(extra="ignore", frozen=True, use_attribute_docstrings=True)


class FileEntry(_Record):
    """One file of the data set."""

    path: str
    """Path relative to the folder, with forward slashes."""
    rows: int
    """Rows in the file; for sequences, users."""
    events: int
    """Events in the file (0 for tables)."""
    bytes: int
    """Size of the file."""
    sha256: str
    """Checksum of the file's bytes, in hexadecimal."""


class Counts(_Record):
    """What became of every event read; `read = accepted + rejected + filtered` always holds."""

    read: int
    """Events read, whether good or bad; a line that cannot be split into events counts as one."""
    accepted: int
    """Events that made it into the data set."""
    rejected: int
    """Events that could not be read; each stands in rejected/ with file, line and reason."""
    filtered: int
    """Good events left out by a filter or a cap of the spec."""
    events: int
    """Events in the sequences; equals accepted."""
    users: int
    """Sequences."""
    items: int
    """Known items."""

    @pydantic.model_validator(mode="after")
    def _adds_up(self) -> Counts:
        if self.read != self.accepted + self.rejected + self.filtered:
            raise ValueError("read is not accepted + rejected + filtered")
        if self.events != self.accepted:
            raise ValueError("events is not accepted")
        return self


class FeatureEntry(_Record):
    """One feature column of items.parquet or users.parquet."""

    name: str
    kind: str
    """categorical, multi_categorical or numeric."""
    vocabulary_size: int | None = None
    """Rows an embedding table needs (padding, missing and OOV included); None for numeric features."""
    mean: float | None = None
    """Numeric features: the mean that was taken off."""
    deviation: float | None = None
    """Numeric features: the standard deviation divided by."""


class Manifest(_Record):
    """What a shard folder holds; see docs/shards.md."""

    format_version: int
    name: str
    spec: dict[str, Any]
    """The spec as it was used, defaults filled in."""
    spec_digest: str
    """SHA-256 of the spec."""
    input_digest: str
    """SHA-256 of the input files' names, sizes and modification times."""
    counts: Counts
    behaviors: list[str]
    """Behaviors in id order; the first has id 1, 0 is padding."""
    targets: list[str]
    """Behaviors that are predicted and evaluated."""
    domains: list[str]
    """Domains in id order; the first has id 1. Empty where the log has one domain only."""
    timestamp_unit: str
    """s, ms, us, or none for a log that only has an order."""
    split: dict[str, Any]
    oov: int
    """Ids 1..oov stand for unknown items."""
    packing: dict[str, int]
    item_features: list[FeatureEntry]
    user_features: list[FeatureEntry]
    files: list[FileEntry]

    @property
    def target_ids(self) -> list[int]:
        """Ids of the target behaviors."""
        return [self.behaviors.index(name) + 1 for name in self.targets]

    def save(self, folder: Path) -> None:
        """Write the manifest under a temporary name and rename it: the commit of a data set."""
        temporary = folder / (MANIFEST_NAME + ".tmp")
        temporary.write_text(
            json.dumps(self.model_dump(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
        )
        temporary.replace(folder / MANIFEST_NAME)


def load_manifest(folder: str | Path) -> Manifest:
    """Read the manifest of a shard folder.

    Raises:
        UserError: there is no such folder or no manifest, or the manifest is damaged or of a newer format.
    """
    folder = Path(folder)
    path = folder / MANIFEST_NAME
    if not folder.is_dir():
        raise UserError(
            f"there is no folder '{folder}'", fix="make a data set with: lrm prepare SPEC --out DIR"
        )
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(
            f"'{folder}' is not a data set: it has no {MANIFEST_NAME}",
            fix="name a folder made by 'lrm prepare'; if a job was interrupted there, run it again",
        ) from None
    except (OSError, ValueError) as error:
        raise UserError(
            f"the manifest cannot be read: {error}", where=str(path), fix="prepare the data again"
        ) from None
    version = data.get("format_version") if isinstance(data, dict) else None
    if not isinstance(version, int):
        raise UserError("this is not a manifest of lrm-kit: it has no format_version", where=str(path))
    if version > FORMAT_VERSION:
        raise UserError(
            f"the data set has format version {version}; this program reads up to {FORMAT_VERSION}",
            where=str(path),
            fix="update lrm-kit, or prepare the data again with this version",
        )
    try:
        return Manifest.model_validate(data)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "manifest"
        raise UserError(
            f"the manifest is damaged: {place}: {first['msg']}", where=str(path), fix="prepare the data again"
        ) from None
