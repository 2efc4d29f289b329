"""Parts of files, of local and of remote folders."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from behavior.shards.ranges import FileRange, read_ranges
from behavior.shards.storage import Folder

FILES = {f"in/{number}": random.Random(number).randbytes(1000 + number) for number in range(7)}


@pytest.fixture(params=["local", "remote"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Folder]:
    found = Folder(str(tmp_path) if request.param == "local" else "memory://ranges/of")
    for name, data in FILES.items():
        found.write_bytes(name, data)
    yield found
    found.remove_tree()


def test_parts_come_as_they_are_asked_for(folder: Folder) -> None:
    """More than are fetched at once, and one that is empty."""
    rng = random.Random(1)
    asked = [FileRange("in/3", 5, 5)]
    for _ in range(200):
        start = rng.randrange(900)
        asked.append(FileRange(rng.choice(list(FILES)), start, start + rng.randrange(1, 100)))
    found = [data.to_pybytes() for data in read_ranges(folder, asked)]
    assert found == [FILES[name][start:end] for name, start, end in asked]
    assert list(read_ranges(folder, [])) == []


def test_a_file_that_ends_before_is_an_error(folder: Folder) -> None:
    with pytest.raises(OSError, match="in/2' ends before byte 1003"):
        list(read_ranges(folder, [FileRange("in/2", 900, 1003)]))
    with pytest.raises(FileNotFoundError):
        list(read_ranges(folder, [FileRange("in/9", 0, 1)]))
