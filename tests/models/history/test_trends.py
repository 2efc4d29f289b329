"""Trend logits against sums over single events, and in training, ranking and serving."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from behavior.errors import UserError
from behavior.shards.folder import open_shards
from behavior.trends import count_trends
from models.attention.bias import time_bucket
from models.build import build_task
from models.config import load_config
from models.data.about import about_sequences
from models.data.batch import PackedBatch
from models.evaluate_run import evaluate
from models.history.trends.logits import TrendLogits, TrendMass
from models.serving.load import load_model
from models.serving.score import History
from models.tasks.retrieval.trends import trend_logits
from models.training import train
from tests.models.shards import User, World, leave_one_out, write_shards

ITEMS, SCALES = 7, [5.0, 60.0]


def events(seed: int = 0, count: int = 200) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    return random.integers(0, ITEMS - 1, count), random.integers(
        100, 400, count
    )  # the last item never occurs


def share(item: np.ndarray, time: np.ndarray, asked: int, at: int, scale: float) -> float:
    """By definition: one event after the other, only those before."""
    counts = [0.0] * ITEMS
    for one, when in zip(item.tolist(), time.tolist(), strict=True):
        if when < at:
            counts[one] += math.exp(-(at - when) / scale)
    return counts[asked] / sum(counts) if sum(counts) else 0.0


def logits(item: np.ndarray, time: np.ndarray) -> TrendLogits:
    torch.manual_seed(0)
    made = TrendLogits(
        count_trends(item, time, SCALES, ITEMS), width=3, num_behaviors=2, first_item=2, level=1.0
    )
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter)
    return made


def some_batch() -> PackedBatch:
    return PackedBatch.from_lists(
        [[2, 5, 3, 1], [4, 2, 8]],
        behaviors=[[1, 2, 2, 1], [2, 1, 1]],
        timestamps=[[50, 90, 150, 320], [101, 399, 405]],
        query_times=[[90, 150, 320, 1000], [399, 405, 405]],
    )


def test_masses_are_sums_over_scales() -> None:
    item, time = events()
    trends, batch = logits(item, time), some_batch()
    outputs = torch.randn(batch.num_events, 3, requires_grad=True)
    on_target, on_rest = trends(outputs, batch)
    for row in range(batch.num_events):
        at, target = int(batch.query_time[row]), int(batch.target[row]) - 2
        gap = time_bucket(batch.query_time[row] - batch.timestamp[row])
        weight = trends.query.weight @ outputs[row] + trends.constant + trends.time[gap]
        weight = (weight + trends.behavior[batch.target_behavior[row]]).exp().tolist()
        shares = [share(item, time, target, at, scale) if target >= 0 else 0.0 for scale in SCALES]
        expected = sum(one * part for one, part in zip(weight, shares, strict=True))
        known = float(bool((time < at).any()))
        rest = sum(one * (known - part) for one, part in zip(weight, shares, strict=True))
        assert float(on_target[row].detach().exp()) == pytest.approx(expected, rel=1e-4)
        assert float(on_rest[row].detach().exp()) == pytest.approx(rest, rel=1e-4)
    finite = torch.cat([mass[mass.isfinite()] for mass in (on_target, on_rest)])
    assert 0 < len(finite) < 2 * batch.num_events
    finite.sum().backward()
    assert outputs.grad is not None
    for gradient in (outputs.grad, *(parameter.grad for parameter in trends.parameters())):
        assert gradient is not None
        assert gradient.isfinite().all()
        assert gradient.abs().sum() > 0


@pytest.mark.parametrize("ranges", [[(0, ITEMS)], [(0, 3), (3, 4), (4, ITEMS)]])
def test_ranking_adds_the_mass_of_every_item(ranges: list[tuple[int, int]]) -> None:
    item, time = events(1)
    trends = logits(item, time)
    asked = torch.tensor([300, 90, 100, 1000, 250, 250, 10**9])  # not sorted, before everything, long after
    weight, scores = torch.randn(len(asked), 2), torch.randn(len(asked), ITEMS)
    mass = TrendMass(trends.shares, asked, weight)
    found = torch.cat([mass.add_to(scores[:, a:b].clone(), a, b) for a, b in ranges], 1)
    for row, at in enumerate(asked.tolist()):
        for one in range(ITEMS):
            parts = [share(item, time, one, at, scale) for scale in SCALES]
            if at == 10**9:  # too small for a sum of floats: all that counts is the last event
                continue
            more = sum(float(w.exp()) * part for w, part in zip(weight[row], parts, strict=True))
            expected = math.log(math.exp(float(scores[row, one])) + more)
            assert float(found[row, one]) == pytest.approx(expected, abs=1e-4)
    assert found.isfinite().all()
    assert torch.equal(found[:, ITEMS - 1], scores[:, ITEMS - 1])


def fashion(folder: Path, users: int = 60, length: int = 8) -> Path:
    """In every hour everybody takes the item of the hour: nothing in a history tells which it is."""
    random = np.random.default_rng(0)
    rows = []
    for _ in range(users):
        hours = np.sort(random.choice(48, length, replace=False))
        times = (hours * 3600 + random.integers(0, 3600, length)).tolist()
        items = [2 + (7 * int(hour) ** 2 + 3 * int(hour)) % 19 for hour in hours]
        rows.append(User(items, length - 2, length - 1, timestamp=times))
    return write_shards(folder, rows, World(num_items=19))


SMALL = [
    "model.dim=8",
    "model.max_length=8",
    "train.epochs=15",
    "train.batch_sequences=16",
    "train.device=cpu",
    "optimizer.learning_rate=0.03",
    "evaluation.exclude_seen=false",
    "evaluation.cutoffs=[1, 10]",
    "loss.trend_hours=[0.2]",
]


@pytest.mark.parametrize("kind", ["full_softmax", "sampled_softmax", "bce"])
def test_what_is_popular_now_is_learned(tmp_path: Path, kind: str) -> None:
    data = fashion(tmp_path / "data")
    found = {}
    for trends in ("none", "learned"):
        config = load_config("default", [f"loss.kind={kind}", f"loss.trends={trends}"], shared=SMALL)
        train(config, data, tmp_path / trends)
        found[trends] = evaluate(tmp_path / trends, device="cpu")["hr@1"]
    assert found["learned"] > found["none"] + 0.2


def test_served_scores_are_those_of_the_evaluation(tmp_path: Path) -> None:
    data = fashion(tmp_path / "data", users=20)
    train(load_config("default", [*SMALL, "loss.trends=learned", "train.epochs=2"]), data, tmp_path / "run")
    model = load_model(tmp_path / "run", device="cpu")
    asked = [History([2, 3], timestamps=[0, 10], next_timestamp=at) for at in (20_000, 90_000)]
    scores = model.score(asked)
    alone = torch.cat([model.score([one]) for one in asked])
    assert torch.allclose(scores, alone, atol=1e-5)
    assert not torch.allclose(scores[0], scores[1], atol=1e-2)


def test_a_run_alone_does_not_know_what_was_popular(tmp_path: Path) -> None:
    data = fashion(tmp_path / "data", users=20)
    train(load_config("default", [*SMALL, "loss.trends=learned", "train.epochs=1"]), data, tmp_path / "run")
    data.rename(tmp_path / "moved")
    with pytest.raises(UserError, match="trend logits are counted in the log") as caught:
        load_model(tmp_path / "run", device="cpu")
    assert caught.value.where == str(data)
    assert "--data DIR" in (caught.value.fix or "")
    load_model(tmp_path / "run", data=str(tmp_path / "moved"), device="cpu")


def test_divided_tables_have_no_trends(tmp_path: Path) -> None:
    shards = open_shards(fashion(tmp_path / "data", users=3))
    config = load_config("default", [*SMALL, "loss.trends=learned"])
    with pytest.raises(UserError, match="item tables are divided") as caught:
        trend_logits(config, shards, about_sequences(shards), divided=True)
    assert "train.item_table=replicated" in (caught.value.fix or "")


def test_counts_are_of_the_events_that_are_trained_on(tmp_path: Path) -> None:
    users = [User([2, 3, 4, 5], 2, 3, behavior=[1, 2, 2, 2], timestamp=[10, 20, 30, 40])]
    world = World(num_items=6, behaviors=("view", "buy"), targets=("buy",))
    shards = open_shards(write_shards(tmp_path, users, world))
    expected = {
        ("targets", "train"): [1],
        ("all", "train"): [0, 1],
        ("targets", "train+valid"): [1, 2],
        ("all", "all"): [0, 1, 2, 3],
    }
    for (of, part), items in expected.items():
        settings = [*SMALL, "loss.trends=learned", f"loss.trend_of={of}", f"loader.part={part}"]
        shares = build_task(load_config("default", settings), shards).model.trends.shares  # type: ignore[union-attr]
        assert (shares.key // shares.span).tolist() == items


def test_data_without_time_has_no_trends(tmp_path: Path) -> None:
    world = World(num_items=4, timestamp_unit="none")
    shards = open_shards(write_shards(tmp_path, leave_one_out([2, 3, 4, 5]), world))
    with pytest.raises(UserError, match="trends need timestamps"):
        build_task(load_config("default", [*SMALL, "model.bias=position", "loss.trends=learned"]), shards)
