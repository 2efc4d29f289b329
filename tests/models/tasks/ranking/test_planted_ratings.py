"""HSTU finds what ratings depend on: nearly all that can be known."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import behavior
from behavior.synthetic.planted import tastes
from models.config import load_config
from models.evaluate_run import judge_run
from models.evaluation.actions.auc import auc_of
from models.evaluation.actions.report import ActionEvaluation
from models.training import train


def test_it_comes_97_percent_of_the_way_from_chance_to_the_best_auc(tmp_path: Path) -> None:
    """Means of users and of items say nothing here: a model that does not look at the history has .5."""
    log = tastes(users=1000)
    log.write(tmp_path / "raw")
    behavior.prepare(tmp_path / "raw" / "spec.yaml", tmp_path / "shards")
    train(load_config("planted/ranking"), tmp_path / "shards", tmp_path / "run")
    found = judge_run(tmp_path / "run", "test", device="cpu", bootstrap=0)
    assert isinstance(found, ActionEvaluation)
    best = auc_of(log.chance.astype(np.float32), log.high)
    ours = auc_of(found.predicted[:, 0], found.rows.label[:, 0])
    assert best is not None
    assert ours is not None
    assert abs(best - log.best_auc()) < 0.03
    assert (ours - 0.5) / (best - 0.5) > 0.97
