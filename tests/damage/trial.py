"""One trial: a copy of a good folder is damaged, a command meets it, and what it does is judged."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import shutil
import signal
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from types import FrameType

import pytest

from behavior.shards.storage import as_folder
from tests.cli.conftest import Lrm, Outcome

SECONDS = 60
"""How long a command may take on a machine that does other things, too: nothing waits for ever."""
MEMORY = 16 << 30
"""Bytes of address space more than now: a number in a file must not take a machine's memory."""
MORE = int(os.environ.get("LRM_DAMAGE_TRIALS", "1"))

Change = Callable[[Path, Random], str]
"""Damages the good folder at a path, and says how."""


class Overtime(BaseException):
    """A command took too long."""


@dataclass
class Trials:
    """Tries seeds, each on a copy of its own, and collects what is not as it should be.

    Args:
        good: the folder that is damaged; stays as it is.
        lrm: runs a command.
        scratch: an empty folder for copies, and for what must stay untouched beside them.
    """

    good: Path
    lrm: Lrm
    scratch: Path
    failures: list[str] = field(default_factory=list)
    codes: list[int] = field(default_factory=list)

    def run(self, seeds: int, change: Change, *command: object) -> None:
        """Damage copies in as many ways, and run a command on each, where `DATA` stands for the copy."""
        for seed in range(seeds * MORE):
            with self._copy() as copy:
                words = change(copy, Random(seed))
                before, outside = _state(copy), _state(self.scratch, without=copy)
                found = self._tried(copy, command)
                problem = found if isinstance(found, str) else _problem(found)
                if problem is None and isinstance(found, Outcome):
                    self.codes.append(found.code)
                    if found.code == 1 and _state(copy) != before:
                        problem = f"an error, and files changed: {_differing(before, _state(copy))}"
                if _state(self.scratch, without=copy) != outside:
                    problem = "files outside were touched"
                if problem:
                    self.failures.append(f"seed {seed}: {words}\n    {problem}")

    def check(self) -> None:
        """All was as it should be, and the damage was seen at least once."""
        assert not self.failures, "\n".join(self.failures)
        assert 1 in self.codes, "no damage was seen"

    @contextmanager
    def _copy(self) -> Iterator[Path]:
        (self.scratch / "precious.txt").write_text("nobody's to touch")
        copy = self.scratch / "room" / "copy"
        shutil.copytree(self.good, copy, symlinks=True)
        try:
            yield copy
        finally:
            shutil.rmtree(self.scratch / "room")

    def _tried(self, copy: Path, command: tuple[object, ...]) -> Outcome | str:
        arguments = [str(word).replace("DATA", str(copy)) for word in command]
        try:
            with _bounded():
                return self.lrm(*arguments)
        except Overtime:
            return f"more than {SECONDS} s"
        except BaseException as error:  # whatever it is, it is a stack trace to a user
            lines = "".join(traceback.format_exception(error)[-8:])
            return f"{type(error).__name__}: {str(error)[:300]}\n{lines}"


def _problem(found: Outcome) -> str | None:
    """What is wrong with an answer; None: nothing."""
    text = found.out + found.err
    if "Traceback" in text:
        return f"a stack trace: {text[-2000:]}"
    if found.code == 0:
        return None if "nan" not in found.out.lower() else f"not a number: {found.out[-500:]}"
    if found.code != 1:
        return f"exit code {found.code}: {text[-500:]}"
    if not found.err.startswith("error: ") and "\nerror: " not in found.err:
        return f"no error is said: {text[-500:]}"
    missing = [part for part in ("where: ", "to do: ") if part not in found.err]
    if missing:
        return f"not said, {missing}: {found.err[-500:]}"
    if len(found.err) > 4000:
        return f"a message of {len(found.err):,} characters: {found.err[:300]}"
    if any(ord(sign) < 32 and sign != "\n" for sign in found.err):
        return f"control characters: {found.err[:300]!r}"
    return None


def _state(folder: Path, without: Path | None = None) -> dict[str, str]:
    """Files of a folder and a digest of each."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not (without is not None and path.is_relative_to(without.parent)):
            found[str(path.relative_to(folder))] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def _differing(before: dict[str, str], after: dict[str, str]) -> list[str]:
    return sorted(name for name in {*before, *after} if before.get(name) != after.get(name))


@contextmanager
def _bounded() -> Iterator[None]:
    """Bound time, and memory, so that neither a test nor the machine hangs."""

    def ring(number: int, frame: FrameType | None) -> None:
        raise Overtime

    limits = resource.getrlimit(resource.RLIMIT_AS)
    usual = signal.signal(signal.SIGALRM, ring)
    signal.alarm(SECONDS)
    resource.setrlimit(resource.RLIMIT_AS, (_address_space() + MEMORY, limits[1]))
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, usual)
        resource.setrlimit(resource.RLIMIT_AS, limits)


def _address_space() -> int:
    with suppress(OSError):
        return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    return 1 << 40


def enter(folder: Path, name: str) -> None:
    """Put a file's size and checksum into the manifest: damage that no checksum finds."""
    place, path = as_folder(folder), folder / "manifest.json"
    record = json.loads(path.read_bytes())
    for entry in record["files"]:
        if entry["path"] == name:
            entry.update(bytes=place.size(name), sha256=place.sha256(name))
    path.write_text(json.dumps(record))


@pytest.fixture
def trials_of(lrm: Lrm, tmp_path: Path) -> Callable[[Path], Trials]:
    """Trials with copies of a good folder."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    return lambda good: Trials(good, lrm, scratch)
