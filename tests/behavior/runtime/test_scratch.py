"""Large arrays: in a file, or in memory where there is no room for it."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from behavior.runtime import scratch

MEASURED = """
from pathlib import Path
import numpy as np
from behavior.runtime import scratch

def anonymous():
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))

size = 64 << 20
before = anonymous()
array = scratch.empty(size // 8, np.int64)
array[:] = 3
of_file = anonymous() - before
ordinary = np.full(size // 8, 3)
print(of_file, anonymous() - before, array.sum() == ordinary.sum())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_large_array_takes_no_memory_of_its_own() -> None:
    """In a process of its own: one that has freed memory takes no new one for an ordinary array either."""
    found = subprocess.run([sys.executable, "-c", MEASURED], capture_output=True, text=True, check=True)
    of_file, with_ordinary, equal = found.stdout.split()
    size = 64 << 20
    assert int(of_file) < size // 4
    assert int(with_ordinary) > size // 2
    assert equal == "True"


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
