"""What a look at a raw file finds out."""

from __future__ import annotations

import copy
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import yaml

from behavior.errors import UserError
from behavior.files import write_whole
from behavior.printable import printable
from behavior.spec.skeleton import open_settings


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
    sure: bool = False
    """Whether the role follows from the column's name and values; otherwise it is a guess."""


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
    spec: dict[str, Any]
    """A proposed spec, with ??? for what cannot be told."""
    notes: list[str]
    base: str = "."
    """The folder that paths in `spec` are relative to."""
    others: dict[str, list[GuessedColumn]] = field(default_factory=dict)
    """Further files that are written otherwise, with their columns: other logs, and tables."""

    @property
    def open(self) -> list[str]:
        """The settings of the spec that are left to fill in."""
        return open_settings(self.spec)

    def to_record(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self) | {"open": self.open}

    def spec_yaml(self) -> str:
        """The proposed spec as YAML."""
        return _yaml(self.spec)

    def save_spec(self, path: Path) -> None:
        """Write the proposed spec to a new file, with paths as seen from there.

        Where something is left to fill in, the notes stand above it as comments.

        Raises:
            UserError: the file is there already, or cannot be written.
        """
        if os.path.lexists(path):  # a link to nothing, too: what it names is not for a new file
            raise UserError(f"'{path}' is there already", fix="name another file for the spec")
        # Paths in a spec are relative to the spec's own folder.
        folder = os.path.relpath(self.base, path.resolve().parent)
        text = _yaml(_moved(self.spec, folder))
        if self.open:
            text = _comments([f"Fill in what only you know, in place of ???: {', '.join(self.open)}"]) + text
            told = _comments(self.notes) + text
            text = told if _is_yaml(told) else text
        write_whole(path, text.encode("utf-8"), "--save")


def _moved(spec: dict[str, Any], folder: str) -> dict[str, Any]:
    """A spec with all files seen from elsewhere."""
    spec = copy.deepcopy(spec)
    entries = [spec[key] for key in ("events", "items", "users") if key in spec]
    for entry in [each for found in entries for each in (found if isinstance(found, list) else [found])]:
        names = entry["files"] if isinstance(entry["files"], list) else [entry["files"]]
        moved = [os.path.normpath(os.path.join(folder, name)) for name in names]
        entry["files"] = moved if isinstance(entry["files"], list) else moved[0]
    return spec


def _comments(lines: list[str]) -> str:
    return "".join(f"# {printable(' '.join(line.split()))}\n" for line in lines)


def _is_yaml(text: str) -> bool:
    """Whether it can be read: names in comments may hold characters that no YAML has."""
    try:
        yaml.safe_load(text)
    except yaml.YAMLError:
        return False
    return True


def _yaml(spec: dict[str, Any]) -> str:
    return yaml.safe_dump(spec, sort_keys=False, allow_unicode=True, default_flow_style=None, width=100)
