"""Thread pools of the libraries inside a worker."""

from __future__ import annotations

import numba
import pyarrow as pa


def one_thread() -> None:
    """Keep Arrow and Numba to one thread: workers are processes, and several pools fight for the cores."""
    pa.set_cpu_count(1)
    pa.set_io_thread_count(2)
    numba.set_num_threads(1)
