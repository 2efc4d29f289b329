"""Rankings by several processes, of which each has a share of the targets, or of the items as well."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from behavior.shards.folder import open_shards
from models.data.loading import ShardSource
from models.data.sequences import SequenceData
from models.distributed.processes import Processes
from models.distributed.tables import HeldItems, RowShards
from models.evaluation.config import EvaluationConfig
from models.evaluation.held_scores import HeldScores
from models.evaluation.ranking import rank_split
from models.evaluation.rankings import Rankings
from models.evaluation.scores import ProductScores
from models.evaluation.targets import Targets
from tests.models.distributed.threads import together
from tests.models.evaluation.evaluation_oracle import FIRST, ITEMS, SPLITS, WORLD, basket_users
from tests.models.evaluation.test_scores import slow_rank
from tests.models.shards import World, leave_one_out, write_shards

DIM = 3


def divided(processes: Processes, query: torch.Tensor, vectors: torch.Tensor, first: int) -> HeldScores:
    """Scores where each process takes its items out of a whole list of vectors."""
    shards = RowShards(first + len(vectors), processes.rank, processes.count)
    own = shards.held(first, torch.device("cpu")) - first
    held = HeldItems(processes, shards, first)
    return HeldScores(query, held.filled(vectors[own]), held)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_ranks_against_a_loop(data: st.DataObject) -> None:
    """Products of small whole numbers, which are exact and tie; some are infinite or not a number."""
    count, items, first = (data.draw(st.integers(1, most)) for most in (4, 9, 3))
    cells = data.draw(st.integers(1, 60))
    value = st.integers(-1, 1)
    vectors = [data.draw(st.lists(value, min_size=DIM, max_size=DIM)) for _ in range(items)]
    queries, questions, targets, pairs = [], [], [], []
    for _ in range(count):
        asked = data.draw(st.lists(st.lists(value, min_size=DIM, max_size=DIM), max_size=3))
        number = st.integers(0, len(asked) - 1)
        queries.append([[float(one) for one in row] for row in asked])
        if asked and data.draw(st.booleans()):
            queries[-1][0][0] = data.draw(st.sampled_from([float("inf"), float("nan")]))
        questions.append(data.draw(st.lists(number, max_size=4)) if asked else [])
        rows = len(questions[-1])
        targets.append(data.draw(st.lists(st.integers(-2, items - 1), min_size=rows, max_size=rows)))
        pair = st.tuples(st.integers(0, rows - 1), st.integers(0, items - 1))
        pairs.append(data.draw(st.lists(pair, max_size=8)) if rows else [])

    def work(processes: Processes) -> list[float]:
        rank = processes.rank
        query = torch.tensor(queries[rank], dtype=torch.float32).reshape(-1, DIM)
        scores = divided(processes, query, torch.tensor(vectors, dtype=torch.float32), first)
        out = np.array(pairs[rank], np.int64).reshape(-1, 2)
        question, target = (np.array(each[rank], np.int64) for each in (questions, targets))
        return scores.rank(question, target, items, (out[:, 0], out[:, 1]), cells=cells).tolist()

    for rank, found in enumerate(together(count, work)):
        for row, (question, target) in enumerate(zip(questions[rank], targets[rank], strict=True)):
            asked = np.array(queries[rank][question], np.float32)
            with np.errstate(invalid="ignore"):
                products = [float((asked * np.array(vector, np.float32)).sum()) for vector in vectors]
            excluded = {item for other, item in pairs[rank] if other == row}
            assert found[row] == slow_rank(products, target, excluded)


@pytest.mark.parametrize("cells", [64, 10_000])
@pytest.mark.parametrize("items", [1, 33, 3706])
def test_copies_of_an_item_tie_whoever_holds_them(items: int, cells: int) -> None:
    """Also where products are rounded."""
    torch.manual_seed(0)
    vectors, queries = torch.randn(50).expand(items, -1), torch.randn(2, 3, 50)
    target = np.linspace(0, items - 1, 3, dtype=np.int64)

    def work(processes: Processes) -> torch.Tensor:
        scores = divided(processes, queries[processes.rank], vectors, 2)
        return scores.rank(np.arange(3), target, items, cells=cells)

    assert [ranks.tolist() for ranks in together(2, work)] == [[float(items)] * 3] * 2


def rank_together(
    source: ShardSource, count: int, scorer: Callable[[Processes], Callable], config: EvaluationConfig
) -> list[Rankings]:
    def work(processes: Processes) -> Rankings:
        return rank_split(source, scorer(processes), split="test", config=config, processes=processes)

    return together(count, work)


def check_same(found: Rankings, wanted: Rankings) -> None:
    for name in ("user", "position", "history", "item", "behavior", "rank"):
        assert np.array_equal(getattr(found, name), getattr(wanted, name)), name
    assert found.summary([1, 3]) == wanted.summary([1, 3])


@pytest.mark.parametrize("count", [2, 3, 5])
@pytest.mark.parametrize("batch_size", [1, 2, 100])
@pytest.mark.parametrize("protocol", ["first", "all", "basket"])
def test_targets_and_items_are_divided_and_rankings_are_those_of_one_process(
    count: int, batch_size: int, protocol: str, tmp_path: Path
) -> None:
    """Of several parts and baskets; each process is asked for its share of the targets and no other."""
    world = replace(WORLD, behaviors=("view", "buy", "gift"), split=SPLITS[protocol], files=2)
    source = ShardSource(open_shards(write_shards(tmp_path, basket_users(), world)))
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randint(-2, 3, (ITEMS, DIM), generator=generator).float()
    config = EvaluationConfig(cutoffs=[1, 3], batch_size=batch_size)

    def query(data: SequenceData, targets: Targets) -> torch.Tensor:
        numbers = torch.from_numpy(7 * data.row[targets.sequence] + targets.stop)
        return torch.stack([numbers % 3 - 1, numbers % 5 - 2, numbers % 2], dim=1).float()

    asked: list[tuple[int, int]] = []

    def whole(_: Processes) -> Callable:
        def score(data: SequenceData, targets: Targets) -> ProductScores:
            asked.extend(zip(data.row[targets.sequence].tolist(), targets.stop.tolist(), strict=True))
            return ProductScores(query(data, targets), vectors)

        return score

    def by_items(processes: Processes) -> Callable:
        return lambda data, targets: divided(processes, query(data, targets), vectors, FIRST)

    alone = rank_split(source, whole(None), split="test", config=config)  # type: ignore[arg-type]
    assert len(alone.rank) > 3
    once = len(asked)
    for scorer in (whole, by_items):
        asked.clear()
        for found in rank_together(source, count, scorer, config):
            check_same(found, alone)
        if protocol == "first" and scorer is whole:
            assert len(asked) == len(set(asked)) == once


def test_a_part_without_targets_and_fewer_targets_than_processes(tmp_path: Path) -> None:
    users = leave_one_out([2, 3, 4], [3, 4, 2])
    users.append(replace(users[0], train_end=3, valid_end=3))
    source = ShardSource(open_shards(write_shards(tmp_path, users, World(num_items=3, files=3))))
    vectors = torch.eye(3)
    config = EvaluationConfig(cutoffs=[1, 3], exclude_seen=False)

    def by_items(processes: Processes) -> Callable:
        return lambda _, targets: divided(processes, torch.ones(len(targets), 3), vectors, FIRST)

    for found in rank_together(source, 3, by_items, config):
        assert found.rank.tolist() == [3.0, 3.0]
