"""The next event's behavior: a second loss, its evaluation, and what comes of asking for one."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from behavior.errors import UserError
from behavior.shards.folder import open_shards
from models import load_model
from models.build import build_task
from models.config import load_config
from models.data.batch import PackedBatch
from models.data.loading import ShardSource
from models.distributed.processes import SINGLE, Processes
from models.evaluate_run import evaluate
from models.serving.score import History
from models.tasks.loss_batch import LossBatch
from models.tasks.retrieval.behaviors import judge_behaviors
from models.training import train
from tests.models.distributed.threads import together
from tests.models.shards import User, World, write_shards
from tests.models.training.training_runs import SETTINGS, settings

NAMES = ("view", "cart", "buy")
WORLD = World(num_items=9, behaviors=NAMES, targets=("buy",), files=2)
WEIGHT = "loss.next_behavior_weight=0.5"
HEAVY = "loss.next_behavior_weight=5"
FIRST = "embedding.layout=behavior_first"


def users() -> list[User]:
    """Of every item views, a cart and a buy in turn; parts of several events."""
    made = []
    for start in range(24):
        length = 7 + start % 8
        behavior = [1 + (start + step) % 3 for step in range(length)]
        buys = [event for event in range(length) if behavior[event] == 3]
        items = [2 + (start + step // 3) % 9 for step in range(length)]
        times = [60 * step + start for step in range(length)]
        made.append(User(items, buys[-2], buys[-1], behavior, times))
    return [*made, User([3, 4], 2, 2, [1, 3], [5, 6])]


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shards(tmp_path_factory.mktemp("data"), users(), WORLD)


@pytest.fixture(scope="module", params=["event", "behavior_first"])
def run(shards: Path, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    out = tmp_path_factory.mktemp("run") / "run"
    own = ["embedding.behaviors=add"] if request.param == "event" else [FIRST]
    longer = ["train.epochs=40", "optimizer.learning_rate=0.01", "train.validate_every_epochs=40"]
    train(load_config("default", [*SETTINGS, HEAVY, *own, *longer]), shards, out)
    return out


@pytest.mark.parametrize("layout", ["event", "interleaved", "behavior_first", "channels"])
def test_the_loss_is_the_sum_of_both(layout: str, shards: Path) -> None:
    """The items' loss, and the weighted mean of -log softmax of what is known before it is told."""
    own = (f"embedding.layout={layout}", "model.dropout=0", "loss.kind=full_softmax")
    task = build_task(settings(*own, WEIGHT), open_shards(shards))
    batch = PackedBatch.from_lists(
        [[2, 3, 4, 5], [6, 7, 8]], behaviors=[[1, 2, 3, 1], [3, 1, 2]], timestamps=[[1, 2, 3, 9], [4, 6, 7]]
    ).with_values(target_behavior=torch.tensor([2, 3, 1, 2, 1, 2, 3]))
    head, objective = task.model.next_behavior, task.objective
    with torch.no_grad():
        head.logits.weight.normal_(0.0, 0.5)
        head.logits.bias.normal_(0.0, 0.5)
    both = objective(LossBatch(batch))
    objective.loss.config = objective.loss.config.model_copy(update={"next_behavior_weight": 0.0})
    items = objective(LossBatch(batch))
    x, tokens = task.model.embedding(batch)
    out = task.model.backbone(x, tokens)
    terms = []
    for event, target in enumerate(batch.target.tolist()):
        if not target:
            continue
        own_token = 2 * event + 1 + (event > 3)  # two tokens an event, and one more a sequence before it
        known = tokens.queries(out)[event]
        if layout == "behavior_first":
            known = out[own_token] + out[own_token - 1]
        weight, bias = head.logits.weight.detach(), head.logits.bias.detach()
        logits = [float(weight[b].double() @ known.detach().double() + bias[b]) for b in (1, 2, 3)]
        came = int(batch.target_behavior[event])
        terms.append(math.log(sum(map(math.exp, logits))) - logits[came - 1])
    assert float((both - items).detach()) == pytest.approx(0.5 * sum(terms) / len(terms), rel=1e-4)


def test_padded_steps_have_the_same_loss(shards: Path) -> None:
    task = build_task(
        settings(WEIGHT, FIRST, "model.dropout=0", "loss.kind=full_softmax"), open_shards(shards)
    )
    batch = PackedBatch.from_lists([[2, 3, 4, 5], [6, 7]], behaviors=[[1, 2, 3, 1], [3, 1]])
    positions = torch.tensor([0, 1, 4, 0, 3])
    mask = torch.tensor([True, True, True, False, False])
    found = task.objective(LossBatch(batch, positions, mask)).detach()
    torch.testing.assert_close(task.objective(LossBatch(batch, positions[:3])).detach(), found)
    torch.testing.assert_close(task.objective(LossBatch(batch, positions[:3]), 6.0).detach(), found / 2)


