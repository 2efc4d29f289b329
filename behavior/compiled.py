"""Numba's compiler, with the compiled code kept on disk where the environment allows it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

F = TypeVar("F", bound=Callable[..., Any])


def compiled(function: F) -> F:
    """Compile a function of numbers and arrays to machine code on its first call.

    The result depends on nothing but the arguments: no fast-math, no parallel reductions.
    """
    try:
        return cast(F, numba.njit(cache=True, nogil=True)(function))
    except RuntimeError:
        # Neither the package's folder nor the user's cache can be written: compile anew each time.
        return cast(F, numba.njit(nogil=True)(function))
