"""Ready-made specs for public data sets; the data themselves are the user's to bring."""

from __future__ import annotations

from pathlib import Path

from behavior.config import did_you_mean
from behavior.errors import UserError

_FOLDER = Path(__file__).parent


def names() -> list[str]:
    """Names of the ready specs."""
    return sorted(path.stem for path in _FOLDER.glob("*.yaml"))


def path_of(name: str) -> Path:
    """The spec file of a ready spec.

    Raises:
        UserError: there is none of that name.
    """
    path = _FOLDER / f"{name}.yaml"
    if name not in names():
        raise UserError(
            f"'{name}' is neither a file nor a ready spec", where="SPEC", fix=did_you_mean(name, names())
        )
    return path
