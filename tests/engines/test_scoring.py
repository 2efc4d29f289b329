"""Batch scoring on a cluster: every byte is that of a local run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from behavior.errors import UserError
from pipelines.runner import RunnerOptions
from tests.engines.conftest import ENGINES, Cluster
from tests.engines.kills import ALL
from tests.pipelines.scoring.test_score import contents, files, run

__all__ = ["files"]


@pytest.fixture
def histories(files: tuple[Path, object], monkeypatch: pytest.MonkeyPatch) -> Path:
    """Several chunks, and two rows that cannot be scored."""
    monkeypatch.setattr("pipelines.scoring.run.CHUNK_BYTES", 300)
    folder, _ = files
    with (folder / "a.csv").open("a") as file:
        file.write("u1,500,3\nonly,2\n")
    return folder


def test_same_bytes(engine: Cluster, histories: Path, tmp_path: Path) -> None:
    folder, on = histories, RunnerOptions("PortableRunner", beam=engine.options())
    run(folder, tmp_path / "local", limit=2)
    run(folder, tmp_path / "cluster", limit=2, runner=on)
    found = contents(tmp_path / "cluster")
    assert found == contents(tmp_path / "local")
    assert json.loads(found["manifest.json"])["rows"]["rejected"] == 2


@pytest.mark.parametrize("engine", list(ENGINES) if ALL else ["prism"], indirect=True, scope="session")
def test_the_same_errors(engine: Cluster, histories: Path, tmp_path: Path) -> None:
    on, errors = RunnerOptions("PortableRunner", beam=engine.options()), []
    for name, runner in (("bad", None), ("bad-cluster", on)):
        with pytest.raises(UserError) as error:
            run(histories, tmp_path / name, runner=runner)
        errors.append(str(error.value))
        assert not (tmp_path / name).exists()
    assert errors[0] == errors[1]
