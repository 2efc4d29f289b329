"""Names of a package that are imported from its modules when they are first used (PEP 562)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazy_exports(
    package: str, homes: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """A package's `__getattr__` and `__dir__`, so that importing it imports none of its modules.

    Type checkers and editors do not follow it: beside the call they need the same imports under
    `if TYPE_CHECKING:`.

    Args:
        package: its `__name__`.
        homes: name -> module that has it, relative to the package: `{"open_shards": "shards.folder"}`.
    """

    def find(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module '{package}' has no attribute '{name}'")
        return getattr(import_module(f"{package}.{homes[name]}"), name)

    return find, lambda: sorted(homes)
