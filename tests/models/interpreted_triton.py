"""Triton kernels on the CPU, statement by statement."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest


@contextmanager
def interpreted(*modules: str) -> Iterator[None]:
    """Import Triton and modules with kernels anew: whether kernels are interpreted is decided at import."""
    packages = tuple(f"{name.rpartition('.')[0]}." for name in modules)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_INTERPRET", "1")
        for name in list(sys.modules):
            compiled = name.startswith("triton._C")
            if (name.split(".")[0] == "triton" and not compiled) or name.startswith(packages):
                del sys.modules[name]
        for name in modules:
            importlib.import_module(name)
        yield
