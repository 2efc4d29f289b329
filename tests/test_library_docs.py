"""docs/library.md runs from top to bottom and prints what it shows."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.memory import MemoryFileSystem

import behavior.arrow
import behavior.sources
import behavior.steps
from behavior.flow.memory import prepare_tables
from behavior.shards.folder import open_shards
from behavior.spec.dataset_spec import load_spec
from pipelines.prepare import prepare
from tests.pages import DOCS, run_page

TEXT = (DOCS / "library.md").read_text(encoding="utf-8")


@pytest.fixture
def _empty_memory() -> Any:
    """A remote file system that is empty before and after."""
    MemoryFileSystem.store.clear()
    yield
    MemoryFileSystem.store.clear()


@pytest.mark.usefixtures("_empty_memory")
def test_the_page_prints_what_it_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, outputs = run_page("library.md", tmp_path, monkeypatch)
    assert len(outputs) >= 14
    for printed, shown in outputs:
        assert printed == shown


@pytest.mark.usefixtures("_empty_memory")
def test_the_folder_it_writes_is_that_of_the_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names, _ = run_page("library.md", tmp_path, monkeypatch)
    spec, base = load_spec("spec.yaml")
    prepare(spec.model_copy(update={"shards": 2}), base, tmp_path / "job")
    own = open_shards(tmp_path / "job")
    written = {entry.path: entry.sha256 for entry in names["manifest"].files}
    for entry in own.manifest.files:
        if entry.path.endswith(".parquet"):
            assert written[entry.path] == entry.sha256, entry.path
    assert names["manifest"].counts == own.manifest.counts
    assert prepare_tables(spec, base).stats == own.stats()


def test_every_function_of_the_table_of_steps_is_exported() -> None:
    steps = re.findall(r"^\| \w+ \| (`.*?`) \|", TEXT, re.MULTILINE)
    named = {name for step in steps for name in re.findall(r"`(\w+)`", step)}
    assert len(named) == 11
    rooms = (behavior.arrow, behavior.sources, behavior.steps)
    assert named <= {name for room in rooms for name in room.__all__}
