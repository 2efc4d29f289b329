"""Recommendations in the order of a ranking model, against that model asked for one item after the other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from behavior.errors import UserError
from models.build import sequences_of
from models.config import load_config
from models.data.windows import Windows, gather
from models.serving.load import TrainedModel, load_model
from models.training import train
from tests.models.tasks.ranking.world import FIRST, N, events_of, settings, write

RETRIEVAL = [
    "model.dim=8",
    "model.blocks=1",
    "model.max_length=8",
    "train.epochs=1",
    "train.device=cpu",
    "loader.threads=0",
]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A retrieval run, and a ranking run of two labels."""
    folder = tmp_path_factory.mktemp("runs")
    shards = write(folder / "data", events_of(16, seed=9)).where()
    train(load_config("default", RETRIEVAL), shards, folder / "retrieval")
    train(settings("task.label=[value>=4, buy]", "model.time=unknown"), shards, folder / "ranking")
    return folder / "retrieval", folder / "ranking"


@pytest.fixture(scope="module")
def model(runs: tuple[Path, Path]) -> TrainedModel:
    return load_model(runs[0], device="cpu")


def probability(judge: TrainedModel, user: int, item: int, label: int) -> float:
    """Of an item after the whole history of a user."""
    (data,) = sequences_of(judge.shards, judge.config, judge.task.columns)
    begin, end = int(data.offsets[user]), int(data.offsets[user + 1])
    columns = [np.array([value]) for value in (user, max(begin, end - N), end, end - 1)]
    batch = gather(data, Windows(*columns), time="unknown")
    asked = batch["target_item"].clone()
    asked[-1] = item
    with torch.no_grad():
        logits = judge.module(batch.with_values(target_item=asked))[batch.num_events - 1]
    return float(logits[label].sigmoid())


@pytest.mark.parametrize(("label", "place"), [(None, 0), ("buy", 1)])
def test_items_are_in_the_order_of_their_probability(
    label: str | None, place: int, runs: tuple[Path, Path], model: TrainedModel
) -> None:
    users = [1, 4, 7]
    plain = model.recommend(users, k=4).table().to_pylist()
    found = model.recommend(users, k=3, rerank=runs[1], rerank_depth=4, rerank_label=label)
    rows, judge = found.table().to_pylist(), load_model(runs[1], device="cpu")
    assert any("the first 4 items" in note for note in found.notes)
    for user in users:
        first = [row["item"] for row in plain if row["user"] == user]
        expected = sorted(((probability(judge, user, item, place), item) for item in first), reverse=True)
        mine = [(row["score"], row["item"]) for row in rows if row["user"] == user]
        assert [item for _, item in mine] == [item for _, item in expected[:3]]
        assert [score for score, _ in mine] == pytest.approx([p for p, _ in expected[:3]], abs=1e-5)
        assert min(item for item in first) >= FIRST


def test_no_more_than_were_put_in_order_are_recommended(runs: tuple[Path, Path], model: TrainedModel) -> None:
    found = model.recommend([1], k=5, rerank=runs[1], rerank_depth=2).table()
    assert found["rank"].to_pylist() == [1, 2]


def test_what_cannot_be_reranked_is_refused(runs: tuple[Path, Path], model: TrainedModel) -> None:
    with pytest.raises(UserError, match="does not say how likely"):
        model.recommend([1], rerank=runs[0])
    with pytest.raises(UserError, match="no label 'bye'"):
        model.recommend([1], rerank=runs[1], rerank_label="bye")
    with pytest.raises(UserError, match="have no actions"):
        model.recommend(histories=[{"user": 1, "item": 3}], rerank=runs[1])


def test_members_are_fused_and_sampled_negatives_corrected(
    runs: tuple[Path, Path], model: TrainedModel, tmp_path: Path
) -> None:
    """By popularity: an item that is drawn twice as often has half the odds in training."""
    drawn = ("ratio=2", "drawn=popularity", "left_out=event")
    run = tmp_path / "together"
    train(
        settings(
            "task.label=[buy, cart]",
            "model.time=unknown",
            "task.members=[hstu, llama]",
            "task.counters=[user]",
            *(f"task.negatives.{setting}" for setting in drawn),
        ),
        model.shards.where(),
        run,
    )
    judge = load_model(run, device="cpu")
    counts = model.shards.items()["train_count"].to_numpy()
    chances = counts / counts.sum()
    plain = model.recommend([4], k=5).table()["item"].to_pylist()
    found = model.recommend([4], k=5, rerank=run, rerank_depth=5).table()
    for item, score in zip(found["item"].to_pylist(), found["score"].to_pylist(), strict=True):
        p = probability(judge, 4, item, 0)
        odds = p / (1 - p) * 2 * chances[item - FIRST]
        assert score == pytest.approx(odds / (1 + odds), abs=1e-5)
    assert sorted(found["item"].to_pylist()) == sorted(plain)
    assert found["score"].to_pylist() == sorted(found["score"].to_pylist(), reverse=True)


def test_candidates_without_what_a_model_is_told_are_refused(
    runs: tuple[Path, Path], model: TrainedModel, tmp_path: Path
) -> None:
    for number, (given, said) in enumerate(
        (
            (["task.counters=[item]"], "not of candidates"),
            (["task.rates=[item]"], "not of candidates"),
            (["task.counters=[user]", "task.counter_facts=[since]"], "candidates have no time"),
            (["task.known_features=[device]"], "is no event"),
        )
    ):
        run = tmp_path / str(number)
        train(settings("train.epochs=1", *given), model.shards.where(), run)
        with pytest.raises(UserError, match=said):
            model.recommend([1], rerank=run)
