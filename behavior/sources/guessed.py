"""What a look at a raw file finds out."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from behavior.errors import UserError
from behavior.files import write_whole


@dataclass(frozen=True)
class GuessedColumn:
    """One column of a raw file."""

    name: str
    kind: str
    """integer, number, time, text or list."""
    role: str | None
    """user, item, timestamp, behavior or value; None where nothing tells."""
    examples: list[str]
    distinct: int
    """Distinct values in the sample."""
    empty: int
    """Missing values in the sample."""


@dataclass(frozen=True)
class Guess:
    """What a raw file seems to be."""

    path: str
    format: str
    separator: str | None
    header: bool | None
    encoding: str
    compression: str | None
    rows_sampled: int
    columns: list[GuessedColumn]
    timestamp_unit: str
    spec: dict[str, Any] | None
    """A proposed spec; None where no user or item column was found."""
    notes: list[str]

    def to_record(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    def spec_yaml(self) -> str:
        """The proposed spec as YAML."""
        return yaml.safe_dump(
            self.spec, sort_keys=False, allow_unicode=True, default_flow_style=None, width=100
        )

    def save_spec(self, path: Path) -> None:
        """Write the proposed spec to a new file, with the raw file's path as seen from there.

        Raises:
            UserError: no spec could be proposed, the file is there already, or cannot be written.
        """
        if self.spec is None:
            raise UserError(self.notes[0], where=self.path, fix="write the spec by hand")
        if path.exists():
            raise UserError(f"'{path}' is there already", fix="name another file for the spec")
        raw = Path(self.path)
        # Paths in a spec are relative to the spec's own folder.
        same_folder = path.resolve().parent == raw.resolve().parent
        self.spec["events"]["files"] = raw.name if same_folder else str(raw.resolve())
        write_whole(path, self.spec_yaml().encode("utf-8"), "--save")