def slow_evaluation(run: Path, split: str) -> dict[str, float]:
    """One event after the other, each from the newest events before it alone."""
    model = load_model(run, device="cpu")
    hits, losses, came = [], [], []
    for user in users():
        end = user.valid_end if split == "valid" else len(user.item)
        longest = model.config.model.max_length
        for event in range(max(1, user.train_end if split == "valid" else user.valid_end), end):
            # All events of a part are predicted from one window, that of the last one.
            begin = max(0, end - 1 - longest)
            if begin >= event:
                continue
            history = History(
                user.item[begin:event],
                user.behavior[begin:event],
                user.timestamp[begin:event],
                next_timestamp=user.timestamp[event],
            )
            odds = model.next_behaviors([history])[0]
            hits.append(int(odds.argmax()) == user.behavior[event] - 1)
            losses.append(-math.log(float(odds[user.behavior[event] - 1])))
            came.append(user.behavior[event])
    return {
        "next_behavior_accuracy": float(np.mean(hits)),
        "next_behavior_log_loss": float(np.mean(losses)),
        "next_behavior_majority": max(map(came.count, (1, 2, 3))) / len(came),
        "next_behavior_events": len(came),
    }


@pytest.mark.parametrize("split", ["valid", "test"])
def test_it_is_judged_on_all_events_of_a_part(split: str, run: Path) -> None:
    found, expected = evaluate(run, split, device="cpu"), slow_evaluation(run, split)  # type: ignore[arg-type]
    assert {name: found[name] for name in expected} == pytest.approx(expected, rel=1e-4)
    assert found["next_behavior_accuracy"] > found["next_behavior_majority"] + 0.2  # they come in turn


def test_what_is_wanted_changes_nothing_about_what_comes(run: Path) -> None:
    model = load_model(run, device="cpu")
    asked = [History([3, 3, 4], [1, 2, 3], [60, 120, 180], next_behavior=wanted) for wanted in (1, 2, 3)]
    odds = model.next_behaviors(asked)
    torch.testing.assert_close(odds[0], odds[1])
    torch.testing.assert_close(odds[0], odds[2])
    torch.testing.assert_close(odds.sum(1), torch.ones(3))
    told = model.config.embedding.layout == "behavior_first"
    scores = model.score(asked)
    assert torch.allclose(scores[0], scores[2]) is not told
    if told:
        torch.testing.assert_close(model.score(asked[:1], behavior="buy"), scores[2:])
        with pytest.raises(UserError, match="no behavior 'by'") as caught:
            model.score(asked, behavior="by")
        assert "did you mean 'buy'" in (caught.value.fix or "")
    else:
        with pytest.raises(UserError, match="is not told which behavior is wanted"):
            model.score(asked, behavior="buy")
    assert model.next_behaviors([]).shape == (0, 3)


def test_a_model_without_the_head_predicts_no_behavior(shards: Path, tmp_path: Path) -> None:
    train(load_config("default", [*SETTINGS, "train.epochs=1"]), shards, tmp_path / "run")
    with pytest.raises(UserError, match="predicts no behaviors"):
        load_model(tmp_path / "run", device="cpu").next_behaviors([])
    assert not [name for name in evaluate(tmp_path / "run", device="cpu") if "next_behavior" in name]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["embedding.query_behavior=add"], "the query is told the behavior of the next event"),
        (["model.input_behaviors=target"], "there is one behavior"),
    ],
)
def test_what_cannot_be_learned_is_refused(overrides: list[str], message: str, shards: Path) -> None:
    with pytest.raises(UserError, match=message):
        build_task(settings(WEIGHT, *overrides), open_shards(shards))


def test_targets_alone_teach_no_behavior() -> None:
    with pytest.raises(UserError, match="set loss_on to all"):
        settings(WEIGHT, "loss.loss_on=targets")


def test_processes_share_the_judging(run: Path) -> None:
    model = load_model(run, device="cpu")
    parts = list(ShardSource(model.shards))

    def judged(processes: Processes = SINGLE) -> dict[str, Any]:
        shown = model.config.model
        return judge_behaviors(model.task.model, shown, parts, "test", 3, processes)  # type: ignore[arg-type]

    for found in together(3, judged):
        assert found == pytest.approx(judged())
