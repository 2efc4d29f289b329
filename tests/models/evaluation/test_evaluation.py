"""The ranking protocol and trained runs, against one user, one item at a time."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from behavior.errors import UserError
from behavior.shards.folder import open_shards
from models.config import RunConfig, load_config
from models.data.batch import PackedBatch
from models.data.catalog import ItemCatalog
from models.data.loading import ShardSource
from models.data.sequences import SequenceData
from models.evaluate_run import evaluate, judge_run
from models.evaluation.config import EvaluationConfig
from models.evaluation.judged import judged_sequences
from models.evaluation.ranking import evaluate_scorer
from models.evaluation.scores import RowScores, Scores
from models.evaluation.targets import Targets, find_targets
from models.runs.checkpoint import load_checkpoint
from models.serving.load import load_model
from models.tasks.retrieval import build_model, model_scorer
from models.training import train
from tests.models.shards import User, World, load, write_shards

FIRST, ITEMS = 2, 6
WORLD = World(num_items=ITEMS, behaviors=("view", "buy"), targets=("buy",))
INSTANTS = {"valid_at": 0, "test_at": 0}  # the tests cut by hand
SPLITS: dict[str, dict[str, Any]] = {
    "first": {"kind": "leave_one_out"},
    "all": {"kind": "temporal", "targets": "all", **INSTANTS},
    "basket": {"kind": "next_basket"},
    "basket, first": {"kind": "next_basket", "targets": "first"},
}
BUYS = (2,)  # ids of the target behaviors


def expected_targets(user: User, split: str, protocol: str, buys: tuple[int, ...]) -> list[tuple[int, int]]:
    """Where the history of each bought item of the split's part ends, and the item's place."""
    cut, end = (user.train_end, user.valid_end) if split == "valid" else (user.valid_end, len(user.item))
    bought = [i for i in range(cut, end) if user.behavior[i] in buys]
    if protocol.startswith("basket"):
        bought = [i for i in bought if user.timestamp[i] == user.timestamp[cut]]
    if protocol in ("first", "basket, first"):
        bought = bought[:1]
    if protocol == "last":
        bought = bought[-1:]
    return [(cut if protocol.startswith("basket") else i, i) for i in bought]


def slow_rank(user: User, stop: int, index: int, score: Callable[[int], float], seen: set[int]) -> float:
    """The rank of one target, its rivals one at a time; infinite for a miss."""
    target = user.item[index]
    if target < FIRST or target in seen:
        return math.inf
    rivals = [item for item in range(FIRST, FIRST + ITEMS) if item not in seen and item != target]
    return 1 + sum(score(item) >= score(target) for item in rivals)


def slow_metrics(
    users: list[User],
    split: str,
    score: Callable[[int, int, int, int], float],
    exclude_seen: bool,
    protocol: str = "first",
    buys: tuple[int, ...] = BUYS,
) -> dict[str, Any]:
    """`score(user number, end of the history, target index, item)`; one target at a time."""
    ranks: list[list[float]] = []  # of each evaluated user
    counts = Counter(oov_targets=0, excluded_targets=0, users_without_history=0, targets_without_history=0)
    for number, user in enumerate(users):
        targets = expected_targets(user, split, protocol, buys)
        ranks.append([])
        for stop, index in targets:
            if stop == 0:
                counts["targets_without_history"] += 1
                continue
            bought = {user.item[i] for i in range(stop) if user.behavior[i] in buys}
            seen = bought if exclude_seen else set()
            ranks[-1].append(slow_rank(user, stop, index, partial(score, number, stop, index), seen))
            counts["oov_targets"] += user.item[index] < FIRST
            counts["excluded_targets"] += FIRST <= user.item[index] in seen
        counts["users_without_history"] += bool(targets) and not ranks[-1]
    evaluated = [own for own in ranks if own]
    gains = {
        "hr@3": lambda rank: 1.0,
        "ndcg@3": lambda rank: 1 / math.log2(1 + rank),
        "mrr@3": lambda rank: 1 / rank,
    }
    means = {
        name: [sum(gain(rank) for rank in own if rank <= 3) / len(own) for own in evaluated]
        for name, gain in gains.items()
    }
    return {
        **{name: sum(values) / len(values) for name, values in means.items() if values},
        "users": len(evaluated),
        "targets": sum(len(own) for own in evaluated),
        **counts,
    }


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


def history_users() -> list[User]:
    """Histories longer than the model's window, in which early items come back as targets."""
    generator = np.random.default_rng(0)
    users = []
    for _ in range(12):
        length = int(generator.integers(5, 14))
        users.append(
            User(
                item=generator.integers(1, FIRST + ITEMS, length).tolist(),
                train_end=length - 2,
                valid_end=length - 1,
                behavior=[*generator.integers(1, 3, length - 2).tolist(), 2, 2],
                timestamp=np.sort(generator.integers(0, 10**6, length)).tolist(),
            )
        )
    return users


