"""What other libraries import on the way, though nobody here needs it."""

from __future__ import annotations

import sys
from typing import Any


def without(*names: str) -> None:
    """For processes of our own: packages are not found.

    Where pandas is installed, Arrow imports it at the first array that is converted, to see whether that is
    one of pandas': a third of a second in each process. Before Numba compiles anything it imports scipy, for
    products of matrices.
    """
    sys.meta_path.insert(0, _Without(names))


class _Without:
    def __init__(self, names: tuple[str, ...]) -> None:
        self.names = names

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name in self.names:
            raise ModuleNotFoundError("this process does without", name=name)
