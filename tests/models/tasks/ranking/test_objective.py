"""The loss of ranking against its formula, one row after the other."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from behavior.shards.folder import ShardFolder
from models.attention import dispatch
from models.build import make_loader, sequences_of
from models.evaluation.actions.labels import parse_labels
from models.tasks.loss_batch import LossBatch
from models.tasks.ranking.told import edges_of, label_of
from tests.models.attention.reading_kernel import KERNELS_AND_READING
from tests.models.tasks.ranking.test_ranking_model import batch_of, spans
from tests.models.tasks.ranking.world import events_of, settings, task_of, write

USERS = events_of(7, seed=3)
LABELS = ["value>=4", "buy", "value", "value>=4 against value<=2"]
SEVERAL = f"task.label=[{', '.join(LABELS)}]"
WEIGHTS = {"value>=4": 2.0, "buy": 0.5, "value": 1.0, "value>=4 against value<=2": 0.0}


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> ShardFolder:
    return write(tmp_path_factory.mktemp("data"), USERS)


def told(user: dict, place: int) -> list[float]:
    value, behavior = user["value"][place], user["behavior"][place]
    like = math.nan if value != value else float(value >= 4)
    return [like, float(behavior == 3), value, math.nan if value == 3 else like]


def test_the_loss_is_the_weighted_mean_over_labels(shards: ShardFolder) -> None:
    weights = "{" + ", ".join(f"'{name}': {weight}" for name, weight in WEIGHTS.items() if weight != 1) + "}"
    task = task_of(shards, SEVERAL, f"task.weights={weights}")
    model = task.model
    model.scale.copy_(torch.tensor([1.0, 1.0, 3.0, 1.0]))
    batch = batch_of(task, shards, spans())
    step = task.prepare(batch)
    logits = model(batch).tolist()
    total, rows = 0.0, 0
    offsets, events = batch.offsets.tolist(), batch.num_events
    for row, (number, start, stop) in enumerate(spans()):
        for place in range(start, stop + 1):
            found = logits[events + row if place == start else offsets[row] + place - start - 1]
            labels = told(USERS[number], place)
            for z, y, (name, weight) in zip(found, labels, WEIGHTS.items(), strict=True):
                if y != y:
                    continue
                if name == "value":
                    loss = 0.5 * ((z - y) / 3.0) ** 2
                else:
                    p = 1.0 / (1.0 + math.exp(-z))
                    loss = -(y * math.log(p) + (1 - y) * math.log(1 - p))
                total += weight / sum(WEIGHTS.values()) * loss
            rows += 1
    assert len(step.positions) == rows
    assert task.objective(step).item() == pytest.approx(total / rows, rel=1e-5)
    assert task.objective(step, 7.0).item() == pytest.approx(total / 7.0, rel=1e-5)


def test_padding_and_what_is_not_known_count_nothing(
    shards: ShardFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatch, "KERNELS", KERNELS_AND_READING)
    task = task_of(shards)
    batch = batch_of(task, shards, spans())
    step = task.prepare(batch)
    assert len(step.positions) == sum(
        USERS[number]["value"][place] == USERS[number]["value"][place]
        for number, start, stop in spans()
        for place in range(start, stop + 1)
    )
    room = batch.padded(events=64, sequences=16, longest=9)
    size = len(step.positions)
    # More positions than there are rows: sizes of both are rounded up on their own.
    positions = torch.cat([step.positions, torch.arange(size, 96)])
    padded = LossBatch(room, positions, torch.arange(96) < size)
    assert task.objective(padded).item() == pytest.approx(task.objective(step).item(), rel=1e-5)


def test_a_step_without_positions_is_zero_and_reaches_every_parameter(shards: ShardFolder) -> None:
    task = task_of(shards)
    batch = batch_of(task, shards, spans())
    loss = task.objective(LossBatch(batch, torch.zeros(0, dtype=torch.int64)), 5.0)
    loss.backward()
    assert loss.item() == 0.0
    assert all(
        parameter.grad is not None and not parameter.grad.any() for parameter in task.model.parameters()
    )


def test_a_fresh_head_begins_with_the_means_of_the_training_part(shards: ShardFolder) -> None:
    task = task_of(shards, SEVERAL)
    config = settings()
    source = sequences_of(shards, config, task.columns)
    loader = make_loader(config, source, shards.manifest.behaviors)
    task.look_at(loader)
    loader.close()
    known = [told(user, place) for user in USERS for place in range(user["train_end"])]
    columns = [[y for y in column if y == y] for column in zip(*known, strict=True)]
    for place, (column, name) in enumerate(zip(columns, LABELS, strict=True)):
        if name == "value":
            assert task.model.offset[place] == pytest.approx(np.mean(column), rel=1e-5)
            assert task.model.scale[place] == pytest.approx(np.std(column), rel=1e-5)
        else:
            share = (sum(column) + 0.5) / (len(column) + 1.0)
            assert task.model.offset[place] == pytest.approx(math.log(share / (1 - share)), rel=1e-5)


@pytest.mark.parametrize(
    "rule", [*LABELS, "view|cart", "value>3.5", "value=2", "value<2", "value<=3", "buy against view"]
)
def test_labels_on_a_device_are_those_of_evaluations(rule: str, shards: ShardFolder) -> None:
    (label,) = parse_labels(rule, ["view", "cart", "buy"])
    behavior = np.array([b for user in USERS for b in user["behavior"]], np.int8)
    value = np.array([v for user in USERS for v in user["value"]], np.float32)
    expected = label.of(behavior, value)
    found = label_of(label, torch.from_numpy(behavior.astype(np.int64)), torch.from_numpy(value))
    np.testing.assert_array_equal(found.numpy(), expected)
    assert len(np.unique(expected[~np.isnan(expected)])) > 1


@pytest.mark.parametrize(
    ("rule", "told_apart"), [("value>=4", (3.9, 4.0)), ("value>4", (4.0, 4.1)), ("value=4", (4.0, 4.1))]
)
def test_values_are_told_apart_where_labels_are(rule: str, told_apart: tuple[float, float]) -> None:
    edges = edges_of(parse_labels(rule, []), [2.0])
    low, high = (sum(np.float32(value) >= edge for edge in edges) for value in told_apart)
    assert (high, edges[0]) == (low + 1, 2.0)
