"""A data set of some logs, beside logs that can be added to it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pipelines.prepare import prepare
from tests.pipelines.append.append_logs import spec_of, write_events


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with raw `logs`, and `out`, a data set of the old ones; not to be changed."""
    whole = tmp_path_factory.mktemp("made")
    folder = whole / "logs"
    folder.mkdir()
    write_events(folder / "old-1.csv", seed=1, users=30, items=40, events=500)
    write_events(folder / "old-2.csv", seed=2, users=30, items=40, events=300)
    write_events(folder / "new-1.csv", seed=3, users=40, items=60, events=200)
    write_events(folder / "new-2.csv", seed=4, users=3, items=90, events=40)
    items = "\n".join(f"{item},b{item % 7}" for item in range(0, 90, 2))
    (folder / "items.csv").write_text(f"item,brand\n{items}\n")
    prepare(spec_of(), str(folder), whole / "out")
    return whole


@pytest.fixture
def logs(made: Path, tmp_path: Path) -> Path:
    """Copies with the times of the originals, by which a data set knows them."""
    return shutil.copytree(made / "logs", tmp_path / "logs")


@pytest.fixture
def out(made: Path, tmp_path: Path) -> Path:
    """What `prepare` makes of `spec_of()` and the old logs."""
    return shutil.copytree(made / "out", tmp_path / "out")
