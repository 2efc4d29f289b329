"""Rankings with history logits, against one user and one item at a time."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from behavior.shards.folder import open_shards
from models.build import build_task
from models.config import RunConfig, load_config
from models.data.batch import PackedBatch
from models.data.loading import ShardSource
from models.distributed.processes import Processes
from models.distributed.tables import HeldItems, RowShards
from models.evaluation.config import EvaluationConfig
from models.evaluation.held_scores import HeldScores
from models.evaluation.ranking import evaluate_scorer
from models.evaluation.sparse import SparseMass
from models.serving.score import History, score_histories
from models.tasks.retrieval import RetrievalModel, model_scorer
from tests.models.distributed.threads import together
from tests.models.evaluation.evaluation_oracle import (
    FIRST,
    SPLITS,
    WORLD,
    basket_users,
    history_users,
    slow_metrics,
)
from tests.models.evaluation.test_scores import slow_rank
from tests.models.history import history_oracle as oracle
from tests.models.history.history_problems import switches
from tests.models.shards import User, write_shards

LENGTH = 4
ITEMS_OF_MASS = st.one_of(st.integers(0, 3), st.sampled_from([2**40, 2**62]))
SETTINGS = [
    "model.dim=8",
    "model.blocks=1",
    f"model.max_length={LENGTH}",
    "loss.history=learned",
    "loss.history_dim=3",
    "evaluation.cutoffs=[3]",
    "train.select_by=ndcg@3",
]
TARGETS = {"first": (2,), "basket": (2, 3)}


def model_of(config: RunConfig, shards: Path) -> RetrievalModel:
    """Of random weights, in which all terms have a say."""
    torch.manual_seed(0)
    model = build_task(config, open_shards(shards)).model.eval()
    assert isinstance(model, RetrievalModel)
    assert model.history is not None
    with torch.no_grad():
        for parameter in model.history.parameters():
            parameter.normal_()
    return model


def logits_of(
    model: RetrievalModel, config: RunConfig, user: User, stop: int, index: int, targets: tuple[int, ...]
) -> list[float]:
    """[known items] of the newest events before `stop`, from the formula: scores over the temperature, and
    the logit of each past event that is of the item."""
    window = slice(max(0, stop - LENGTH), stop)
    times = list(user.timestamp[window])
    known = [*times[1:], user.timestamp[index]]
    batch = PackedBatch.from_lists(
        [user.item[window]],
        behaviors=[user.behavior[window]],
        timestamps=[times],
        query_times=[known if config.model.time == "known" else times],
    )
    batch.target_behavior[-1] = user.behavior[index]
    history = model.history
    assert history is not None
    with torch.no_grad():
        outputs = model.outputs(batch)
        query = model.queries(outputs)[-1].double()
        items = model.embedding.item.weight[FIRST:].double()
        items = items / items.norm(dim=1, keepdim=True)
        odds = (items @ query / config.loss.temperature).exp()
        outputs = outputs / outputs.square().mean(1, keepdim=True).sqrt()
        asked = keys = None
        if history.query is not None and history.key is not None:
            known = outputs
            if config.loss.history_keys == "items":
                known = model.embedding.item.weight[batch.item]
                known = known / known.square().mean(1, keepdim=True).sqrt()
            asked, keys = history.query(outputs).double() / 3**0.5, history.key(known).double()
        columns = history.columns(batch)
        bought = torch.tensor([3 if b in targets else 1 for b in batch.behavior.tolist()])
        again, closed = switches(batch.item, bought, [0, len(times)], len(times))
        columns = replace(columns, again=again, closed=closed)
        for j, item in enumerate(batch.item.tolist()):
            if item >= FIRST:
                logit = oracle.logit(len(times) - 1, j, asked, keys, history.bias, columns)
                odds[item - FIRST] += (logit + (0.0 if history.item is None else history.item[item])).exp()
    return odds.log().tolist()


@pytest.mark.parametrize("time", ["known", "unknown"])
@pytest.mark.parametrize("exclude_seen", [True, False])
@pytest.mark.parametrize("protocol", ["first", "basket"])
@pytest.mark.parametrize(
    ("terms", "keys"),
    [
        ("null", "outputs"),
        ("null", "items"),
        ("[product, item, recency]", "items"),
        ("[item]", "outputs"),
        ("[]", "outputs"),
    ],
)
def test_ranks_are_those_of_the_formula(
    terms: str, keys: str, protocol: str, exclude_seen: bool, time: str, tmp_path: Path
) -> None:
    """Of unknown items in the history, histories longer than the window, and baskets."""
    world, users = WORLD, history_users()
    if protocol == "basket":
        world = replace(
            WORLD, behaviors=("view", "buy", "gift"), targets=("buy", "gift"), split=SPLITS["basket"]
        )
        users = basket_users()
    shards = write_shards(tmp_path, users, world)
    changes = [f"model.time={time}", f"loss.history_terms={terms}", f"loss.history_keys={keys}"]
    config = load_config("default", changes, shared=SETTINGS)
    model = model_of(config, shards)

    @cache
    def logits(number: int, stop: int, index: int) -> list[float]:
        return logits_of(model, config, users[number], stop, index, TARGETS[protocol])

    def score(number: int, stop: int, index: int, item: int) -> float:
        return round(logits(number, stop, index)[item - FIRST], 4)

    evaluation = EvaluationConfig(cutoffs=[3], exclude_seen=exclude_seen, batch_size=5)
    scorer = model_scorer(model, config.model)
    for split in ("valid", "test"):
        found = evaluate_scorer(ShardSource(open_shards(shards)), scorer, split=split, config=evaluation)  # type: ignore[arg-type]
        expected = slow_metrics(users, split, score, exclude_seen, protocol, TARGETS[protocol])
        assert {name: found[name] for name in expected} == pytest.approx(expected)


def test_a_served_model_scores_alike(tmp_path: Path) -> None:
    user = history_users()[0]
    shards = write_shards(tmp_path, history_users(), WORLD)
    config = load_config("default", SETTINGS)
    model = model_of(config, shards)
    stop = len(user.item) - 1
    history = History(
        user.item[:stop],
        user.behavior[:stop],
        user.timestamp[:stop],
        user.behavior[stop],
        user.timestamp[stop],
    )
    (found,) = score_histories(model, config, open_shards(shards), [history])
    assert found.tolist() == pytest.approx(logits_of(model, config, user, stop, stop, (2,)), abs=1e-4)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_mass_of_pairs_in_any_order_and_of_any_process(data: st.DataObject) -> None:
    """Pairs that repeat are added up; each process has queries of its own, and adds to the items it holds."""
    count, num_items, first = (data.draw(st.integers(1, most)) for most in (3, 7, 3))
    value, cells = st.integers(-2, 2), data.draw(st.integers(1, 40))
    vectors = torch.tensor([[data.draw(value)] for _ in range(num_items)], dtype=torch.float32)
    processes = []
    for _ in range(count):
        rows = data.draw(st.integers(1, 3))
        pair = st.tuples(st.integers(0, rows - 1), st.integers(0, num_items - 1), value)
        pairs = data.draw(st.lists(pair, max_size=9))
        target = data.draw(st.lists(st.integers(-1, num_items - 1), min_size=rows, max_size=rows))
        queries = [[data.draw(value)] for _ in range(rows)]
        processes.append((queries, pairs, target))

    def work(here: Processes) -> list[float]:
        shards = RowShards(first + num_items, here.rank, here.count)
        held = HeldItems(here, shards, first)
        own = shards.held(first, torch.device("cpu")) - first
        queries, pairs, target = processes[here.rank]
        rows, items, mass = (np.array([pair[n] for pair in pairs], np.int64) for n in range(3))
        sparse = SparseMass.summed(rows, items, torch.from_numpy(mass).float())
        query = torch.tensor(queries, dtype=torch.float32)
        scores = HeldScores(query, held.filled(vectors[own]), held, sparse)
        return scores.rank(np.arange(len(target)), np.array(target), num_items, cells=cells).tolist()

    for found, (queries, pairs, target) in zip(together(count, work), processes, strict=True):
        for row, (rank, item) in enumerate(zip(found, target, strict=True)):
            odds = (torch.tensor(queries[row]).double() * vectors[:, 0].double()).exp()
            for other, place, mass in pairs:
                odds[place] += np.exp(mass) * (other == row)
            assert rank == slow_rank([round(one, 5) for one in odds.log().tolist()], item, set())


@given(st.lists(st.tuples(st.integers(0, 5), ITEMS_OF_MASS, st.sampled_from([-1.0, 0.0, 2.0])), max_size=20))
def test_mass_is_summed_by_item_and_row_however_large_their_numbers(pairs: list[Any]) -> None:
    odds: dict[tuple[int, int], float] = {}
    for row, item, mass in pairs:
        odds[item, row] = odds.get((item, row), 0.0) + math.exp(mass)
    rows, items, mass = (np.array([pair[n] for pair in pairs]) for n in range(3))
    found = SparseMass.summed(rows.astype(np.int64), items.astype(np.int64), torch.from_numpy(mass))
    assert list(zip(found.items.tolist(), found.rows.tolist(), strict=True)) == sorted(odds)
    expected = torch.tensor([odds[pair] for pair in sorted(odds)]).log()
    torch.testing.assert_close(found.mass, expected)


def test_several_kinds_of_mass_add_up_and_none_adds_nothing() -> None:
    rows, items = np.array([1, 0, 1]), np.array([2, 0, 2])
    one = SparseMass.summed(rows, items, torch.tensor([1.0, 0.0, float("-inf")]))
    assert (one.rows.tolist(), one.items.tolist(), one.mass.tolist()) == ([0, 1], [0, 2], [0.0, 1.0])
    both = SparseMass.joined([one, SparseMass.summed(rows[:1], items[:1], torch.tensor([1.0])), one])
    scores = both.add_to(torch.zeros(2, 3), 0, 3)
    expected = torch.tensor([[3.0, 1.0, 1.0], [1.0, 1.0, 1.0 + 3 * np.e]]).log()
    torch.testing.assert_close(scores, expected)
    none = SparseMass.summed(rows, items, torch.full((3,), float("-inf")))
    assert torch.equal(none.add_to(torch.ones(2, 3), 0, 3), torch.ones(2, 3))
