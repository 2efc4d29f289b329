"""Memory that is freed, kept for the next array of its size.

The C library gives arrays of megabytes back to the system, and takes them anew page by page: with many
workers the system is then busy with nothing else. What is kept is at most what was in use at once.
"""

from __future__ import annotations

import ctypes
import gc
import sys
from contextlib import suppress

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Of `mallopt`."""
_LARGEST = 32 << 20
"""The largest array that the C library keeps: it takes no larger number."""
_KEPT = 512 << 20
"""Bytes of free memory at the end of the heap from which on they are given back."""


_ALLOCATIONS = 50_000
"""Objects of Python's more than before, from which on it looks for circles among them."""


def few_collections() -> None:
    """Have Python look for circles of objects less often, and never among those that are there now.

    For processes that are not shared with anything else: hundreds of thousands of rejected rows are as many
    objects and no circle.
    """
    gc.freeze()
    gc.set_threshold(_ALLOCATIONS, 20, 100)


def keep_freed() -> bool:
    """Have this process keep what it frees; for processes that are not shared with anything else.

    Returns:
        Whether the C library here is one that can be told: GNU's.
    """
    with suppress(OSError, AttributeError):
        if sys.platform == "linux":
            library = ctypes.CDLL(None)
            told = [library.mallopt(_MMAP_THRESHOLD, _LARGEST), library.mallopt(_TRIM_THRESHOLD, _KEPT)]
            return all(told)
    return False
