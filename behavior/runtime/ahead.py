"""Compiling in other processes, while this one is at other things: Numba compiles one function at a time.

What they have compiled lies in the cache on disk. This process waits there for a function that one of them is
at, instead of compiling it as well.
"""

from __future__ import annotations

import atexit
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

from behavior.runtime.imports import python_of_our_own, without

_SECONDS = 120.0
"""That a function is waited for, at most."""
_SECONDS_BETWEEN_LOOKS = 0.02
_at_it: dict[str, subprocess.Popen] = {}
"""Who compiles a function, by its name."""


def compile_elsewhere(call: str, functions: Sequence[Any]) -> bool:
    """Have another process compile functions, unless they are compiled.

    Args:
        call: `module:function`, which compiles them.
        functions: those that Numba is to compile, as `behavior.runtime.compiled` made them.

    Returns:
        Whether one was started.
    """
    names = [name_of(function.py_func) for function in functions if _wanted(function)]
    if not names or any(name in _at_it for name in names):
        return False
    command, environment = python_of_our_own(__name__, call)
    nowhere = subprocess.DEVNULL
    try:
        process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.PIPE,  # breaks when this process ends, however that happens
            stdout=nowhere,
            stderr=nowhere,
        )
    except OSError:  # no room for a process, or no interpreter: this process compiles
        return False
    atexit.register(_end, process)
    _at_it.update(dict.fromkeys(names, process))
    return True


def awaited(function: Any, there: Callable[[], bool]) -> bool:
    """Whether another process was compiling a Python function, maybe for several types.

    By then the code is there, or that process has ended, or it takes too long.

    Args:
        function: the function.
        there: whether its code for the types that are wanted lies on disk.
    """
    name = name_of(function)
    process = _at_it.get(name)
    if process is None:
        return False
    deadline = time.monotonic() + _SECONDS
    while process.poll() is None and not there() and time.monotonic() < deadline:
        time.sleep(_SECONDS_BETWEEN_LOOKS)
    if not there():
        del _at_it[name]
    return True


def name_of(function: Any) -> str:
    """By which functions are told apart."""
    return f"{function.__module__}.{function.__qualname__}"


def _wanted(function: Any) -> bool:
    """Whether it is to be compiled, and can be kept where another process finds it."""
    cache = getattr(function, "_cache", None)
    return cache is not None and hasattr(cache, "lacks") and cache.lacks()


def _end(process: subprocess.Popen) -> None:
    process.kill()
    process.wait()


def _end_with_the_first() -> None:
    while os.read(0, 1):
        pass
    os._exit(1)


def _main(call: str) -> None:
    threading.Thread(target=_end_with_the_first, daemon=True).start()
    without("pandas", "scipy")  # Numba would import it, for products that none of ours has
    module, _, function = call.partition(":")
    getattr(import_module(module), function)()


if __name__ == "__main__":
    _main(*sys.argv[1:])
