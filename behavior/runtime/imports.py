"""What other libraries import on the way, though nobody here needs it."""

from __future__ import annotations

import os
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any


def without(*names: str) -> None:
    """For processes of our own: packages cannot be imported.

    Where pandas is installed, Arrow imports it at the first array that is converted, to see whether that is
    one of pandas': a third of a second in each process. Before Numba compiles anything it imports scipy, for
    products of matrices.
    """
    sys.meta_path.insert(0, _Without(names))


def python_of_our_own(module: str, *arguments: str) -> tuple[list[str], dict[str, str]]:
    """The command of a process of Python that runs one of our modules, and its environment.

    It finds what this process finds, and nothing else: `-m` alone would look in the working folder first,
    where a `random.py` of the user's may lie.
    """
    path = os.pathsep.join(dict.fromkeys(entry or os.getcwd() for entry in sys.path))
    return [sys.executable, "-P", "-m", module, *arguments], {**os.environ, "PYTHONPATH": path}


class _Without:
    def __init__(self, names: tuple[str, ...]) -> None:
        self.names = names

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        return ModuleSpec(name, self) if name in self.names else None  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> None:
        raise ModuleNotFoundError("this process does without", name=spec.name)

    def exec_module(self, module: ModuleType) -> None:
        pass
