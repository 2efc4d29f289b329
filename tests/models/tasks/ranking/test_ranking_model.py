"""Logits of ranking: against a slow oracle, against prefixes of a sequence, and without what is hidden."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from behavior.shards.folder import ShardFolder
from models.backbones import BACKBONES
from models.build import sequences_of
from models.data.batch import PackedBatch
from models.data.windows import Windows, gather
from models.tasks.ranking.task import RankingTask
from tests.models.backbones.backbone_oracle import Story, of_one_sequence
from tests.models.tasks.ranking.world import N, events_of, settings, task_of, write

USERS = events_of(7, seed=3)
ORDERS = ("interleaved", "joined", "added")
RICH = ("embedding.event_features=[device]", "task.known_features=[price]", "task.value_edges=[2, 3]")


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> ShardFolder:
    return write(tmp_path_factory.mktemp("data"), USERS)


def batch_of(
    task: RankingTask, shards: ShardFolder, spans: list[tuple[int, int, int]], time: Any = "known"
) -> PackedBatch:
    """Events `start` to `stop` of users, each predicting the next one."""
    (data,) = sequences_of(shards, settings(), task.columns)
    user, start, stop = (np.array(column) for column in zip(*spans, strict=True))
    begin = data.offsets[user]
    return gather(data, Windows(user, begin + start, begin + stop, begin + stop), time=time)


def spans() -> list[tuple[int, int, int]]:
    """Of each user all events that fit, but for the last one, which is the candidate."""
    lengths = [len(user["item"]) for user in USERS]
    return [(number, 0, min(length - 1, N)) for number, length in enumerate(lengths) if length > 1]


def oracle(task: RankingTask, user: dict[str, Any], start: int, stop: int, time: str, order: str) -> Tensor:
    """[events + 1, labels] of the items from `start` to `stop`, the candidate: from the definition."""
    weights = {name: value.detach().double() for name, value in task.model.named_parameters()}
    table, scale = weights["embedding.item.weight"], math.sqrt(8)

    def item(place: int) -> Tensor:
        return (
            table[user["item"][place]]
            + float(np.float32(user["price"][place])) * weights["embedding.known.0.linear.weight"][:, 0]
        )

    def action(place: int) -> Tensor:
        value = user["value"][place]  # as stored
        linear, buckets = weights["embedding.value.linear.weight"], weights["embedding.value.buckets.weight"]
        told = linear[:, 1] if value != value else math.log1p(value) * linear[:, 0]
        if value == value:
            told = told + buckets[1 + sum(value >= edge for edge in (2.0, 3.0, 4.0))]
        told = told + weights["embedding.events.0.table.weight"][user["device"][place]]
        return told + weights["embedding.behavior.weight"][user["behavior"][place]]

    rows, times, places, asking = [], [], [], []

    def token(vector: Tensor, when: int, position: int) -> None:
        rows.append(vector * scale + weights["embedding.position"][position])
        times.append(when)
        places.append(position)

    each = 1 if order == "added" else 2
    for place in range(start, stop + 1):
        known = time == "known" or place == start
        when = user["timestamp"][place if known else place - 1]
        asking.append(len(rows))
        vector = item(place)
        if order == "added" and place > start:
            vector = vector + action(place - 1)
        token(vector, when, each * (place - start))
        if each == 2 and place < stop:
            told = action(place) + (item(place) if order == "joined" else 0.0)
            token(told, user["timestamp"][place], 2 * (place - start) + 1)
    backbone = {name.removeprefix("backbone."): value for name, value in weights.items()}
    out = of_one_sequence(rows, backbone, settings().model, Story(times, times, places))
    found = []
    for place, number in zip(range(start, stop + 1), asking, strict=True):
        centered = out[number] - out[number].mean()
        normed = centered / (centered.square().mean() + 1e-6).sqrt()
        both = torch.cat([normed, table[user["item"][place]] * scale])
        hidden = torch.relu(weights["head.layers.0.weight"] @ both + weights["head.layers.0.bias"])
        found.append(weights["head.out.weight"] @ hidden + weights["head.out.bias"] + 0.25)
    return torch.stack(found)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("time", ["known", "unknown"])
def test_logits_are_those_of_the_formula(order: str, time: str, shards: ShardFolder) -> None:
    task = task_of(shards, *RICH, f"task.actions={order}", "model.attention=reference")
    task.model.double()
    batch = batch_of(task, shards, spans(), time)
    floats = {name: value.double() for name, value in batch.values.items() if value.is_floating_point()}
    logits = task.model(batch.with_values(**floats))
    offsets, events = batch.offsets.tolist(), batch.num_events
    for row, (number, start, stop) in enumerate(spans()):
        expected = oracle(task, USERS[number], start, stop, time, order)
        mine = torch.cat([logits[events + row, None], logits[offsets[row] : offsets[row + 1]]])
        torch.testing.assert_close(mine, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", BACKBONES)
@pytest.mark.parametrize("order", ORDERS)
def test_a_candidate_at_the_end_has_the_logits_of_training(
    kind: str, order: str, shards: ShardFolder
) -> None:
    """Every position of whole sequences, against the sequence cut there."""
    task = task_of(shards, *RICH, f"task.actions={order}", f"model.kind={kind}")
    whole = spans()
    logits = task.model(batch_of(task, shards, whole))
    cut = [(number, start, place) for number, start, stop in whole for place in range(start + 1, stop + 1)]
    one_by_one = batch_of(task, shards, cut)
    last = task.model(one_by_one, one_by_one.offsets[1:] - 1)
    torch.testing.assert_close(logits[: len(cut)], last, rtol=1e-4, atol=1e-4)
    bare = batch_of(task, shards, [(number, start, start + 1) for number, start, _ in whole])
    firsts = task.model(bare, bare.num_events + torch.arange(len(whole)))
    torch.testing.assert_close(logits[len(cut) :], firsts, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("time", ["known", "unknown"])
def test_nothing_that_is_known_only_afterwards_changes_a_logit(
    order: str, time: str, shards: ShardFolder, tmp_path: Path
) -> None:
    """Of one event behavior, value and feature change, and of time unknown when it happens; its own logit and
    all before stay, to the last bit, and those after it change."""
    task = task_of(shards, *RICH, f"task.actions={order}")
    number = next(place for place, user in enumerate(USERS) if len(user["item"]) > 7)
    place = 5
    user = {name: list(value) if isinstance(value, list) else value for name, value in USERS[number].items()}
    user["behavior"][place] = 1 + user["behavior"][place] % 3
    user["value"][place] = 1.0 if user["value"][place] != 1.0 else 5.0
    user["device"][place] = 1 + user["device"][place] % 3
    if time == "unknown":
        user["timestamp"] = [
            when + 100_000 * (later >= place) for later, when in enumerate(user["timestamp"])
        ]
    other = write(tmp_path / "other", [*USERS[:number], user, *USERS[number + 1 :]])
    both = [task.model(batch_of(task, data, [(number, 0, 7)], time)) for data in (shards, other)]
    same = (both[0] == both[1]).all(1).tolist()
    # Row e is the item after event e; the last row is the first item.
    assert same == [True] * place + [False] * (7 - place) + [True]


def test_what_is_known_beforehand_counts(shards: ShardFolder, tmp_path: Path) -> None:
    task = task_of(shards, *RICH)
    number = next(place for place, user in enumerate(USERS) if len(user["item"]) > 7)
    user = {
        **USERS[number],
        "price": [price + (place == 5) for place, price in enumerate(USERS[number]["price"])],
    }
    other = write(tmp_path / "other", [*USERS[:number], user, *USERS[number + 1 :]])
    both = [task.model(batch_of(task, data, [(number, 0, 7)])) for data in (shards, other)]
    assert (both[0] == both[1]).all(1).tolist() == [True] * 4 + [False] * 3 + [True]


def test_tokens_are_counted(shards: ShardFolder) -> None:
    lengths = [stop - start for _, start, stop in spans()]
    for order, each in (("interleaved", 2), ("joined", 2), ("added", 1)):
        task = task_of(shards, f"task.actions={order}")
        batch = batch_of(task, shards, spans())
        assert task.token_lengths(batch) == tuple(each * length + 1 for length in lengths)
        padded = batch.padded(events=64, sequences=16, longest=N)
        assert torch.equal(task.model.embedding(padded)[1].sequences.offsets[: len(lengths) + 1],
                           task.model.embedding(batch)[1].sequences.offsets)  # fmt: skip
