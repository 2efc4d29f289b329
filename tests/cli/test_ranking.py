"""`lrm train --task ranking`, and what `lrm evaluate` shows and writes of such a run."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from tests.cli.conftest import Lrm
from tests.models.tasks.ranking.world import SETTINGS, events_of, write


@pytest.fixture(scope="module")
def ranked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(write(tmp_path_factory.mktemp("ranked") / "data", events_of(20)).where())


def test_a_ranking_run_is_trained_shown_and_written_down(lrm: Lrm, ranked: Path, tmp_path: Path) -> None:
    own = [part for setting in SETTINGS if not setting.startswith("task.kind") for part in ("--set", setting)]
    done = lrm("train", "--task", "ranking", "--data", ranked, "--out", tmp_path / "run", *own)
    assert done.code == 0, done.err
    assert "AUC" in done.err
    rows = tmp_path / "rows.csv"
    shown = lrm("evaluate", tmp_path / "run", "--bootstrap", 20, "--predictions", rows)
    assert shown.code == 0, shown.err
    for text in ("value>=4", "auc", "log_loss", "95 %", "by activity", "by popularity", "time known"):
        assert text in shown.out, text
    record = json.loads(lrm("evaluate", tmp_path / "run", "--json").out)
    with rows.open() as lines:
        table = list(csv.DictReader(lines))
    assert list(table[0]) == ["user", "item", "timestamp", "label", "probability"]
    assert len(table) == record["rows"]
    assert sum(float(row["label"]) for row in table) == record["positives"]
    assert all(0.0 < float(row["probability"]) < 1.0 for row in table)
    more = ("--bootstrap", 0, "--stack", "item_mean", "--figures", tmp_path / "pictures")
    together = lrm("evaluate", tmp_path / "run", *more)
    assert together.code == 0, together.err
    assert "weights of logits chosen on validation rows: hstu" in " ".join(together.out.split())
    assert sorted(path.name for path in (tmp_path / "pictures").iterdir()) == ["calibration.png", "roc.png"]
    refused = lrm("evaluate", tmp_path / "run", "--split", "valid", "--stack", "item_mean")
    assert "evaluate the test part" in refused.err


def test_a_validation_without_what_chooses_says_so_once(lrm: Lrm, tmp_path: Path) -> None:
    """All that is validated is liked: there is no AUC."""
    users = events_of(20)
    for user in users:
        validated = range(user["train_end"], user["valid_end"])
        user["value"] = [5.0 if place in validated else value for place, value in enumerate(user["value"])]
    data = write(tmp_path / "data", users).where()
    own = [part for setting in SETTINGS if not setting.startswith("task.kind") for part in ("--set", setting)]
    done = lrm("train", "--task", "ranking", "--data", data, "--out", tmp_path / "run", *own)
    assert done.code == 0, done.err
    assert done.err.count("the validation has no AUC, which chooses the best checkpoint") == 1
    assert (tmp_path / "run" / "checkpoints" / "best.safetensors").exists()


def test_predictions_are_of_ranking_runs(lrm: Lrm, run: Path, tmp_path: Path) -> None:
    refused = lrm("evaluate", run, "--predictions", tmp_path / "rows.csv")
    assert refused.code == 1
    assert "predicts no actions" in refused.err
    assert lrm("evaluate", run, "--predictions", tmp_path / "rows.xlsx").code == 2
    assert "predicts no actions" in lrm("evaluate", run, "--figures", tmp_path / "pictures").err


def test_a_ranking_needs_a_label(lrm: Lrm, ranked: Path, tmp_path: Path) -> None:
    refused = lrm("train", "--task", "ranking", "--data", ranked, "--out", tmp_path / "run")
    assert refused.code == 1
    assert "task.label" in refused.err
    assert not (tmp_path / "run").exists() or not any((tmp_path / "run").iterdir())


def test_only_a_ranking_run_reranks(lrm: Lrm, run: Path) -> None:
    alone = lrm("recommend", run, "--rerank-depth", "5")
    assert alone.code == 2
    assert "add --rerank RUN" in alone.err
    refused = lrm("recommend", run, "--rerank", run)
    assert refused.code == 1
    assert "does not say how likely" in refused.err
