"""Recommendations against a plain loop over all items, and against evaluation."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from behavior.errors import UserError
from behavior.shards.folder import open_shards
from models.evaluate_run import evaluate
from models.serving.load import TrainedModel
from models.serving.recommend import users
from tests.models.serving.asked_by_hand import asked_by_hand, log_of, rows_by_user
from tests.models.serving.recommend_world import BEHAVIORS


@pytest.mark.parametrize("exclude", [False, True])
def test_top_is_that_of_a_loop_over_all_items(rich: TrainedModel, data: Path, exclude: bool) -> None:
    """History, jump and trend logits on; the whole history, time and behavior told; seen items by hand."""
    at, ids = 1_000_400_000, rich.item_ids.to_pylist()
    found = rows_by_user(rich.recommend(k=7, at=at, behavior="view", exclude_seen=exclude).table())
    logs = log_of()
    assert set(found) == set(logs)
    for user, own in logs.items():
        scores = asked_by_hand(rich, own, at, "view")
        seen = {item for item, behavior, _ in own if behavior == "buy"} if exclude else set()
        order = sorted(
            (place for place, item in enumerate(ids) if item not in seen), key=lambda place: -scores[place]
        )
        rows = found[user]
        assert [row["rank"] for row in rows] == list(range(1, 8))
        np.testing.assert_allclose([row["score"] for row in rows], [scores[p] for p in order[:7]], rtol=1e-5)
        own_scores = [scores[ids.index(row["item"])] for row in rows]
        np.testing.assert_allclose([row["score"] for row in rows], own_scores, rtol=1e-5)
        assert len({row["item"] for row in rows}) == 7
        assert {row["answer"] for row in rows} == {"model"}


@pytest.mark.parametrize("of", ["rich", "plain"])
def test_ndcg_of_recommendations_is_that_of_evaluation(of: str, request: pytest.FixtureRequest) -> None:
    """Histories before the test target, as a table, asked at the time of the target."""
    model: TrainedModel = request.getfixturevalue(of)
    logs, rows, targets = log_of(), [], {}
    for table in open_shards(model.shards.folder).iter_sequences():
        for row in table.to_pylist():
            own, begin = logs[row["user"]], row["valid_end"]
            stop = next((place for place in range(begin, len(own)) if own[place][1] == "buy"), None)
            if not stop:
                continue
            targets[row["user"]] = own[stop][0]
            for item, name, time in own[:stop]:
                event = {"user": row["user"], "item": item, "behavior": name, "timestamp": time}
                rows.append(event | {"at": own[stop][2]})
    report = evaluate(model, "test", cutoffs=[10], exclude_seen=False, bootstrap=0)
    assert report["users"] == len(targets)
    found = rows_by_user(model.recommend(histories=rows, k=10, exclude_seen=False).table())
    gains = []
    for user, target in targets.items():
        ranked = [row["item"] for row in found[user] if row["answer"] == "model"]
        gains.append(1 / math.log2(ranked.index(target) + 2) if target in ranked else 0.0)
    assert sum(gains) / len(gains) == pytest.approx(report["ndcg@10"], abs=1e-9)


def test_users_of_the_data_set_in_batches(rich: TrainedModel) -> None:
    """The same in batches of any size, and of some users alone."""
    whole = rich.recommend(k=3, at=1_000_400_000).table()
    few = rich.config.evaluation.model_copy(update={"batch_size": 7})
    by_few = replace(rich, config=rich.config.model_copy(update={"evaluation": few}))
    parts = by_few.recommend(k=3, at=1_000_400_000)
    some = by_few.recommend(["u3", "u11"], k=3, at=1_000_400_000).table()
    again = parts.table()
    assert again["item"].to_pylist() == whole["item"].to_pylist()
    assert parts.told.users == parts.expected == 40
    expected = [row for row in whole.to_pylist() if row["user"] in ("u3", "u11")]
    assert [row["item"] for row in some.to_pylist()] == [row["item"] for row in expected]
    with pytest.raises(UserError, match="gone through"):
        parts.table()
    with pytest.raises(UserError, match="2 of 3 users are not in the data set: 'u77', 'x'"):
        rich.recommend(["u77", "u1", "x"])


@pytest.mark.parametrize("at_once", [1, 4, 1024])
def test_users_come_in_the_order_that_they_were_named_in(
    at_once: int, rich: TrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of several parts of the data set in one block of memory, or a block of each few."""
    monkeypatch.setattr(users, "_EVENTS_AT_ONCE", 0)
    monkeypatch.setattr(users, "_FEWEST", at_once)
    whole = rows_by_user(rich.recommend(k=3, at=1_000_400_000).table())
    named = [f"u{number}" for number in random.Random(0).sample(range(40), 17)]
    asked = rich.recommend([*named, named[3]], k=3, at=1_000_400_000)
    found = rows_by_user(asked.table())
    assert list(found) == named
    assert asked.expected == asked.told.users == 17
    assert {len({row["item"] for row in rows}) for rows in found.values()} == {3}
    for user, rows in found.items():
        assert [row["item"] for row in rows] == [row["item"] for row in whole[user]]


def test_without_a_history_what_is_popular(plain: TrainedModel) -> None:
    """No event, or none that is an input; in the order of counts, ties by item order."""
    items = plain.shards.items()
    counts = items["train_count"].to_pylist()
    order = sorted(range(len(counts)), key=lambda place: (-counts[place], place))
    popular = [plain.item_ids[place].as_py() for place in order]
    bought, seen = popular[0], popular[1]
    rows = [
        {"user": "new", "item": [], "behavior": [], "timestamp": []},
        {"user": "looks", "item": [seen], "behavior": ["view"], "timestamp": [1_000_000_000]},
        {"user": "buys", "item": [bought], "behavior": ["buy"], "timestamp": [1_000_000_000]},
    ]
    stream = plain.recommend(histories=pa.Table.from_pylist(rows), k=4, exclude_seen=["view", "buy"])
    found = rows_by_user(stream.table())
    assert [row["item"] for row in found["new"]] == popular[:4]
    assert [row["item"] for row in found["looks"]] == [item for item in popular if item != seen][:4]
    assert found["new"][0]["score"] == counts[order[0]]
    answers = {user: {row["answer"] for row in own} for user, own in found.items()}
    assert answers == {"new": {"popularity"}, "looks": {"popularity"}, "buys": {"model"}}
    assert stream.told.by_popularity == 2


def test_the_scores_wait_for_nothing_but_the_question(rich: TrainedModel) -> None:
    """What is asked about changes the answer; the target's own item never does."""
    view, buy = (rich.recommend(k=9, at=1_000_400_000, behavior=name).table() for name in BEHAVIORS)
    assert view["score"].to_pylist() != buy["score"].to_pylist()
    later = rich.recommend(k=9, at=1_000_900_000, behavior="buy").table()
    assert later["score"].to_pylist() != buy["score"].to_pylist()
    assert torch.isfinite(torch.tensor(view["score"].to_pylist())).all()
