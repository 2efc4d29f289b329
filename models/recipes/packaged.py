"""YAML files that ship with the package."""

from __future__ import annotations

from importlib import resources
from importlib.resources.abc import Traversable


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