def basket_users() -> list[User]:
    """Histories longer than the model's window, then two baskets of views and of two kinds of buys."""
    generator = np.random.default_rng(1)
    users = []
    for _ in range(10):
        before, *sizes = (int(size) for size in generator.integers([3, 2, 2], [9, 5, 5]))
        times = np.sort(generator.integers(0, 10**6, before)).tolist()
        behaviors = generator.integers(1, 4, before).tolist()
        for size in sizes:
            times += [times[-1] + int(generator.integers(1, 10**5))] * size
            behaviors += [*generator.integers(1, 4, size - 1).tolist(), 2]
        length = before + sum(sizes)
        items = generator.integers(1, FIRST + ITEMS, length).tolist()
        users.append(User(items, before, before + sizes[0], behaviors, times))
    return users


SETTINGS = [
    "model.dim=8",
    "model.blocks=1",
    "model.max_length=4",
    "embedding.behaviors=add",
    "train.epochs=2",
    "train.batch_sequences=5",
    "train.device=cpu",
    "evaluation.cutoffs=[3]",
    "train.select_by=ndcg@3",
]


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shards(tmp_path_factory.mktemp("data"), history_users(), WORLD)


@pytest.mark.parametrize("kind", ["hstu", "sasrec"])
@pytest.mark.parametrize("time", ["known", "unknown"])
def test_a_run_against_one_user_at_a_time(shards: Path, tmp_path: Path, kind: str, time: str) -> None:
    """The history is cut to the newest N; seen items are those of all of it; a known time is the target's."""
    config = load_config("default", [*SETTINGS, f"model.kind={kind}", f"model.time={time}"])
    check_run(config, shards, tmp_path / "run", history_users(), "first", BUYS)


@pytest.mark.parametrize("time", ["known", "unknown"])
@pytest.mark.parametrize("protocol", ["all", "basket"])
def test_a_run_with_several_targets_a_user(tmp_path: Path, protocol: str, time: str) -> None:
    """Each is asked for by its own behavior and time; in a basket, after the last event before it."""
    world = World(
        num_items=ITEMS, behaviors=("view", "buy", "gift"), targets=("buy", "gift"), split=SPLITS[protocol]
    )
    users = basket_users()
    shards = write_shards(tmp_path / "data", users, world)
    config = load_config("default", [*SETTINGS, f"model.time={time}", "embedding.query_behavior=add"])
    check_run(config, shards, tmp_path / "run", users, protocol, (2, 3))


def check_run(
    config: RunConfig,
    shards: Path,
    run: Path,
    users: list[User],
    protocol: str,
    buys: tuple[int, ...],
    inputs: tuple[int, ...] = (1, 2, 3),
) -> None:
    """Train, and compare validation and evaluation with the model asked for one target after the other.

    Events of other behaviors than `inputs` are no part of a history; without any others all items score 0.
    """
    train(config, shards, run)
    folder = open_shards(shards)
    behaviors = len(folder.manifest.behaviors)
    model = build_model(
        config, ItemCatalog.from_shards(folder), num_behaviors=behaviors, has_time=True
    ).eval()
    best = load_checkpoint(run / "checkpoints" / "best.safetensors")
    model.load_state_dict(best.model)

    @cache
    def query(number: int, stop: int, index: int) -> torch.Tensor:
        user = users[number]
        window = [event for event in range(stop) if user.behavior[event] in inputs][-4:]
        if not window:
            return torch.zeros(0)
        times = [user.timestamp[event] for event in window]
        known = [*times[1:], user.timestamp[index]]
        batch = PackedBatch.from_lists(
            [[user.item[event] for event in window]],
            behaviors=[[user.behavior[event] for event in window]],
            timestamps=[times],
            query_times=[known if config.model.time == "known" else times],
        )
        batch.target_behavior[-1] = user.behavior[index]
        with torch.no_grad():
            return model(batch)[-1].double()

    def score(number: int, stop: int, index: int, item: int) -> float:
        if not len(query(number, stop, index)):
            return 0.0
        asked, vector = query(number, stop, index), model.embedding.item.weight[item].detach().double()
        return round(float(asked @ vector / asked.norm() / vector.norm()), 6)

    for split in ("valid", "test"):
        for exclude_seen in (True, False):
            found = evaluate(run, split, exclude_seen=exclude_seen, device="cpu")
            expected = slow_metrics(users, split, score, exclude_seen, protocol, buys)
            assert {name: found[name] for name in expected} == pytest.approx(expected)
            assert found["time"] == config.model.time
            assert protocol == "first" or found["targets"] > found["users"]
    assert evaluate(run, "valid", device="cpu")["ndcg@3"] == pytest.approx(best.progress["metrics"]["ndcg@3"])


