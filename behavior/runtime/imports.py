"""What other libraries import on the way, though nobody here needs it."""

from __future__ import annotations

import sys
from typing import Any


def without_pandas() -> None:
    """For processes of our own: pandas is not found.

    Where it is, Arrow imports it at the first array that is converted, to see whether that is one of pandas':
    a third of a second in each process.
    """
    if "pandas" not in sys.modules and not any(isinstance(one, _NoPandas) for one in sys.meta_path):
        sys.meta_path.insert(0, _NoPandas())


class _NoPandas:
    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name == "pandas":
            raise ModuleNotFoundError("this process does without", name=name)
