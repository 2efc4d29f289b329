"""Batch scoring on a cluster: every byte is that of a local run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from behavior.errors import UserError
from pipelines.runner import RunnerOptions
from tests.engines.conftest import Cluster
from tests.pipelines.scoring.test_score import contents, files, run

__all__ = ["files"]


def test_same_bytes_and_the_same_errors(
    engine: Cluster, files: tuple[Path, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.scoring.run.CHUNK_BYTES", 300)
    folder, _ = files
    with (folder / "a.csv").open("a") as file:
        file.write("u1,500,3\nonly,2\n")
    on = RunnerOptions("PortableRunner", beam=engine.options())
    run(folder, tmp_path / "local", limit=2)
    run(folder, tmp_path / "cluster", limit=2, runner=on)
    found = contents(tmp_path / "cluster")
    assert found == contents(tmp_path / "local")
    assert json.loads(found["manifest.json"])["rows"]["rejected"] == 2
    errors = []
    for name, runner in (("bad", None), ("bad-cluster", on)):
        with pytest.raises(UserError) as error:
            run(folder, tmp_path / name, runner=runner)
        errors.append(str(error.value))
        assert not (tmp_path / name).exists()
    assert errors[0] == errors[1]
