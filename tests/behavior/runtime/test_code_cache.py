"""Compiled code on disk: used when it is whole and one's own, made anew when it is anything else."""

from __future__ import annotations

import errno
import importlib.util
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numba
import pytest

from behavior.runtime import code_cache, code_stamp

INNER = """
from behavior.runtime.compiled import compiled

STEP = {step}


@compiled
def inner(number):
    return number + {added}
"""
OUTER = """
from inner import STEP, inner
from behavior.runtime.compiled import compiled


@compiled
def outer(number):
    return STEP * inner(number)
"""


class Package:
    """Two files, of which one uses a function and a constant of the other, and a cache folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.cache = folder / "source", folder / "cache"
        self.folder.mkdir()
        self.write()

    def write(self, step: int = 10, added: int = 1) -> None:
        (self.folder / "inner.py").write_text(INNER.format(step=step, added=added))
        (self.folder / "outer.py").write_text(OUTER)

    def entries(self, name: str = "outer") -> list[Path]:
        return sorted(self.cache.rglob(f"{name}.{name}*.nbc"))

    def call(self, monkeypatch: pytest.MonkeyPatch) -> tuple[int, bool]:
        """What a new process gets of `outer(4)`, and whether it came from the cache."""
        code_stamp._source_digest.cache_clear()
        for name in ("inner", "outer"):
            monkeypatch.setitem(sys.modules, name, self._loaded(name, monkeypatch))
        outer: Any = sys.modules["outer"].outer  # type: ignore[attr-defined]
        return outer(4), bool(outer.stats.cache_hits)

    def _loaded(self, name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
        found = importlib.util.spec_from_file_location(name, self.folder / f"{name}.py")
        assert found is not None
        assert found.loader is not None
        module = importlib.util.module_from_spec(found)
        monkeypatch.setitem(sys.modules, name, module)
        found.loader.exec_module(module)
        return module


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Package:
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    package = Package(tmp_path)
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(package.cache))
    return package


def test_code_is_kept(package: Package, monkeypatch: pytest.MonkeyPatch) -> None:
    assert package.call(monkeypatch) == (50, False)
    assert package.call(monkeypatch) == (50, True)


@pytest.mark.parametrize(("change", "value"), [({"added": 2}, 60), ({"step": 11}, 55)])
def test_a_change_in_another_file_is_noticed(
    change: dict[str, int], value: int, package: Package, monkeypatch: pytest.MonkeyPatch
) -> None:
    package.call(monkeypatch)
    package.write(**change)
    assert package.call(monkeypatch) == (value, False)
    assert package.call(monkeypatch) == (value, True)
    assert len(package.entries()) == 1  # the stale one is gone


def _flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


DAMAGES: dict[str, Callable[[Path], Any]] = {
    "empty": lambda path: path.write_bytes(b""),
    "truncated": lambda path: os.truncate(path, path.stat().st_size - 1),
    "one byte": _flipped,
    "foreign": lambda path: path.write_bytes(b"\x80\x04."),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"."),
    "folder": _folder,
    "pipe": _pipe,
    "link to nothing": lambda path: (path.unlink(), path.symlink_to(path.with_name("nothing"))),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_compiled_anew(damage: str, package: Package, monkeypatch: pytest.MonkeyPatch) -> None:
    package.call(monkeypatch)
    for entry in [*package.entries(), *package.entries("inner")]:
        DAMAGES[damage](entry)
    assert package.call(monkeypatch) == (50, False)
    # And put right, except where something else stands in its place, which stays as it is.
    assert package.call(monkeypatch) == (50, damage != "folder")
    assert not list(package.cache.rglob("*.tmp.*"))


def test_another_users_code_is_not_run(package: Package, monkeypatch: pytest.MonkeyPatch) -> None:
    package.call(monkeypatch)
    real = os.fstat

    def foreign(descriptor: int) -> Any:
        found = real(descriptor)
        return os.stat_result([*found[:4], 12345, *found[5:]])

    monkeypatch.setattr(code_cache.os, "fstat", foreign)
    assert package.call(monkeypatch) == (50, False)


def test_a_full_disk_is_gone_without(package: Package, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, content: bytes) -> int:
        with path.open("wb") as file:
            file.write(content[:10])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    assert package.call(monkeypatch) == (50, False)
    assert not [path for path in package.cache.rglob("*") if path.is_file()]


def test_files_of_others_in_the_folder_stay(package: Package, monkeypatch: pytest.MonkeyPatch) -> None:
    package.call(monkeypatch)
    folder = package.entries()[0].parent
    other = folder / "outer.outer-6.py311.1.nbc"
    other.write_bytes(b"of Numba itself")
    package.write(added=7)
    package.call(monkeypatch)
    assert other.read_bytes() == b"of Numba itself"
