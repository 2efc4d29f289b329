"""The ranking protocol, against one candidate at a time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from behavior.errors import UserError
from behavior.shards.folder import open_shards
from models.data.loading import ShardSource
from models.data.sequences import SequenceData
from models.evaluation.config import EvaluationConfig
from models.evaluation.judged import judged_sequences
from models.evaluation.ranking import evaluate_scorer
from models.evaluation.scores import RowScores, Scores
from models.evaluation.targets import Targets, find_targets
from tests.models.evaluation.evaluation_oracle import (
    BUYS,
    FIRST,
    ITEMS,
    SPLITS,
    WORLD,
    slow_metrics,
)
from tests.models.shards import User, World, load, write_shards


@st.composite
def user(draw: st.DrawFn) -> User:
    """Any events, cut anywhere."""
    length = draw(st.integers(1, 8))
    valid_end = draw(st.integers(0, length))
    return User(
        item=draw(st.lists(st.integers(1, FIRST + ITEMS - 1), min_size=length, max_size=length)),
        train_end=draw(st.integers(0, valid_end)),
        valid_end=valid_end,
        behavior=draw(st.lists(st.integers(1, 2), min_size=length, max_size=length)),
    )


@st.composite
def basket_user(draw: st.DrawFn) -> User:
    """Any events of few time stamps, cut before the last two baskets with a buy."""
    events = draw(
        st.lists(
            st.tuples(st.integers(0, 3), st.integers(1, FIRST + ITEMS - 1), st.integers(1, 2)),
            min_size=1,
            max_size=10,
        )
    )
    times, items, behaviors = zip(*sorted(events, key=lambda event: event[0]), strict=True)
    stamps = sorted({time for time, behavior in zip(times, behaviors, strict=True) if behavior == 2})
    cuts = [times.index(stamp) for stamp in stamps[-2:]] if len(stamps) >= 2 else [len(times)] * 2
    return User(items, cuts[0], cuts[1], behaviors, times)


@pytest.fixture(scope="session")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("evaluation")


@settings(max_examples=120, deadline=None)
@given(
    data=st.data(),
    protocol=st.sampled_from(list(SPLITS)),
    split=st.sampled_from(["valid", "test"]),
    exclude_seen=st.booleans(),
    batch_size=st.integers(1, 4),
    behavior=st.sampled_from([None, "view", "buy"]),
)
def test_protocol_against_one_candidate_at_a_time(
    scratch: Path,
    data: st.DataObject,
    protocol: str,
    split: Any,
    exclude_seen: bool,
    batch_size: int,
    behavior: str | None,
) -> None:
    """Unknown items, repeats, ties, several behaviors, users without target or history: all counted alike.

    Of one behavior that is evaluated whatever the targets are, each user's last event is left out.
    """
    kind = basket_user() if protocol.startswith("basket") else user()
    users = data.draw(st.lists(kind, min_size=1, max_size=8))
    world = replace(WORLD, split=SPLITS[protocol], files=min(2, len(users)))
    source = ShardSource(open_shards(write_shards(scratch / "data", users, world)))

    def score(number: int, stop: int, index: int, item: int) -> float:
        return float((7 * number + 3 * stop + 5 * item) % 4)  # few values: many ties

    def scorer(part: SequenceData, targets: Targets) -> Scores:
        stops = targets.stop - part.offsets[targets.sequence]
        assert stops.min() > 0
        rows = [
            [score(number, stop, 0, item) for item in range(FIRST, FIRST + ITEMS)]
            for number, stop in zip(part.row[targets.sequence], stops, strict=True)
        ]
        return RowScores(torch.tensor(rows))

    config = EvaluationConfig(cutoffs=[3], exclude_seen=exclude_seen, batch_size=batch_size)
    judged = judged_sequences(source, behavior)
    metrics = evaluate_scorer(judged, scorer, split=split, config=config)
    buys = BUYS if behavior is None else (1 + WORLD.behaviors.index(behavior),)
    protocol = "last" if behavior and protocol == "first" else protocol
    expected = slow_metrics(users, split, score, exclude_seen, protocol, buys)
    assert {name: metrics[name] for name in expected} == pytest.approx(expected)
    assert ("hr@3" in metrics) == bool(metrics["users"])
    assert (metrics["split"], metrics["exclude_seen"], metrics["candidates"]) == (split, exclude_seen, ITEMS)
    if protocol == "first":
        assert metrics["targets"] == metrics["users"]


def test_a_basket_by_hand(tmp_path: Path) -> None:
    """Two users count alike; a basket's items are rivals, and asked for once; a third has no basket."""
    users = [
        # In the last basket 3, 4 and 2 were bought, 7 only viewed, 6 later viewed; 2 was bought before.
        User([2, 5, 7, 3, 4, 2, 6], 1, 2, behavior=[2, 2, 1, 2, 2, 2, 1], timestamp=[1, 2, 9, 9, 9, 9, 10]),
        User([2, 3, 5], 1, 2, behavior=[2, 2, 2], timestamp=[1, 2, 3]),
        User([2, 3], 2, 2, behavior=[2, 2], timestamp=[1, 1]),
    ]
    world = replace(WORLD, split={"kind": "next_basket"})
    data = load(write_shards(tmp_path, users, world))
    asked: list[tuple[int, int]] = []

    def scorer(_: SequenceData, targets: Targets) -> Scores:
        asked.extend(zip(targets.sequence.tolist(), targets.stop.tolist(), strict=True))
        # Items 2, 3, ...
        return RowScores(torch.tensor([[9.0, 8.0, 7.0, 6.0, 5.0, 4.0]]).expand(len(targets), -1))

    def mrr(exclude_seen: bool) -> float:
        asked.clear()
        config = EvaluationConfig(cutoffs=[3], exclude_seen=exclude_seen)
        metrics = evaluate_scorer([data], scorer, split="test", config=config)
        assert asked == [(0, 2), (1, 9)]
        assert (metrics["users"], metrics["targets"], metrics["excluded_targets"]) == (
            2,
            4,
            int(exclude_seen),
        )
        return metrics["mrr@3"]

    # Ranks 2, 3 and 1 of the first user, 4 of the second.
    assert mrr(exclude_seen=False) == pytest.approx(((1 / 2 + 1 / 3 + 1) / 3 + 0) / 2)
    # Without 2 and 5 for the first, 2 and 3 for the second: ranks 1, 2 and a miss; 2.
    assert mrr(exclude_seen=True) == pytest.approx(((1 + 1 / 2 + 0) / 3 + 1 / 2) / 2)


def test_baskets_are_told_apart_by_whole_time_stamps(tmp_path: Path) -> None:
    """Not by the seconds that models see: 2000 and 2001 ms are two baskets, and make a user's two parts."""
    users = [User([2, 3, 4], 1, 2, behavior=[2, 2, 2], timestamp=[1000, 2000, 2001])]
    world = replace(WORLD, timestamp_unit="ms", split={"kind": "next_basket"})
    data = load(write_shards(tmp_path, users, world))
    for split, event in (("valid", 1), ("test", 2)):
        targets = find_targets(data, split)  # type: ignore[arg-type]
        assert (targets.stop.tolist(), targets.event.tolist()) == ([event], [event])


def test_an_unknown_split_is_an_error(tmp_path: Path) -> None:
    data = load(write_shards(tmp_path, [User([2, 3], 1, 1)], World(num_items=2)))
    with pytest.raises(UserError, match="no split 'train'"):
        find_targets(data, "train")  # type: ignore[arg-type]
