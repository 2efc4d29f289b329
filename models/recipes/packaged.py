"""YAML files that ship with the package, and those of the user beside them."""

from __future__ import annotations

from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import yaml

from behavior.config import read_yaml
from behavior.named import is_ready


def packaged_yaml(folder: str) -> dict[str, Traversable]:
    """The YAML files in a folder of this package, by path below it without the ending: `ml-1m/hstu`."""
    found: dict[str, Traversable] = {}
    folders = [("", resources.files("models") / folder)]
    while folders:
        prefix, inner = folders.pop()
        for entry in inner.iterdir():
            if entry.is_dir():
                folders.append((f"{prefix}{entry.name}/", entry))
            elif entry.name.endswith(".yaml"):
                found[prefix + entry.name.removesuffix(".yaml")] = entry
    return found


def load_yaml(name: str | Path, folder: str, *, what: str) -> dict[str, Any]:
    """What a YAML file holds: one that ships with the package, by name, or another by its path.

    Args:
        name: of a packaged one, or path of a file.
        folder: of this package, in which ready ones lie.
        what: they are, for the error: recipe, table, grid.

    Raises:
        UserError: there is neither (names the nearest ready one), or the file is no mapping.
    """
    packaged = packaged_yaml(folder)
    if not is_ready(name, packaged, what=what):
        return read_yaml(name)
    return yaml.safe_load(packaged[str(name)].read_text(encoding="utf-8")) or {}
