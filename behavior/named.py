"""Arguments that are the name of something that ships with lrm-kit, or the path of a YAML file."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from behavior.config import did_you_mean
from behavior.errors import UserError

_ENDINGS = (".yaml", ".yml")


def is_ready(name: str | Path, ready: Collection[str], *, what: str, where: str | None = None) -> bool:
    """Whether a name is a ready one; else it is the path of a file.

    Ready names come first: neither a file nor a folder that happens to be called so changes what they mean.
    The file of that name is `./NAME`.

    Args:
        name: as the user gave it.
        ready: the names that there are.
        what: what they name: spec, recipe, table.
        where: the argument that gave the name, for the error.

    Raises:
        UserError: it is neither; names the nearest ready one.
    """
    text, path = str(name), Path(name)
    if text in ready:
        return True
    if text.endswith(_ENDINGS) or (path.exists() and not path.is_dir()):
        return False
    advice = f"{did_you_mean(text, ready)} Or name a YAML file"
    if path.is_dir():
        raise UserError(
            f"'{text}' is a folder, neither a YAML file nor a ready {what}", where=where, fix=advice
        )
    raise UserError(f"'{text}' is neither a file nor a ready {what}", where=where, fix=advice)
