"""A run of small settings, and its evaluation against the model asked for one target after the other."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
import torch

from behavior.shards.folder import open_shards
from models.config import RunConfig
from models.data.batch import PackedBatch
from models.data.catalog import ItemCatalog
from models.evaluate_run import evaluate
from models.runs.checkpoint import load_checkpoint
from models.tasks.retrieval import build_model
from models.training import train
from tests.models.evaluation.evaluation_oracle import slow_metrics
from tests.models.shards import User

SETTINGS = [
    "model.dim=8",
    "model.blocks=1",
    "model.max_length=4",
    "embedding.behaviors=add",
    "train.epochs=2",
    "train.batch_sequences=5",
    "train.device=cpu",
    "evaluation.cutoffs=[3]",
    "train.select_by=ndcg@3",
]


def check_run(
    config: RunConfig,
    shards: Path,
    run: Path,
    users: list[User],
    protocol: str,
    buys: tuple[int, ...],
    inputs: tuple[int, ...] = (1, 2, 3),
) -> None:
    """Train, and compare validation and evaluation with the model asked for one target after the other.

    Events of other behaviors than `inputs` are no part of a history; without any others all items score 0.
    """
    train(config, shards, run)
    folder = open_shards(shards)
    behaviors = len(folder.manifest.behaviors)
    model = build_model(
        config, ItemCatalog.from_shards(folder), num_behaviors=behaviors, has_time=True
    ).eval()
    best = load_checkpoint(run / "checkpoints" / "best.safetensors")
    model.load_state_dict(best.model)

    @cache
    def query(number: int, stop: int, index: int) -> torch.Tensor:
        user = users[number]
        window = [event for event in range(stop) if user.behavior[event] in inputs][-4:]
        if not window:
            return torch.zeros(0)
        times = [user.timestamp[event] for event in window]
        known = [*times[1:], user.timestamp[index]]
        batch = PackedBatch.from_lists(
            [[user.item[event] for event in window]],
            behaviors=[[user.behavior[event] for event in window]],
            timestamps=[times],
            query_times=[known if config.model.time == "known" else times],
        )
        batch.target_behavior[-1] = user.behavior[index]
        with torch.no_grad():
            return model(batch)[-1].double()

    def score(number: int, stop: int, index: int, item: int) -> float:
        if not len(query(number, stop, index)):
            return 0.0
        asked, vector = query(number, stop, index), model.embedding.item.weight[item].detach().double()
        return round(float(asked @ vector / asked.norm() / vector.norm()), 6)

    for split in ("valid", "test"):
        for exclude_seen in (True, False):
            found = evaluate(run, split, exclude_seen=exclude_seen, device="cpu")
            expected = slow_metrics(users, split, score, exclude_seen, protocol, buys)
            assert {name: found[name] for name in expected} == pytest.approx(expected)
            assert found["time"] == config.model.time
            assert protocol == "first" or found["targets"] > found["users"]
    assert evaluate(run, "valid", device="cpu")["ndcg@3"] == pytest.approx(best.progress["metrics"]["ndcg@3"])
