"""Arrays that outgrow memory: large ones lie in a file without a name, whose pages the system may take back.

The events of most users are few, and their arrays ordinary ones. But a user is never divided, and one with
millions of events needs arrays of as many elements, a dozen at a time: what a process must hold would grow
with its largest user. Pages of a file are written out where memory is wanted for something else.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa

LARGE_BYTES = 16 << 20
"""Arrays of at most so many bytes are in ordinary memory."""


def empty(length: int, dtype: np.dtype | type) -> np.ndarray:
    """An array for someone to fill, in a temporary file where it is large.

    Where there is no room for the file it is in memory after all.

    Args:
        length: elements.
        dtype: their type.
    """
    kind = np.dtype(dtype)
    size = length * kind.itemsize
    if size > LARGE_BYTES:
        try:
            return np.frombuffer(_mapped(size), kind)
        except OSError:
            pass
    return np.empty(length, kind)


def _mapped(size: int) -> mmap.mmap:
    """Memory that is a file in the temporary folder; it goes with the last array in it.

    Raises:
        OSError: there is no room. Without asking for it now, the first write beyond it would end the process.
    """
    with tempfile.TemporaryFile(prefix="lrm-scratch-") as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
        else:
            file.truncate(size)
        return mmap.mmap(file.fileno(), size)


def kept(batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> list[pa.RecordBatch]:
    """Record batches, one after the other out of memory: in a temporary file, and mapped from there.

    Args:
        batches: each is let go of before the next one is asked for.
        schema: of all of them.

    Raises:
        OSError: there is no room.
    """
    handle, path = tempfile.mkstemp(prefix="lrm-scratch-")
    os.close(handle)
    try:
        with pa.OSFile(path, "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
            for batch in batches:
                writer.write_batch(batch)
        with pa.memory_map(path) as source:
            reader = pa.ipc.open_file(source)
            return [reader.get_batch(number) for number in range(reader.num_record_batches)]
    finally:
        os.unlink(path)


class Aside:
    """Arrays that are set aside in a temporary file, to be gone through later, as often as is wanted."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(prefix="lrm-scratch-")  # noqa: SIM115
        self._places: list[tuple[np.dtype, int, int]] = []
        self._size = 0

    def append(self, array: np.ndarray) -> None:
        """Set one aside.

        Raises:
            OSError: there is no room.
        """
        self._places.append((array.dtype, self._size, len(array)))
        self._file.write(array.data.cast("B"))
        end = self._size + array.nbytes
        self._size = -(-end // 8) * 8  # numbers begin where a machine likes them to
        self._file.write(bytes(self._size - end))

    def __iter__(self) -> Iterator[np.ndarray]:
        """Each of them, mapped into memory; not to be written to."""
        self._file.flush()
        data: mmap.mmap | bytes = b""
        if self._size:
            data = mmap.mmap(self._file.fileno(), self._size, access=mmap.ACCESS_READ)
        for kind, start, length in self._places:
            yield np.frombuffer(data, kind, length, start)
