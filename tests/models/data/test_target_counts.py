"""Counts of targets against the batches that a loader really makes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from behavior.sampling.sampler import SamplingConfig
from behavior.shards.folder import open_shards
from models.config import load_config
from models.data.loading import LoaderConfig, ShardSource, TrainLoader
from models.distributed.processes import SINGLE
from models.losses import RetrievalLoss
from models.training.setup import set_up
from tests.models.shards import User, World, write_shards

ITEMS = 12
WORLD = World(num_items=ITEMS, oov=2, behaviors=("view", "buy"), targets=("buy",), files=3)


def users() -> list[User]:
    generator = np.random.default_rng(0)
    found = []
    for number in range(40):
        length = number % 17
        items = generator.integers(1, ITEMS + 3, length + 2).tolist()
        found.append(User(items, length, length + 1, generator.integers(1, 3, length + 2).tolist()))
    return found


@pytest.mark.parametrize("loss_on", ["all", "targets"])
@pytest.mark.parametrize("threads", [0, 2])
@pytest.mark.parametrize(
    "sampling",
    [
        {},
        {"window": "sliding", "stride": 3},
        {"window": "random"},
        {"quotas": {"view": 2}},
        {"stochastic_length": {"alpha": 1.2}},
        {"repeat": {"separation": "attention"}},
        {"repeat": {"copies": "most"}},
    ],
    ids=str,
)
def test_targets_are_counted_as_batches_have_them(
    tmp_path: Path, sampling: dict[str, Any], loss_on: Any, threads: int
) -> None:
    loader = TrainLoader(
        ShardSource(open_shards(write_shards(tmp_path, users(), WORLD))),
        LoaderConfig(sampling=SamplingConfig(**sampling), threads=threads),
        max_length=5,
        batch_sequences=7,
        behaviors=("view", "buy"),
        loss_on=loss_on,
        seed=3,
        epochs=1,
    )
    counted = loader.target_counts()
    targets = np.concatenate([batch.target.numpy() for batch in loader])
    loader.close()
    assert counted.tolist() == [0, *np.bincount(targets, minlength=ITEMS + 3)[1:]]
    assert counted[3:].sum() > 0


@pytest.mark.parametrize(("source", "logq", "counts"), [("in_batch", True, True), ("catalog", True, False)])
def test_a_training_corrects_by_shares_of_its_own_targets(
    tmp_path: Path, source: str, logq: bool, counts: bool
) -> None:
    """Views are half of the training part and no target at all."""
    log = [User([3, 4, 5, 3, 4, 6, 6], 5, 6, behavior=[1, 1, 2, 1, 2, 1, 2])] * 8
    config = load_config(
        "default",
        [
            "model.dim=8",
            "model.blocks=1",
            "train.device=cpu",
            "loss.loss_on=targets",
            f"loss.negatives.source={source}",
            f"loss.negatives.logq={logq}",
        ],
    )
    setup = set_up(config, open_shards(write_shards(tmp_path, log, WORLD)), SINGLE)
    loss = setup.task.objective.loss
    assert isinstance(loss, RetrievalLoss)
    shares = [0, 1, 1, *[0] * 9] if counts else [2, 2, 1, *[1 / 8] * 9]
    assert loss.sampler.frequency.tolist() == pytest.approx([share / sum(shares) for share in shares])
    setup.loader.close()
