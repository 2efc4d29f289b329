"""Thread pools of the libraries inside a worker."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numba
import pyarrow as pa


def one_thread() -> None:
    """Keep Arrow and Numba to one thread: workers run in parallel, and several pools fight for the cores."""
    pa.set_cpu_count(1)
    pa.set_io_thread_count(2)
    numba.set_num_threads(1)


@contextmanager
def pools_restored() -> Iterator[None]:
    """Give the pools back their size afterwards: workers may run in the caller's own process."""
    before = pa.cpu_count(), pa.io_thread_count(), numba.get_num_threads()
    try:
        yield
    finally:
        pa.set_cpu_count(before[0])
        pa.set_io_thread_count(before[1])
        numba.set_num_threads(before[2])
