"""The perceptron over counters alone, against its formula and loops over training events."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from behavior.errors import UserError
from behavior.shards.folder import ShardFolder
from models.build import make_loader, sequences_of
from models.serving.load import load_model
from models.tasks.ranking.counter_head import CounterHead
from models.tasks.ranking.task import RankingTask
from models.training import train
from tests.models.tasks.ranking.branded import write
from tests.models.tasks.ranking.test_counter_facts import FACTS, LABELS, USERS, batches, expected
from tests.models.tasks.ranking.world import settings, task_of

DIMS = "task.counter_dims=[6, 5]"


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> ShardFolder:
    return write(tmp_path_factory.mktemp("data"), USERS)


@pytest.mark.parametrize("head", ["dot", "mlp", "ffn", "mmoe", "ple"])
def test_its_logits_are_added_to_those_of_a_head_that_is_told_no_counters(
    head: str, shards: ShardFolder
) -> None:
    task = task_of(shards, *FACTS, LABELS, DIMS, f"task.head={head}")
    model = task.members[0]
    beside = model.counter_head
    assert isinstance(beside, CounterHead)
    generator = torch.Generator().manual_seed(0)
    beside.mean.normal_(generator=generator)
    beside.deviation.uniform_(0.5, 2.0, generator=generator)
    batch = next(batches(shards, task))
    context = model.counters(batch, model.offset.sigmoid())
    with torch.no_grad():
        found = model(batch)
        tokens, out = model.passed(batch)
        vectors = model.embedding.item_vectors(model.embedding.asked_ids(batch)) * model.embedding.scale
        own = model.head(model.norm(tokens.queries(out)), vectors, context[:, :0])
    x = (context.double().numpy() - beside.mean.double().numpy()) / beside.deviation.double().numpy()
    linear = [part for part in beside.modules() if isinstance(part, nn.Linear)]
    assert [part.out_features for part in linear] == [6, 5, 3]
    for number, part in enumerate(linear):
        x = x @ part.weight.detach().double().numpy().T + part.bias.detach().double().numpy()
        x = x if number == 2 else np.maximum(x, 0.0)
    wanted = (own.double().numpy() + x) * model.scale.numpy() + model.offset.numpy()
    np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("time", ["known", "unknown"])
def test_numbers_are_standardized_by_all_training_events(time: str, shards: ShardFolder) -> None:
    task = task_of(shards, *FACTS, LABELS, DIMS, f"model.time={time}")
    config = settings(f"model.time={time}")
    loader = make_loader(config, sequences_of(shards, config, task.columns), shards.manifest.behaviors)
    task.look_at(loader)
    loader.close()
    model = task.members[0]
    rates = model.offset.sigmoid()[:2].tolist()
    rows = []
    for user in USERS:
        for place in range(user["train_end"]):
            now = user["timestamp"][place if time == "known" or place == 0 else place - 1]
            rows.append(expected(user, place, now, rates))
    assert len(rows) > 70
    mean, deviation = np.mean(rows, 0), np.std(rows, 0)
    assert model.counter_head is not None
    np.testing.assert_allclose(model.counter_head.mean.numpy(), mean, atol=2e-5)
    np.testing.assert_allclose(model.counter_head.deviation.numpy(), deviation, atol=2e-5)


def test_a_number_that_is_always_the_same_is_only_shifted() -> None:
    head = CounterHead(2, [3], 1, 0.0)
    head.look_at(torch.tensor([[2.0, 7.0], [6.0, 7.0]]))
    assert head.mean.tolist() == [4.0, 7.0]
    assert head.deviation.tolist() == [2.0, 1.0]


def test_a_run_keeps_what_numbers_were_standardized_by(shards: ShardFolder, tmp_path: Path) -> None:
    given = settings(*FACTS, LABELS, DIMS, "task.members=[hstu, hstu]", "train.epochs=1", "task.label=buy")
    train(given, shards.where(), tmp_path / "run")
    task = load_model(tmp_path / "run", device="cpu").task
    assert isinstance(task, RankingTask)
    for member in task.members:
        assert member.counter_head is not None
        assert member.counter_head.mean.abs().max() > 0.1


def test_it_needs_something_counted(shards: ShardFolder) -> None:
    with pytest.raises(UserError, match="there is nothing counted"):
        settings(DIMS)
