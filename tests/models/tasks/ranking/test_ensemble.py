"""Ensembles against their formulas in plain Python, and as runs."""

from __future__ import annotations

import math
from itertools import combinations
from pathlib import Path

import pytest
import torch

import models
from behavior.errors import UserError
from behavior.shards.folder import ShardFolder
from models.attention import dispatch
from models.serving.cache import RankingCache
from models.tasks.loss_batch import LossBatch
from models.tasks.ranking.ensemble import RankingEnsemble, disagreement, fused
from models.training import setup, static_input, train
from tests.models.attention.reading_kernel import KERNELS_AND_READING
from tests.models.tasks.ranking.test_ranking_model import batch_of, spans
from tests.models.tasks.ranking.world import events_of, settings, task_of, write
from tests.models.training.training_runs import Watcher, records

USERS = events_of(24, seed=5)
TWO = ("task.members=[hstu, llama]", "task.label=[value>=4, buy]", "task.counters=[user]")


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> ShardFolder:
    return write(tmp_path_factory.mktemp("data"), USERS)


def sigmoid(z: float) -> float:
    return 1.0 / (1.0 + math.exp(-z))


def together(logits: list[float]) -> float:
    """The probability of members, each weighing by e to its negative entropy."""
    p = [sigmoid(z) for z in logits]
    weights = [math.exp(q * math.log(q) + (1 - q) * math.log(1 - q)) for q in p]
    return sum(w * q for w, q in zip(weights, p, strict=True)) / sum(weights)


def apart(logits: list[float]) -> float:
    def kl(p: float, q: float) -> float:
        return p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))

    pairs = [(sigmoid(a), sigmoid(b)) for a, b in combinations(logits, 2)]
    return sum(kl(p, q) + kl(q, p) for p, q in pairs) / len(pairs)


@pytest.mark.parametrize("members", [2, 3])
def test_who_is_sure_counts_for_more(members: int) -> None:
    logits = 2.0 * torch.randn(members, 5, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found, divergence = fused(logits).sigmoid(), disagreement(logits)
    for row in range(5):
        for label in range(2):
            own = logits[:, row, label].tolist()
            assert found[row, label].item() == pytest.approx(together(own))
            assert divergence[row, label].item() == pytest.approx(apart(own))


def test_sure_members_lose_no_digits() -> None:
    assert fused(torch.tensor([[[60.0]], [[50.0]]]))[0, 0] > 50.0
    assert fused(torch.tensor([[[-60.0]], [[-50.0]]])).isfinite().all()


def test_the_loss_is_of_all_together_of_each_and_of_what_they_disagree_in(shards: ShardFolder) -> None:
    task = task_of(shards, *TWO, "task.collaboration=0.7", "task.weights={buy: 3}")
    assert isinstance(task.model, RankingEnsemble)
    batch = batch_of(task, shards, spans())
    step = task.prepare(batch)
    rows = [p if p >= 0 else batch.num_events - 1 - p for p in step.positions.tolist()]
    each, told = task.model.each(batch)[:, rows].tolist(), task.model.told(batch)[rows].tolist()
    total = 0.0
    for row, labels in enumerate(told):
        for place, weight in enumerate((0.25, 0.75)):
            y = labels[place]
            if y != y:
                continue
            own = [member[row][place] for member in each]

            def cross_entropy(p: float, y: float = y) -> float:
                return -math.log(p if y else 1.0 - p)

            loss = cross_entropy(together(own)) + sum(cross_entropy(sigmoid(z)) for z in own) / 2
            total += weight * (loss + 0.7 * apart(own))
    assert task.objective(step).item() == pytest.approx(total / len(rows), rel=1e-4)
    zero = task.objective(LossBatch(batch, step.positions[:0]), 3.0)
    zero.backward()
    assert zero.item() == 0.0
    tables = [member.embedding.item.weight for member in task.members]
    assert tables[0] is not tables[1]


def test_a_run_of_members(shards: ShardFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = settings(*TWO, "task.collaboration=0.1", "train.log_every_steps=1", "optimizer.clip_norm=1")
    watcher = Watcher()
    result = train(config, shards.where(), tmp_path / "plain", observer=watcher)
    found = models.evaluate(tmp_path / "plain", "valid", device="cpu")
    best = watcher.validations[(result.best_epoch or 1) - 1].metrics
    assert found["auc"] == pytest.approx(best["auc"])
    loaded = models.load_model(tmp_path / "plain", device="cpu")
    members = loaded.task.members  # type: ignore[attr-defined]
    assert [type(member.backbone.blocks[0]).__name__ for member in members] == ["AttentionLayer", "Block"]
    assert torch.equal(members[0].offset, members[1].offset)
    with pytest.raises(UserError, match="several models"):
        RankingCache(loaded.module, 1 << 20, time="known")  # type: ignore[arg-type]
    monkeypatch.setattr(static_input, "_SMALLEST", 4)
    monkeypatch.setattr(dispatch, "KERNELS", KERNELS_AND_READING)
    monkeypatch.setattr(setup, "captures_steps", lambda *_: True)
    monkeypatch.setattr(setup, "CudaGraphs", lambda *_: lambda work: work)
    train(config, shards.where(), tmp_path / "padded")
    for mine, theirs in zip(records(tmp_path / "padded"), records(tmp_path / "plain"), strict=True):
        assert mine.get("loss", 0.0) == pytest.approx(theirs.get("loss", 0.0), rel=1e-4)


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        (("task.members=[hstu]",), "that member"),
        (("task.members=[hstu, hstv]",), "hstv"),
        (("task.members=[hstu, hstu]", "task.label=value"), "a number is predicted"),
        (("task.members=[hstu, hstu]", "task.retrieval_weight=0.1"), "one model alone"),
        (("task.collaboration=0.1",), "nobody to agree with"),
    ],
)
def test_ensembles_that_make_no_sense_are_refused(
    changed: tuple[str, ...], why: str, shards: ShardFolder
) -> None:
    with pytest.raises(UserError, match=why):
        task_of(shards, *changed)
