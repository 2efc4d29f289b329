"""Retrieval beside ranking: its loss and its metrics, against the backbone asked at each action."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

import models
from behavior.errors import UserError
from behavior.shards.folder import ShardFolder
from models.attention import dispatch
from models.serving.cache import HistoryCache, RankingCache
from models.tasks.loss_batch import LossBatch
from models.training import setup, static_input, train
from tests.models.attention.reading_kernel import KERNELS_AND_READING
from tests.models.tasks.ranking.test_ranking_model import batch_of, spans
from tests.models.tasks.ranking.world import FIRST, events_of, settings, task_of, write
from tests.models.training.training_runs import Watcher, records

USERS = events_of(24, seed=5)
JOINT = ("task.retrieval_weight=0.3", "loss.kind=full_softmax", "loss.temperature=0.5", "task.actions=joined")


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> ShardFolder:
    return write(tmp_path_factory.mktemp("data"), USERS)


def test_its_loss_is_added_over_the_positions_of_ranking(shards: ShardFolder) -> None:
    task, alone = task_of(shards, *JOINT), task_of(shards, "task.actions=joined")
    batch = batch_of(task, shards, spans())
    step = task.prepare(batch)
    tokens, out = task.model.passed(batch)
    items = F.normalize(task.model.embedding.item.weight[FIRST:], dim=1)
    total = 0.0
    starts = tokens.sequences.offsets.tolist()
    offsets = batch.offsets.tolist()
    for row, (begin, end) in enumerate(pairwise(offsets)):
        for event in range(begin, end):
            if event not in step.positions.tolist():  # its label is not known
                continue
            query = F.normalize(out[starts[row] + 2 * (event - begin) + 1], dim=0)
            total += F.cross_entropy(items @ query / 0.5, batch.target[event] - FIRST).item()
    expected = alone.objective(LossBatch(batch, step.positions)).item() + 0.3 * total / len(step.positions)
    assert task.objective(step).item() == pytest.approx(expected, rel=1e-4)
    task.objective(step).backward()
    assert [name for name, _ in task.objective.named_parameters()] == [
        f"model.{name}" for name, _ in task.model.named_parameters()
    ]


def test_a_run_reports_both(shards: ShardFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = settings(*JOINT, "train.log_every_steps=1", "evaluation.cutoffs=[1, 3]")
    watcher = Watcher()
    result = train(config, shards.where(), tmp_path / "plain", observer=watcher)
    found = models.evaluate(tmp_path / "plain", "valid", device="cpu")
    best = watcher.validations[(result.best_epoch or 1) - 1].metrics
    assert found["auc"] == pytest.approx(best["auc"])
    for name in ("ndcg@3", "hr@1"):
        assert found["retrieval"][name] == pytest.approx(best["retrieval"][name])
    json.dumps(found)
    monkeypatch.setattr(static_input, "_SMALLEST", 4)
    monkeypatch.setattr(dispatch, "KERNELS", KERNELS_AND_READING)
    monkeypatch.setattr(setup, "captures_steps", lambda *_: True)
    monkeypatch.setattr(setup, "CudaGraphs", lambda *_: lambda work: work)
    train(config, shards.where(), tmp_path / "padded")
    for mine, theirs in zip(records(tmp_path / "padded"), records(tmp_path / "plain"), strict=True):
        assert mine.get("loss", 0.0) == pytest.approx(theirs.get("loss", 0.0), rel=1e-4)


def test_what_comes_next_is_known_at_the_action_and_not_before(shards: ShardFolder) -> None:
    """The query at an event's action changes with the event's item and action, not with the next item."""
    task = task_of(shards, *JOINT)
    batch = batch_of(task, shards, spans())
    assert task.objective.joint is not None
    queries = task.objective.joint.model(batch)
    other = batch["target_item"].clone()
    ends = batch.offsets[1:] - 1
    other[ends] = FIRST + (other[ends] - FIRST + 1) % 6
    with torch.no_grad():
        assert torch.equal(task.objective.joint.model(batch.with_values(target_item=other)), queries)


def test_without_tokens_of_actions_it_is_refused(shards: ShardFolder) -> None:
    with pytest.raises(UserError, match="the action is in the next item's token"):
        task_of(shards, "task.actions=added", "task.retrieval_weight=0.1")


def test_caches_keep_histories_of_ranking_alone(shards: ShardFolder) -> None:
    task = task_of(shards, *JOINT)
    assert RankingCache(task.model, 1 << 20, time="known").full_histories > 0
    with pytest.raises(UserError, match="retrieval beside ranking asks at actions"):
        HistoryCache(task.objective.joint.model, 1 << 20, time="known")
