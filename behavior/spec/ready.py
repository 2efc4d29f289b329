"""The ready-made specs of public data sets: YAML files in `behavior/datasets`, found by name."""

from __future__ import annotations

from pathlib import Path

from behavior.config import did_you_mean
from behavior.errors import UserError

FOLDER = Path(__file__).parents[1] / "datasets"
SOURCES = FOLDER / "sources.yaml"
"""Where the data are published; not a spec. See `behavior.datasets.sources`."""


def names() -> list[str]:
    """Names of the ready specs."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml") if path != SOURCES)


def path_of(name: str, *, where: str = "SPEC") -> Path:
    """The spec file of a ready spec.

    Args:
        name: of the ready spec.
        where: the argument that gave the name, for the error.

    Raises:
        UserError: there is none of that name.
    """
    path = FOLDER / f"{name}.yaml"
    if name not in names():
        raise UserError(f"there is no ready spec '{name}'", where=where, fix=did_you_mean(name, names()))
    return path
