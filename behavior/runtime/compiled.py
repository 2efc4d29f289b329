"""Numba's compiler, with the compiled code kept on disk where the environment allows it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar, cast

import numba

from behavior.runtime.code_cache import CodeCache

F = TypeVar("F", bound=Callable[..., Any])
INSIDE = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
"""Options of what only compiled functions call."""


def compiled(function: F) -> F:
    """Compile a function of numbers and arrays to machine code on its first call.

    The result depends on nothing but the arguments: no fast-math, no parallel reductions.
    """
    return compiled_with()(function)


def compiled_inside(function: F) -> F:
    """`compiled`, for what only compiled functions call.

    What Python would call it by takes a good part of the compiler's time for a small function.
    """
    return compiled_with(**INSIDE)(function)


def compiled_with(**options: Any) -> Callable[[F], F]:
    """`compiled`, with options of `numba.njit`, such as `fastmath`.

    Compiled code is kept on disk (`code_cache`), where Numba keeps its own: `NUMBA_CACHE_DIR`, the folder of
    the source or the user's cache folder. Where none of them can be written, functions are compiled in each
    process.
    """

    def compile_(function: F) -> F:
        dispatcher = numba.njit(nogil=True, **options)(function)
        if hasattr(dispatcher, "enable_caching"):  # not under NUMBA_DISABLE_JIT
            with suppress(RuntimeError, OSError):  # no folder for it
                dispatcher._cache = CodeCache(dispatcher)
        return cast(F, dispatcher)

    return compile_