def test_scoring_leaves_the_model_as_it_was(shards: Path) -> None:
    config = load_config("default", SETTINGS)
    folder = open_shards(shards)
    data = load(shards)
    model = build_model(config, ItemCatalog.from_shards(folder), num_behaviors=2, has_time=True)
    targets = find_targets(data, "test")
    state = torch.get_rng_state()
    scorer = model_scorer(model.train(), config.model)
    first, second = (scorer(data, targets).columns(0, ITEMS) for _ in range(2))
    assert torch.equal(first, second)
    assert model.training
    assert torch.equal(torch.get_rng_state(), state)


def test_item_vectors_are_made_once_an_evaluation(shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = load_config("default", SETTINGS)
    catalog = ItemCatalog.from_shards(open_shards(shards))
    model = build_model(config, catalog, num_behaviors=2, has_time=True)
    made = []
    monkeypatch.setattr(model, "item_vectors", lambda make=model.item_vectors: made.append(make()) or made[0])
    settings = EvaluationConfig(batch_size=1)
    scorer = model_scorer(model, config.model)
    metrics = evaluate_scorer([load(shards)], scorer, split="test", config=settings)
    assert metrics["targets"] > len(made) == 1


def test_settings_of_the_run_can_be_replaced_and_what_cannot_be_done_is_told(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(load_config("default", [*SETTINGS, "train.epochs=1"]), shards, tmp_path / "run")
    found = judge_run(tmp_path / "run", device="cpu", cutoffs=[2], by=["behavior"], exclude_seen=None)
    assert {"hr@2", "breakdown"} <= set(report := found.report())
    assert "hr@3" not in report
    assert found.config.batch_size == EvaluationConfig().batch_size
    with pytest.raises(UserError, match="bootstrap"):
        judge_run(tmp_path / "run", device="cpu", bootstrap=-1)
    with pytest.raises(UserError, match="cannot be broken down by 'color'"):
        judge_run(tmp_path / "run", device="cpu", by=["color"])

    def too_large(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("models.tasks.retrieval.evaluator.rank_split", too_large)
    with pytest.raises(UserError, match="parameters and the scores do not fit on the GPU"):
        judge_run(tmp_path / "run", device="cpu")


def test_a_run_is_judged_on_its_own_data_only(shards: Path, tmp_path: Path) -> None:
    config = load_config("default", [*SETTINGS, "train.epochs=1"])
    train(config, shards, tmp_path / "run")
    moved = write_shards(tmp_path / "moved", history_users(), WORLD)
    assert evaluate(tmp_path / "run", data=moved, device="cpu") == evaluate(tmp_path / "run", device="cpu")
    other = write_shards(tmp_path / "other", history_users()[:-1], WORLD)
    with pytest.raises(UserError, match="trained on another data set: digest"):
        evaluate(tmp_path / "run", data=other, device="cpu")


def test_what_is_no_run_cannot_be_judged(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not a training run"):
        evaluate(tmp_path)


def test_the_log_loss_is_that_of_a_softmax_over_all_known_items(tmp_path: Path) -> None:
    """Target by target, from the model's queries and item vectors, at the temperature of the loss."""
    users = [
        User([2, 3, 4, 5, 2], 3, 4),
        User([4, 5, 6, 1, 7], 3, 4),  # the validation target is no known item
        User([7, 6, 2, 3], 2, 3),
        User([5, 4, 3, 2, 7, 6], 4, 5),
    ]
    data = write_shards(tmp_path / "data", users, World(num_items=ITEMS))
    named = ["model.dim=8", "train.epochs=1", "train.device=cpu", "evaluation.log_loss=true"]
    config = load_config("default", [*named, "evaluation.batch_size=2", "loss.temperature=0.3"])
    train(config, data, tmp_path / "run")
    found = evaluate(tmp_path / "run", "valid", device="cpu")
    model = load_model(tmp_path / "run", device="cpu").module
    vectors, losses = model.item_vectors().detach().double(), []
    for user in users:
        target = user.item[user.train_end] - FIRST
        if target < 0:
            continue
        times = list(range(0, 60 * len(user.item), 60))
        cut = user.train_end
        batch = PackedBatch.from_lists(
            [user.item[:cut]], timestamps=[times[:cut]], query_times=[times[1 : cut + 1]]
        )
        with torch.no_grad():
            logits = vectors @ model.eval()(batch)[-1].double() / 0.3
        losses.append(math.log(sum(math.exp(x) for x in logits.tolist())) - logits[target].item())
    assert found["log_loss_targets"] == len(losses) == 3
    assert found["log_loss"] == pytest.approx(sum(losses) / len(losses), rel=1e-5)
