"""Stacking: its weights by their definition, and on models of which one knows what the other does not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from behavior.errors import UserError
from behavior.shards.folder import ShardFolder
from models.evaluation.actions.auc import auc_of
from models.evaluation.actions.report import ActionEvaluation
from models.evaluation.actions.stacking import RIDGE, fit_stack, stacked
from tests.models.evaluation.actions.test_report import evaluation, shards

__all__ = ["shards"]


def informed(judged: ActionEvaluation, seed: int) -> list[ActionEvaluation]:
    """Two models: the label follows from what one knows plus what the other knows."""
    generator = np.random.default_rng(seed)
    truth = judged.rows.label
    return [
        replace(judged, predicted=(truth + generator.normal(size=truth.shape)).astype(np.float32))
        for _ in range(2)
    ]


def test_weights_are_those_of_a_logistic_regression() -> None:
    """No step in any direction makes the penalized likelihood better."""
    generator = np.random.default_rng(0)
    logits = generator.normal(size=(400, 3)) * [0.3, 2.0, 5.0] + [4.0, -1.0, 0.0]
    chance = 1 / (1 + np.exp(-(logits @ [0.5, 1.0, -0.1] - 1.0)))
    labels = (generator.random(400) < chance).astype(np.float64)
    found = fit_stack(logits, labels)

    def objective(weights: np.ndarray, intercept: float) -> float:
        z = logits @ weights + intercept
        losses = labels * np.log1p(np.exp(-z)) + (1 - labels) * np.log1p(np.exp(z))
        return float(losses.sum() + 0.5 * RIDGE * ((weights * logits.std(0)) ** 2).sum())

    best = objective(found.weights, found.intercept)
    for _ in range(50):
        step = 0.01 * generator.normal(size=4) / [*logits.std(0), 1.0]
        assert objective(found.weights + step[:3], found.intercept + step[3]) > best
    np.testing.assert_allclose(found(logits), logits @ found.weights + found.intercept, rtol=1e-5)
    np.testing.assert_allclose(found.weights, [0.5, 1.0, -0.1], atol=0.6)


def test_together_they_know_more(shards: ShardFolder) -> None:
    ours, valid = evaluation(shards, ["buy", "view"], model="ours"), evaluation(shards, ["buy", "view"])
    judged, past = informed(ours, 3), informed(valid, 4)
    both = stacked(judged[0], ["one", "other"], [[each] for each in past], [[each] for each in judged])
    for number in range(2):
        truth = ours.rows.label[:, number]
        each = [auc_of(one.predicted[:, number], truth) for one in judged]
        assert auc_of(both.predicted[:, number], truth) > max(each)
    assert set(both.report()["stacked"]["buy"]) == {"one", "other"}


def test_models_of_other_rows_are_refused(shards: ShardFolder) -> None:
    ours = evaluation(shards)
    other = replace(ours, rows=ours.rows.take(slice(1, None)), predicted=ours.predicted[1:])
    with pytest.raises(UserError, match="predicts other rows"):
        stacked(ours, ["one", "other"], [[ours], [other]], [[ours], [ours]])
