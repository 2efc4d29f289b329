"""Compiled code is kept on disk where the environment allows it, and works where it does not."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import behavior
from behavior.packing.pack import fill_packs, pack_lengths

SCRIPT = """
import behavior
from behavior.packing.pack import fill_packs, pack_lengths
from behavior.packing.kernels import place
print(behavior.__file__)
print(pack_lengths([5, 7, 3, 5, 10], 10).tolist(), fill_packs([4, 8, 5, 7, 2, 1], 10, 2).tolist())
print(sum(place.stats.cache_hits.values()) if hasattr(place, "stats") else 0)
"""
EXPECTED = f"{pack_lengths([5, 7, 3, 5, 10], 10).tolist()} {fill_packs([4, 8, 5, 7, 2, 1], 10, 2).tolist()}"


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A copy of the package where no cache can be made, not even by root: a file is in its place."""
    source = Path(behavior.__file__).parent
    copy = tmp_path / "site" / "behavior"
    shutil.copytree(source, copy, ignore=shutil.ignore_patterns("__pycache__"))
    for folder in (copy, *(path for path in copy.rglob("*") if path.is_dir())):
        (folder / "__pycache__").touch()
    return copy.parent


def run(package: Path, cache: Path) -> tuple[str, int]:
    """What the script prints in a fresh process, and how much of it came from the cache."""
    (blocked := package.parent / "file").touch()
    places = {name: str(blocked / "below") for name in ("HOME", "XDG_CACHE_HOME", "LOCALAPPDATA")}
    environment = {
        **os.environ,
        **places,
        "NUMBA_CACHE_DIR": str(cache),
        "PYTHONPATH": str(package),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        cwd=package,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    where, result, hits = done.stdout.splitlines()
    assert Path(where).parent.parent == package
    return result, int(hits)


def test_nothing_can_be_written(package: Path) -> None:
    assert run(package, package.parent / "file" / "below") == (EXPECTED, 0)


def test_a_cache_folder_of_ones_own(package: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    assert run(package, cache) == (EXPECTED, 0)
    assert list(cache.rglob("kernels.place*.nbc"))
    assert run(package, cache) == (EXPECTED, 1)
