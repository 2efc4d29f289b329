"""The manifest: what a shard folder holds, and the proof that it is complete.

`manifest.json` is written last. A folder without a valid one is not a data set. It holds nothing that
depends on when or where it was made, so that equal input gives equal bytes.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pydantic
from pydantic import Field

from behavior.errors import UserError
from behavior.printable import printable_json
from behavior.problems import first_problem
from behavior.shards.damage import PREPARE_AGAIN, parse_json
from behavior.shards.storage import Folder, FolderLike, as_folder

FORMAT_VERSION = 1
MANIFEST_NAME = "manifest.json"
_SPLITS = ("leave_one_out", "next_basket", "temporal", "random")


Number = Annotated[int, Field(ge=0, lt=2**63)]
Integer = Annotated[int, Field(gt=-(2**63), lt=2**63)]
SmallNumber = Annotated[int, Field(ge=0, lt=2**31)]
Finite = Annotated[float, Field(allow_inf_nan=False)]


class _Record(pydantic.BaseModel):
    # A newer minor writer may add keys; readers of the same format version ignore what they do not know.
    model_config = pydantic.ConfigDict(extra="ignore", frozen=True)


class FileEntry(_Record):
    """One file of the data set."""

    path: str
    """Path relative to the folder, with forward slashes."""
    rows: Number
    """Rows in the file; for sequences, users."""
    events: Number
    """Events in the file (0 for tables)."""
    bytes: Number
    """Size of the file."""
    sha256: str
    """Checksum of the file's bytes, in hexadecimal."""
    content: str = ""
    """Digest of a table's values (`behavior.shards.content`); empty for files that are not tables."""


class Counts(_Record):
    """What became of every event read; `read = accepted + rejected + filtered` always holds."""

    read: Integer
    """Events read, whether good or bad; a line that cannot be split into events counts as one."""
    accepted: Integer
    """Events that made it into the data set."""
    rejected: Integer
    """Events that could not be read; each stands in rejected/ with file, line and reason."""
    filtered: Integer
    """Good events left out by a filter or a cap of the spec."""
    events: Integer
    """Events in the sequences; equals accepted."""
    users: Integer
    """Sequences."""
    items: Integer
    """Known items."""

    @pydantic.model_validator(mode="after")
    def _adds_up(self) -> Counts:
        if self.read != self.accepted + self.rejected + self.filtered:
            raise ValueError("read is not accepted + rejected + filtered")
        if self.events != self.accepted:
            raise ValueError("events is not accepted")
        return self


class FeatureEntry(_Record):
    """One feature column of items.parquet, users.parquet or the sequences."""

    name: str
    kind: str
    """How it is stored: categorical (int32), multi_categorical (list of int32) or numeric (float32)."""
    encoding: str = ""
    """What the stored values are: ids by vocabulary, hash or buckets; numbers by standardize, log or none."""
    vocabulary_size: Annotated[int, Field(ge=1, lt=2**31)] | None = None
    """Rows an embedding table needs (padding, missing and OOV included); None for numeric features."""
    hash_size: Annotated[int, Field(ge=1, lt=2**31)] | None = None
    """hash: number of ids that values share; a value has id 2 + hash % hash_size."""
    boundaries: list[Finite] | None = None
    """buckets: rising numbers; a value has id 2 + number of boundaries <= value, compared as float32."""
    mean: Finite | None = None
    """standardize: the mean that was taken off."""
    deviation: Finite | None = None
    """standardize: the standard deviation divided by."""

    @pydantic.model_validator(mode="before")
    @classmethod
    def _old_encoding(cls, data: Any) -> Any:
        # Data sets of lrm-kit 0.1 do not say; they have one encoding a kind.
        if isinstance(data, dict) and "encoding" not in data and "kind" in data:
            return {**data, "encoding": "standardize" if data["kind"] == "numeric" else "vocabulary"}
        return data


class FeatureCoverage(_Record):
    """How many values of a feature were found in one table or group of events."""

    name: str
    known: int
    """Rows of `Coverage.found` that have a value."""
    unread: int = 0
    """Rows whose value could not be read, such as text in place of a number; they count as missing."""
    example: str = ""
    """The first value that could not be read."""


class Coverage(_Record):
    """How much of the log one feature table, or the columns of one group of events, describe."""

    table: str
    """events, items or users, as in the spec."""
    number: int
    """Which of these groups or tables, from 1."""
    of: int
    """Events of the group that were read without fault; known items or users (of the table's domain)."""
    found: int
    """Those that have a row in the table; for events all."""
    features: list[FeatureCoverage]


class InputRecord(_Record):
    """One event file that was read."""

    group: int
    """Number of its group of events in the spec, from 1."""
    path: str
    """Relative to the input folder where it lies in there, else absolute, or a URL."""
    size: int
    """Bytes."""
    modified: str
    """When it was last changed, as its file system says; empty where that does not."""


