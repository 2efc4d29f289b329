"""Counts before a row against loops over events; trees on them."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from behavior.errors import UserError
from behavior.shards.folder import ShardFolder, open_shards
from behavior.shards.manifest import FeatureEntry
from models.evaluation.actions.labels import parse_labels
from models.rankers import names
from models.rankers.counts import DECAY, SHRINK, count_features, count_names
from models.rankers.data import RankerData
from models.rankers.evaluate import evaluate_rankers
from models.rankers.names import check_rankers
from tests.models.rankers.world import rated
from tests.models.shards import User, World, write_shards

USERS = [
    User([2, 3, 4, 2, 5, 3], 4, 5, timestamp=[10, 20, 20, 50, 51, 90]),
    User([3, 4, 6], 2, 2, timestamp=[5, 9, 100]),
    User([5], 0, 0, timestamp=[7]),
]
VALUES = [[1, 5, 4, np.nan, 2, 4], [3, 5, 1], [4]]
GENRES = {2: [2], 3: [2, 3], 4: [3], 5: [1], 6: [2]}


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> ShardFolder:
    world = World(
        num_items=5,
        behaviors=("rate",),
        targets=("rate",),
        split={"kind": "temporal", "targets": "all", "valid_at": 1, "test_at": 2},
        event_columns={"value": pa.array(np.concatenate(VALUES), pa.float32())},
        item_features=(FeatureEntry(name="genres", kind="multi_categorical", vocabulary_size=4),),
        item_columns={"genres": pa.array([GENRES[item] for item in range(2, 7)], pa.list_(pa.int32()))},
    )
    return open_shards(write_shards(tmp_path_factory.mktemp("data"), USERS, world))


@pytest.mark.parametrize("part", ["train", "test"])
def test_counts_against_loops(part: str, shards: ShardFolder) -> None:
    data = RankerData.of(shards, parse_labels("value>=4", ["rate"])[0])
    rows = data.rows(part)  # type: ignore[arg-type]
    found = count_features(data, rows, "train")
    assert found.shape == (len(rows), len(count_names(data)))
    counted = [
        (user, place)
        for user, own in enumerate(USERS)
        for place in range(own.train_end)
        if not math.isnan(VALUES[user][place])
    ]
    mean = np.mean([VALUES[user][place] for user, place in counted])

    def item_mean(item: int, without: tuple[int, int] | None = None) -> tuple[int, float]:
        stars = [VALUES[u][p] for u, p in counted if USERS[u].item[p] == item and (u, p) != without]
        return len(stars), (sum(stars) + SHRINK * mean) / (len(stars) + SHRINK)

    for row, (user, position) in enumerate(zip(rows.sequence.tolist(), rows.position.tolist(), strict=True)):
        own, item = USERS[user], USERS[user].item[position]
        before = [place for place in range(position) if not math.isnan(VALUES[user][place])]
        residuals = [VALUES[user][place] - item_mean(own.item[place])[1] for place in before]
        n, average = item_mean(item, (user, position))
        weights = [DECAY ** (len(before) - 1 - number) for number in range(len(before))]
        user_residual = sum(residuals) / (len(before) + SHRINK)
        recent = sum(w * r for w, r in zip(weights, residuals, strict=True)) / (sum(weights) + 1)
        now = own.timestamp[position]
        gaps = [math.log1p(now - own.timestamp[place]) if position else 0.0 for place in (position - 1, 0)]
        alike = [r for r, place in zip(residuals, before, strict=True) if own.item[place] == item]
        of_item = (len(alike), sum(alike) / (len(alike) + SHRINK))
        shared = []
        for genre in GENRES[item]:
            alike = [
                r for r, place in zip(residuals, before, strict=True) if genre in GENRES[own.item[place]]
            ]
            shared.append((len(alike), sum(alike) / (len(alike) + SHRINK)))
        expected = [
            n,
            average,
            len(before),
            (sum(VALUES[user][place] for place in before) + SHRINK * mean) / (len(before) + SHRINK),
            user_residual,
            recent,
            residuals[-1] if residuals else 0.0,
            average + user_residual,
            *gaps,
            *of_item,
            *np.mean(shared, axis=0),
        ]
        np.testing.assert_allclose(found[row], expected, rtol=1e-5, atol=1e-6)


def test_trees_on_counts(tmp_path: Path) -> None:
    pytest.importorskip("lightgbm", reason="lightgbm comes with the extra 'rankers'")
    settings = ["task.label=value>=4", "evaluation.bootstrap=0", "rankers.trees=60"]
    found = evaluate_rankers(rated(tmp_path), names=["bias", "lightgbm"], settings=settings)["baselines"]
    assert found["lightgbm"]["chosen"]["trees"] <= 60
    assert found["lightgbm"]["auc"] > 0.8 > found["bias"]["auc"]


def test_what_is_not_installed_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install lrm-kit\[rankers\]"):
        check_rankers(["lightgbm"])
    check_rankers(["bias"])
