"""Slices against walking through the users' events one by one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from behavior.errors import UserError
from behavior.shards.folder import ShardFolder, open_shards
from behavior.shards.manifest import FeatureEntry
from behavior.shards.write import write_table
from models.data.loading import ShardSource
from models.data.sequences import SequenceData
from models.evaluation.breakdown import break_down, check_attributes
from models.evaluation.config import EvaluationConfig
from models.evaluation.metrics import ranking_metrics
from models.evaluation.ranking import rank_split
from models.evaluation.rankings import Rankings
from models.evaluation.scores import RowScores, Scores
from models.evaluation.slices import POPULARITY, popularity_buckets
from models.evaluation.targets import Targets
from tests.models.shards import User, World, write_shards

FIRST, ITEMS = 3, 12  # two unknown ids
BRANDS = ["acme", "bolt"]
TAGS = [[4], [4, 5], [], [6, 4, 6], [2, 3], [5], [1], [6], [5, 6], [], [4], [3]]
TAG_NAMES = {1: "missing", 2: "unknown", 3: "unknown", 4: "red", 5: "blue", 6: "4"}
BRAND_OF_ITEM = [4, 5, 4, 1, 2, 3, 4, 4, 5, 5, 1, 4]
PRICE_RANGE = [1, 2, 3, 4, 2, 2, 3, 4, 4, 1, 2, 3]


def random_users(several: bool) -> list[User]:
    generator = np.random.default_rng(0)
    users = []
    for number in range(40):
        length = int(generator.integers(3, 70 if number % 3 else 260))
        valid_end = length - (int(generator.integers(1, 4)) if several else 1)
        users.append(
            User(
                item=generator.integers(1, FIRST + ITEMS, length).tolist(),
                train_end=min(valid_end, int(generator.integers(0, valid_end + 1))),
                valid_end=valid_end,
                behavior=generator.integers(1, 4, length).tolist(),
            )
        )
    return users


def domains_of(users: Sequence[User]) -> list[list[int]]:
    return [[1 + (item + place) % 2 for place, item in enumerate(user.item)] for user in users]


def world(several: bool) -> World:
    entry = FeatureEntry
    return World(
        num_items=ITEMS,
        oov=FIRST - 1,
        behaviors=("view", "buy", "gift"),
        targets=("buy", "gift") if several else ("view", "buy", "gift"),
        files=3,
        split={"kind": "temporal", "targets": "all" if several else "first", "valid_at": 0, "test_at": 1},
        item_features=[
            entry(name="brand", kind="categorical", encoding="vocabulary", vocabulary_size=6),
            entry(name="tags", kind="multi_categorical", encoding="vocabulary", vocabulary_size=7),
            entry(name="price", kind="categorical", encoding="buckets", boundaries=[15.0, 50.0]),
            entry(name="seller", kind="categorical", encoding="hash", vocabulary_size=5, hash_size=3),
            entry(name="weight", kind="numeric", encoding="none"),
        ],
        item_columns={
            "brand": pa.array(BRAND_OF_ITEM, pa.int32()),
            "tags": pa.array(TAGS, pa.list_(pa.int32())),
            "price": pa.array(PRICE_RANGE, pa.int32()),
            "seller": pa.array(PRICE_RANGE, pa.int32()),
            "weight": pa.array(np.ones(ITEMS, np.float32)),
        },
    )


def complete(folder: Path, users: Sequence[User]) -> ShardFolder:
    """Add vocabularies, and the domain of every event."""
    before, domains = open_shards(folder), domains_of(users)
    files = []
    for entry in before.manifest.files:
        if entry.path.startswith("sequences/"):
            table = before.read_sequences(entry)
            rows = [domains[user] for user in table["user"].to_pylist()]
            table = table.append_column("domain", pa.array(rows, pa.list_(pa.int8())))
            entry = write_table(table, folder, entry.path, events=entry.events)
        files.append(entry)
    for name, values in (("brand", BRANDS), ("tags", ["red", "blue", 4])):
        table = pa.table(
            {
                "index": pa.array(range(4, 4 + len(values)), pa.int32()),
                "value": pa.array(map(str, values)),
                "count": pa.array([1] * len(values)),
            }
        )
        files.append(write_table(table, folder, f"vocabulary/{name}.parquet"))
    before.manifest.model_copy(update={"files": files, "domains": ["books", "games"]}).save(folder)
    return open_shards(folder)


def rank(shards: ShardFolder) -> Rankings:
    def scorer(data: SequenceData, targets: Targets) -> Scores:
        rows = data.row[targets.sequence][:, None] * 7 + targets.stop[:, None] * 5
        return RowScores(torch.from_numpy((rows + 3 * np.arange(ITEMS)) % 11))

    config = EvaluationConfig(exclude_seen=False, batch_size=7)
    return rank_split(ShardSource(shards), scorer, split="test", config=config)


def brand(item: int) -> list[str]:
    names = {1: "missing", 2: "unknown", 3: "unknown", 4: "acme", 5: "bolt"}
    return ["unknown item" if item < FIRST else names[BRAND_OF_ITEM[item - FIRST]]]


def price(item: int) -> list[str]:
    names = {1: "missing", 2: "below 15", 3: "15 to 50", 4: "from 50"}
    return ["unknown item" if item < FIRST else names[PRICE_RANGE[item - FIRST]]]


def seller(item: int) -> list[str]:
    number = PRICE_RANGE[item - FIRST]
    return ["unknown item" if item < FIRST else "missing" if number == 1 else f"hash {number - 2}"]


def tags(item: int) -> list[str]:
    if item < FIRST:
        return ["unknown item"]
    return sorted({TAG_NAMES[tag] for tag in TAGS[item - FIRST]}) or ["missing"]


def history(events: int) -> str:
    for first, last in ((1, 9), (10, 49), (50, 199), (200, 999)):
        if events <= last:
            return f"{first}-{last}"
    return "1000+"


def popularity(users: Sequence[User]) -> Callable[[int], str]:
    counts = dict.fromkeys(range(FIRST, FIRST + ITEMS), 0)
    for user in users:
        for item in user.item[: user.train_end]:
            if item >= FIRST:
                counts[item] += 1

    def bucket(item: int) -> str:
        if item < FIRST:
            return "unknown"
        if counts[item] == 0:
            return "untrained"
        more = sum(count for count in counts.values() if count > counts[item])
        return ("head", "middle", "tail")[int(3 * more / sum(counts.values()))]

    return bucket


def expected(users: Sequence[User], rankings: Rankings) -> dict[str, dict[str, dict[str, Any]]]:
    """Metrics of every slice, one target at a time."""
    bucket, domains = popularity(users), domains_of(users)
    found: dict[str, dict[str, dict[int, list[float]]]] = defaultdict(
        lambda: defaultdict(lambda: defaultdict(list))
    )
    for number, place, rank in zip(rankings.user, rankings.position, rankings.rank, strict=True):
        item, behavior = users[number].item[place], users[number].behavior[place]
        parts = {
            "behavior": [("view", "buy", "gift")[behavior - 1]],
            "domain": [("books", "games")[domains[number][place] - 1]],
            "popularity": [bucket(item)],
            "history": [history(place)],
            "brand": brand(item),
            "tags": tags(item),
            "price": price(item),
            "seller": seller(item),
        }
        for name, labels in parts.items():
            for label in labels:
                found[name][label][int(number)].append(float(rank))
    return {
        name: {
            label: {
                "targets": sum(map(len, own.values())),
                "users": len(own),
                "hr@3": np.mean([np.mean([rank <= 3 for rank in ranks]) for ranks in own.values()]),
                "mrr@3": np.mean(
                    [np.mean([1 / rank if rank <= 3 else 0 for rank in ranks]) for ranks in own.values()]
                ),
            }
            for label, own in labels.items()
        }
        for name, labels in found.items()
    }


ALL = ("behavior", "domain", "popularity", "history", "brand", "tags", "price", "seller")


@pytest.mark.parametrize("several", [False, True])
def test_slices_against_one_target_at_a_time(tmp_path: Path, several: bool) -> None:
    users = random_users(several)
    shards = complete(write_shards(tmp_path, users, world(several)), users)
    check_attributes(ALL, shards)
    rankings = rank(shards)
    assert several == (len(rankings.user) > len(np.unique(rankings.user)))
    found = break_down(rankings, ALL, shards, cutoffs=[3], resamples=0)
    slow = expected(users, rankings)
    assert list(found) == list(ALL)
    for name in ALL:
        assert len(found[name]) > 1
        assert set(found[name]) == set(slow[name]), name
        for label, record in found[name].items():
            chosen = {key: record[key] for key in ("targets", "users", "hr@3", "mrr@3")}
            assert chosen == pytest.approx(slow[name][label]), (name, label)
    assert list(found["popularity"]) == [name for name in POPULARITY if name in found["popularity"]]


def test_slices_of_one_value_a_target_make_up_the_whole(tmp_path: Path) -> None:
    users = random_users(several=False)
    shards = complete(write_shards(tmp_path, users, world(several=False)), users)
    rankings = rank(shards)
    total = ranking_metrics(rankings.rank, [3], rankings.user)
    names = [name for name in ALL if name != "tags"]
    for parts in break_down(rankings, names, shards, cutoffs=[3], resamples=0).values():
        assert sum(record["targets"] for record in parts.values()) == len(rankings.rank)
        for metric, mean in total.items():
            # Everyone has one target, so that a slice weighs what it has users.
            weighted = sum(record["users"] * record[metric] for record in parts.values())
            assert weighted / len(rankings.rank) == pytest.approx(mean)


def test_every_slice_has_its_intervals(tmp_path: Path) -> None:
    users = random_users(several=True)
    shards = complete(write_shards(tmp_path, users, world(several=True)), users)
    parts = break_down(rank(shards), ["behavior"], shards, cutoffs=[3], resamples=200)["behavior"]
    for record in parts.values():
        low, high = record["intervals"]["hr@3"]
        assert low < record["hr@3"] < high


def test_popularity_buckets_by_hand() -> None:
    def names(*counts: int) -> list[str]:
        return [POPULARITY[bucket] for bucket in popularity_buckets(np.array(counts))]

    assert names(1, 4, 2, 0, 2) == ["tail", "head", "middle", "untrained", "middle"]
    assert names(9, 1, 1) == ["head", "tail", "tail"]
    assert names(5, 5, 5) == ["head", "head", "head"]
    assert names(0, 0) == ["untrained", "untrained"]
    assert names() == []


def test_what_cannot_be_a_slice_is_named(tmp_path: Path) -> None:
    users = random_users(several=False)
    folder = write_shards(tmp_path, users, world(several=False))
    with pytest.raises(UserError, match="one domain"):
        check_attributes(["behavior", "domain"], open_shards(folder))
    for name in ("brnd", "weight"):
        with pytest.raises(UserError, match=f"cannot be broken down by '{name}'") as caught:
            check_attributes([name], open_shards(folder))
        assert ("brand" if name == "brnd" else "transform: buckets") in str(caught.value.fix)