class HistoryEntry(_Record):
    """What one `--append` added to a data set."""

    version: int
    """Version of the data set that it made; the first job made version 1 and has no entry."""
    input_digest: str
    """SHA-256 of the names, sizes and modification times of the files it read."""
    counts: Counts
    """What became of the events it read."""
    files: list[str]
    """The event files it read, each as GROUP=PATH, with the group and path of its `InputRecord`."""


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
    timestamp_unit: Literal["s", "ms", "us", "none"]
    """s, ms, us, or none for a log that only has an order."""
    split: dict[str, Any]
    oov: SmallNumber
    """Ids 1..oov stand for unknown items."""
    packing: dict[str, Number]
    item_features: list[FeatureEntry]
    user_features: list[FeatureEntry]
    event_features: list[FeatureEntry] = []
    """Columns of the sequences that describe single events, such as a price or a device."""
    files: list[FileEntry]
    version: Annotated[int, Field(ge=1, lt=2**31)] = 1
    """Rises by one with every `--append` and `--overwrite`."""
    buckets: Annotated[int, Field(ge=1, lt=2**31)] | None = None
    """Number of hash partitions of users, each with one sequence file; None where a job did not say."""
    inputs: list[InputRecord] = []
    """All event files that were read, in their order; empty where a job did not say."""
    id_types: dict[str, str] = {}
    """`user` and `item`: whether ids were read as integer or string; empty where a job did not say."""
    coverage: list[Coverage] = []
    """How many values of every feature table and feature were found; empty where a job did not say."""
    history: list[HistoryEntry] = []
    """What each `--append` added, oldest first."""
    damaged_files: list[str] = []
    """Input files that could not be read to their end, as the spec allows."""
    domain_ids: dict[str, str] = {}
    """`items` and `users`: shared or separate ids of domains; empty where there is one domain only."""

    @pydantic.model_validator(mode="after")
    def _agrees(self) -> Manifest:
        # What an addition with --full made less of is negative in the history.
        if any(number < 0 for _, number in self.counts):
            raise ValueError("counts: a number is negative")
        if self.split.get("kind") not in _SPLITS:
            raise ValueError(f"split: its kind is none of {', '.join(_SPLITS)}")
        for key, names in (("behaviors", self.behaviors), ("domains", self.domains)):
            if len(set(names)) < len(names):
                raise ValueError(f"{key}: a name stands there twice")
        if not self.behaviors or not set(self.targets) <= set(self.behaviors):
            raise ValueError("targets: they are not among the behaviors")
        for key in ("item_features", "user_features", "event_features"):
            names = [entry.name for entry in getattr(self, key)]
            if len(set(names)) < len(names):
                raise ValueError(f"{key}: a name stands there twice")
        paths = [entry.path for entry in self.files]
        if len(set(paths)) < len(paths):
            raise ValueError("files: a file stands there twice")
        return self

    @property
    def target_ids(self) -> list[int]:
        """Ids of the target behaviors."""
        return [self.behaviors.index(name) + 1 for name in self.targets]

    def save(self, folder: FolderLike) -> None:
        """Write the manifest whole or not at all: the commit of a data set."""
        without = set() if self.coverage else {"coverage"}  # where there is none, as it always was
        text = printable_json(self.model_dump(exclude=without), indent=2) + "\n"
        as_folder(folder).write_text(MANIFEST_NAME, text)


def load_manifest(folder: FolderLike) -> Manifest:
    """Read the manifest of a shard folder, local or remote.

    Raises:
        UserError: there is no such folder or no manifest, or the manifest is damaged or of a newer format.
    """
    folder = as_folder(folder)
    place = folder.where(MANIFEST_NAME)
    data = _read_record(folder, place)
    version = data.get("format_version") if isinstance(data, dict) else None
    if not isinstance(version, int):
        raise UserError(
            "this is not a manifest of lrm-kit: it has no format_version",
            where=place,
            fix=f"name a folder that 'lrm prepare' made, or {PREPARE_AGAIN}",
        )
    if version > FORMAT_VERSION:
        raise UserError(
            f"the data set has format version {version}; this program reads up to {FORMAT_VERSION}",
            where=place,
            fix="update lrm-kit, or prepare the data again with this version",
        )
    try:
        return Manifest.model_validate(data)
    except pydantic.ValidationError as error:
        raise UserError(
            f"the manifest is damaged: {first_problem(error)}", where=place, fix=PREPARE_AGAIN
        ) from None


def _read_record(folder: Folder, place: str) -> Any:
    if folder.is_local and not folder.path.is_dir():
        raise UserError(
            f"there is no folder '{folder}'", fix="make a data set with: lrm prepare SPEC --out DIR"
        )
    try:
        return parse_json(folder.read_bytes(MANIFEST_NAME))
    except FileNotFoundError:
        raise UserError(
            f"'{folder}' is not a data set: it has no {MANIFEST_NAME}",
            fix="name a folder made by 'lrm prepare'; if a job was interrupted there, run it again",
        ) from None
    except OSError as error:
        raise UserError(
            f"the manifest cannot be read: {error.strerror or error}",
            where=place,
            fix="check the permissions" if isinstance(error, PermissionError) else "check the folder",
        ) from None
    except ValueError as error:
        raise UserError(f"the manifest cannot be read: {error}", where=place, fix=PREPARE_AGAIN) from None
