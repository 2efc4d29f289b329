"""What compiled code depends on: its function, the functions that it calls, the constants that it uses."""

from __future__ import annotations

import hashlib
import re
import sys
from functools import cache
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

import numpy as np

_ADDRESS = re.compile(r" at 0x[0-9a-f]+")
"""In memory, another in each process."""


def stamp_of(function: Any) -> str:
    """A digest that changes with the source of a compiled function and of everything that it was made of.

    Compiled code contains the functions that are called and the values of global names. Followed are
    functions, compiled or not, from file to file; of these, of classes and of modules, the whole source file
    counts; of arrays the content, of all other values what `repr` shows.

    Args:
        function: one that Numba compiled, or a plain one.
    """
    seen: set[int] = set()
    parts: list[str] = []
    _describe(function, parts, seen)
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _describe(value: Any, parts: list[str], seen: set[int]) -> None:
    function = getattr(value, "py_func", value)
    code = getattr(function, "__code__", None)
    if isinstance(value, ModuleType):
        parts.append(f"module {value.__name__} {_source_digest(getattr(value, '__file__', None))}")
    elif isinstance(value, type):
        module = sys.modules.get(value.__module__)
        parts.append(f"class {value.__qualname__} {_source_digest(getattr(module, '__file__', None))}")
    elif isinstance(value, np.ndarray):
        parts.append(f"array {value.dtype} {value.shape} {hashlib.sha256(value.tobytes()).hexdigest()}")
    elif code is None:
        parts.append(_ADDRESS.sub("", repr(value)))
    elif id(code) not in seen:
        seen.add(id(code))
        parts.append(f"function {function.__module__}.{function.__qualname__}")
        parts.append(f"{_source_digest(code.co_filename)} {getattr(value, 'targetoptions', None)}")
        inner = [cell.cell_contents for cell in function.__closure__ or ()]
        named = [function.__globals__[name] for name in _names(code) if name in function.__globals__]
        for used in (*inner, *named):
            _describe(used, parts, seen)


def _names(code: CodeType) -> list[str]:
    """Names that code and the code in it look up, in order."""
    inner = [constant for constant in code.co_consts if isinstance(constant, CodeType)]
    return sorted({*code.co_names, *(name for one in inner for name in _names(one))})


@cache
def _source_digest(path: str | None) -> str:
    """Of a file; of what has none, such as a built-in module, nothing."""
    try:
        return hashlib.sha256(Path(path or "").read_bytes()).hexdigest()
    except OSError:
        return ""
