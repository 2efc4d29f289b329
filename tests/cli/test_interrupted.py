"""After Ctrl-C each command says what there is to do, and only what works."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import SMALL, Lrm, Outcome


def ended(found: Outcome) -> str:
    assert found.code == 130
    assert not found.out or json.loads(found.out)["exit_code"] == 130  # with --json
    return found.err.strip().splitlines()[-1]


def pressed(*arguments: Any, **options: Any) -> None:
    raise KeyboardInterrupt


def test_train_names_the_command_that_goes_on_once_there_is_a_run(
    lrm: Lrm, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from models.training.loop import Training

    out = tmp_path / "my run"
    command = ("train", "--data", shards, "--out", out, "--epochs", 1, *SMALL)
    with monkeypatch.context() as patch:
        patch.setattr("models.training.run.open_shards", pressed)
        assert ended(lrm(*command)) == "interrupted; nothing was written: run the same command again"
        assert not out.exists()
    with monkeypatch.context() as patch:
        patch.setattr(Training, "_run_epoch", pressed)
        expected = f"interrupted; to go on: lrm train --data {shards} --out '{out}' --resume"
        assert ended(lrm(*command)) == expected
        again = ended(lrm("train", "--data", shards, "--out", out, "--resume"))
        assert again == "interrupted; run the same command again"
    done = lrm("train", "--data", shards, "--out", out, "--resume")
    assert done.code == 0
    assert "no step was taken yet: it begins" in done.err
    assert "resumes after step" in lrm("train", "--data", shards, "--out", out, "--resume").err


def test_others_say_what_works(
    lrm: Lrm, raw: Path, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.prepare.start", pressed)
    found = lrm("prepare", raw / "spec.yaml", "--input", raw, "--out", tmp_path / "data")
    assert ended(found) == "interrupted; run the same command again"
    monkeypatch.setattr("models.experiments.demo.Demo.run", pressed)
    assert "a demo begins anew" in ended(lrm("demo", "--out", tmp_path / "demo"))
    monkeypatch.setattr("models.experiments.runs.run_one", pressed)
    found = lrm("ablate", "ml-1m/bias", "--data", shards, "--out", tmp_path / "runs", "--json")
    assert ended(found).endswith("finished runs are kept, and others resumed")
    monkeypatch.setattr("models.evaluate_run.evaluate", pressed)
    assert ended(lrm("evaluate", tmp_path)) == "interrupted"


def test_resuming_where_there_is_no_run_is_an_error(lrm: Lrm, shards: Path, tmp_path: Path) -> None:
    found = lrm("train", "--data", shards, "--out", tmp_path / "run", "--resume")
    assert found.code == 1
    assert "there is no training run in" in found.err
    assert not (tmp_path / "run").exists()
