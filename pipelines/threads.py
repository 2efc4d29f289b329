"""Thread pools of the libraries inside a worker."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numba
import pyarrow as pa

from behavior.runtime.cores import usable_cores

ONE_AT_A_TIME = threading.Lock()
"""Jobs of one process wait for each other: Beam's log and the pools of threads are the process's own."""
_turns = threading.BoundedSemaphore(max(2, usable_cores()))


@contextmanager
def one_of_few() -> Iterator[None]:
    """Work that holds much memory: as many threads of a process do it at once as there are cores, or two.

    How many an engine asks for is its own affair: Prism at least eight, Flink one a slot.
    """
    with _turns:
        yield


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
