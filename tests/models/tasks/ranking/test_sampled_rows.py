"""Sampled negatives in training and evaluation, against the model asked for one row at a time."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from behavior.errors import UserError
from behavior.shards.folder import ShardFolder
from models.build import sequences_of
from models.data.batch import PackedBatch
from models.data.declared import CORE
from models.data.loading import MemorySource
from models.data.sequences import SequenceData
from models.data.windows import Windows, gather
from models.evaluation.actions.config import NegativesConfig
from models.evaluation.actions.labels import SAMPLED, parse_labels
from models.evaluation.actions.rows import LabelledRows, Part, labelled_rows
from models.evaluation.actions.sampled import Negatives
from models.rankers.judge import Rankers
from models.tasks.ranking.task import RankingTask
from tests.models.tasks.ranking.test_ranking_model import batch_of
from tests.models.tasks.ranking.world import FIRST, N, events_of, settings, task_of, write

USERS = events_of(24, seed=8)
DRAWN = ("task.label=[buy, cart]", "task.negatives.ratio=1.5", "task.negatives.judged=2.5")
EVENT = "task.negatives.left_out=event"


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> ShardFolder:
    return write(tmp_path_factory.mktemp("data"), USERS)


def spans() -> list[tuple[int, int, int]]:
    """Of each user all events that fit, but for the last one, which is the candidate."""
    lengths = [len(user["item"]) for user in USERS]
    return [(number, 0, min(length - 1, N)) for number, length in enumerate(lengths) if length > 1]


def negatives_of(shards: ShardFolder, **config: Any) -> Negatives:
    labels = parse_labels("buy", shards.manifest.behaviors)
    found = Negatives.of(NegativesConfig(**config), shards, labels)
    assert found is not None
    return found


def all_rows(shards: ShardFolder, negatives: Negatives, part: Part) -> tuple[SequenceData, LabelledRows]:
    (data,) = sequences_of(shards, settings(), CORE)
    rows = labelled_rows(data, parse_labels("buy", shards.manifest.behaviors), part)
    return data, negatives.among(data, rows, part)


@pytest.mark.parametrize("part", ["train", "valid", "test"])
@pytest.mark.parametrize("left_out", ["user", "event"])
def test_rows_of_the_log_are_followed_by_their_negatives(
    part: Part, left_out: str, shards: ShardFolder
) -> None:
    """Of the same user, moment and history; never an item of the user up to the end of the part."""
    _, rows = all_rows(shards, negatives_of(shards, ratio=2.0, judged=2.0, left_out=left_out), part)
    sampled, of_log, drawn = rows.behavior == SAMPLED, None, 0
    for number in range(len(rows)):
        row = rows.take(np.array([number]))
        user, place = USERS[int(row.sequence[0])], int(row.position[0])
        if not sampled[number]:
            of_log, drawn = row, 0
            continue
        assert of_log is not None
        drawn += 1
        assert drawn <= 2
        for name in ("sequence", "position", "stop", "timestamp", "train_count"):
            assert getattr(row, name) == getattr(of_log, name)
        assert row.label.tolist() == [[0.0]]
        ends = {"train": user["train_end"], "valid": user["valid_end"], "test": len(user["item"])}
        had = user["item"][: ends[part]] if left_out == "user" else [user["item"][place]]
        assert int(row.item[0]) not in had
    assert sampled.sum() > 10


def test_negatives_do_not_depend_on_what_is_asked_for_beside(shards: ShardFolder) -> None:
    negatives = negatives_of(shards, ratio=0.7, judged=1.3)
    data, rows = all_rows(shards, negatives, "test")
    users = np.unique(rows.sequence)[::3]
    every = labelled_rows(data, rows.labels, "test")
    some = negatives.among(data, every.take(np.isin(every.sequence, users)), "test")
    chosen = rows.take(np.isin(rows.sequence, users))
    assert some.item.tolist() == chosen.item.tolist()
    assert some.behavior.tolist() == chosen.behavior.tolist()
    assert 1.0 < (rows.behavior == SAMPLED).sum() / (rows.behavior != SAMPLED).sum() < 1.6


def alone(task: RankingTask, data: SequenceData, number: int, place: int, item: int, seen: int) -> np.ndarray:
    """[labels] logits of an item at the place of an event of a user, after so many events."""
    event = int(data.offsets[number]) + place
    changed = dict(data.events)
    changed["item"] = data.item.copy()
    changed["item"][event] = item
    other = SequenceData(
        changed, data.offsets, data.train_end, data.valid_end, data.row, data.about, data.columns
    )
    start, stop = (event - seen, event) if seen else (event, event + 1)
    batch = gather(
        other, Windows(*(np.array([value]) for value in (number, start, stop, event))), time=task.config.time
    )
    with torch.no_grad():
        return task.model(batch, torch.tensor([batch.num_events - 1 if seen else batch.num_events]))[
            0
        ].numpy()


@pytest.mark.parametrize("order", ["joined", "added"])
def test_rows_are_predicted_as_if_the_log_had_gone_on_with_them(order: str, shards: ShardFolder) -> None:
    """And logits are corrected: 1.5 negatives a row were trained on, 2.5 are judged."""
    task = task_of(shards, *DRAWN, EVENT, f"task.actions={order}")
    source = sequences_of(shards, settings(), task.columns)
    judged = task.evaluator(source, settings().evaluation).judge("test", shards, {})
    (data,) = source
    assert (judged.rows.behavior == SAMPLED).any()
    assert judged.negatives is task.negatives
    for row, found in zip(range(len(judged.rows)), judged.predicted, strict=True):
        number, place = int(judged.rows.sequence[row]), int(judged.rows.position[row])
        if place > N:
            continue  # several rows in one pass see fewer events
        wanted = alone(task, data, number, place, int(judged.rows.item[row]), place)
        np.testing.assert_allclose(found, wanted + math.log(1.5 / 2.5), atol=1e-5)


def test_training_asks_about_negatives_as_if_the_log_had_gone_on_with_them(shards: ShardFolder) -> None:
    """Every row of a batch is followed by its negatives, whose loss is that of labels 0."""
    task = task_of(shards, *DRAWN, EVENT)
    source = sequences_of(shards, settings(), task.columns)
    (data,) = source
    batch = batch_of(task, shards, spans())
    step = task.prepare(batch)
    plain = batch.num_events + batch.num_sequences
    with torch.no_grad():
        logits, told = task.model(step.batch), task.model.told(step.batch)
    first = [row for row in step.positions.tolist() if row < 0]
    assert len(step.positions) > 1.2 * plain > 0
    assert len(first) > len(spans())
    negatives = 0
    for number in range(batch.num_sequences, step.batch.num_sequences):
        begin, end = (int(step.batch.offsets[place]) for place in (number, number + 1))
        user = int(step.batch.sequence[number])
        bare = bool(step.batch.behavior[begin] == SAMPLED)
        row = step.batch.num_events + number if bare else end - 1
        item = int(step.batch.item[begin] if bare else step.batch["target_item"][end - 1])
        time = int(step.batch.timestamp[begin])
        start = next(
            place for place, when in enumerate(USERS[user]["timestamp"]) if when == time
        )  # of the window
        seen = 0 if bare else end - begin
        if not bare and USERS[user]["item"][start : start + seen] != step.batch.item[begin:end].tolist():
            continue  # two events at one time: another window
        np.testing.assert_allclose(logits[row], alone(task, data, user, start + seen, item, seen), atol=1e-5)
        assert told[row].tolist() == [0.0, 0.0]
        assert item != USERS[user]["item"][start + seen]
        assert item >= FIRST
        negatives += 1
    assert negatives > plain / 2


def test_a_training_draws_anew_and_leaves_out_what_users_had(shards: ShardFolder) -> None:
    task = task_of(shards, *DRAWN)
    (data,) = sequences_of(shards, settings(), task.columns)
    assert task.batches is not None
    task.batches.look_at(MemorySource([data]))
    drawn = []
    for order in (spans(), spans()[::-1]):
        step = task.prepare(batch_of(task, shards, order))
        batch: PackedBatch = step.batch
        drawn.append([])
        for number in range(len(order), batch.num_sequences):
            begin, end = int(batch.offsets[number]), int(batch.offsets[number + 1])
            bare = bool(batch.behavior[begin] == SAMPLED)
            item = int(batch.item[begin] if bare else batch["target_item"][end - 1])
            user = USERS[int(batch.sequence[number])]
            assert item not in user["item"][: user["train_end"]]
            drawn[-1].append(item)
        again = task.prepare(batch_of(task, shards, order)).batch
        assert torch.equal(again.item, batch.item)
    assert sorted(drawn[0]) != sorted(drawn[1])


def test_rankers_are_judged_on_the_rows_of_models(shards: ShardFolder) -> None:
    task = task_of(shards, "task.label=buy", "task.negatives.ratio=1", EVENT)
    source = sequences_of(shards, settings(), task.columns)
    ours = task.evaluator(source, settings().evaluation).judge("test", shards, {}).rows
    labels = parse_labels("buy", shards.manifest.behaviors)
    theirs = Rankers(shards, labels[0], negatives=task.negatives).judge("item_mean")
    for name in ("sequence", "position", "item", "label"):
        assert getattr(ours, name).tolist() == getattr(theirs.rows, name).tolist()


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (("task.label=value", "task.negatives.ratio=1"), "is a number"),
        (("task.label=buy", "task.negatives.judged=2"), "no negatives are drawn"),
        (
            (
                "task.label=buy",
                "task.negatives.ratio=1",
                "task.counters=[item]",
                "loader.sampling.stochastic_length.alpha=1.6",
            ),
            "samples that leave events out",
        ),
        (
            ("task.label=buy", "task.negatives.ratio=1", "task.retrieval_weight=1"),
            "draws negatives of its own",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(overrides: tuple[str, ...], said: str, shards: ShardFolder) -> None:
    with pytest.raises(UserError, match=said):
        task_of(shards, *overrides)


def test_auxiliary_labels_are_learned_and_not_judged(shards: ShardFolder) -> None:
    task = task_of(shards, "task.auxiliary=[value>=5, value]")
    assert [label.name for label in task.model.labels] == ["value>=4"]
    batch = batch_of(task, shards, spans())
    assert task.model(batch).shape[1] == task.model.told(batch).shape[1] == 3
    task.objective(task.prepare(batch)).backward()
    assert task.model.head.out.weight.grad.abs().sum(1).gt(0).tolist() == [True] * 3
    source = sequences_of(shards, settings(), task.columns)
    report = task.evaluator(source, settings().evaluation).judge("test", shards, {}).report()
    assert report["label"] == "value>=4"
    with pytest.raises(UserError, match="is a label already"):
        task_of(shards, "task.auxiliary=['value>=4']")
