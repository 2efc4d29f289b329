"""Large arrays: in a file, or in memory where there is no room for it."""

from __future__ import annotations

import errno
import os
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from behavior.runtime import scratch


def anonymous() -> int:
    """Bytes of memory of this process that are of no file."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_large_array_takes_no_memory_of_its_own() -> None:
    before, size = anonymous(), 64 << 20
    array = scratch.empty(size // 8, np.int64)
    array[:] = 3
    assert anonymous() - before < size // 4
    assert array.sum() == 3 * size // 8
    ordinary = np.full(size // 8, 3)
    assert anonymous() - before > size // 2
    assert len(ordinary) == len(array)


def test_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no room")

    monkeypatch.setattr(scratch, "LARGE_BYTES", 0)
    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    array = scratch.empty(5, np.int32)
    array[:] = range(5)
    assert array.tolist() == [0, 1, 2, 3, 4]


def test_batches_are_mapped_from_a_file_that_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    batches = [pa.record_batch({"a": [number, 2], "b": ["x", str(number)]}) for number in range(4)]
    found = scratch.kept(iter(batches), batches[0].schema)
    assert found == batches
    assert not list(tmp_path.iterdir())


def test_arrays_that_are_set_aside() -> None:
    aside = scratch.Aside()
    assert list(aside) == []
    arrays = [np.ones(number, kind) for number, kind in ((3, "i4"), (0, "i8"), (5, "i8"), (7, "?"))]
    for array in arrays:
        aside.append(array)
    for _ in range(2):
        found = list(aside)
        assert [one.dtype for one in found] == [one.dtype for one in arrays]
        assert [one.tolist() for one in found] == [one.tolist() for one in arrays]
