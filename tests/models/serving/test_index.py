"""Top items by an index: exact where it searches all of its clusters, and right scores where it does not."""

from __future__ import annotations

import dataclasses
import importlib
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from behavior.errors import UserError
from models import load_model
from models.distributed.tables import HeldItems
from models.evaluation.held_scores import HeldScores
from models.evaluation.sparse import SparseMass
from models.serving.load import TrainedModel
from models.serving.recommend.index import ItemIndex
from models.serving.recommend.indexed import indexed_top_items, recall
from models.serving.recommend.top import NONE
from tests.models.serving.recommend_world import prepare, run_on

ITEMS, DIM = 400, 6


class Vectors:
    """As much of a model as an index is built of."""

    trends = jumps = jump_share = None
    training = False

    def __init__(self, items: Tensor) -> None:
        self.items = items
        self.held_items = HeldItems.whole(len(items))

    def eval(self) -> None: ...

    def train(self, mode: bool) -> None: ...

    def item_vectors(self) -> Tensor:
        return self.items


def index_of(items: Tensor, probed: int | None = None) -> ItemIndex:
    return ItemIndex.build(Vectors(items), probed)  # type: ignore[arg-type]


def scores_of(query: Tensor, items: Tensor, mass: SparseMass | None = None) -> HeldScores:
    return HeldScores(query, items, HeldItems.whole(len(items)), mass)


def by_hand(
    query: Tensor,
    items: Tensor,
    mass: dict[tuple[int, int], float],
    left_out: set[tuple[int, int]],
    allowed: np.ndarray,
    k: int,
) -> tuple[list[list[int]], list[list[float]]]:
    """In float64, item by item."""
    found, values = [], []
    for row, vector in enumerate(query.double()):
        logits = {}
        for item in range(len(items)):
            if not allowed[item] or (row, item) in left_out:
                continue
            logits[item] = float((vector * items[item].double()).sum())
            if (row, item) in mass:
                logits[item] = float(np.logaddexp(logits[item], mass[row, item]))
        order = sorted(logits, key=lambda item: (-logits[item], item))[:k]
        found.append(order + [NONE] * (k - len(order)))
        values.append([logits[item] for item in order] + [float("-inf")] * (k - len(order)))
    return found, values


@pytest.mark.parametrize("seed", range(4))
def test_all_clusters_searched_is_exact(seed: int) -> None:
    """Mass, what is left out, what is allowed, and vectors that stand several times; whatever `cells`."""
    draw = np.random.default_rng(seed)
    torch.manual_seed(seed)
    rows, k = 5, 12
    # Small whole numbers, so that all products are exact and many tie.
    items = torch.randint(-2, 3, (ITEMS, DIM)).float()
    query = torch.randint(-2, 3, (rows, DIM)).float()
    pairs = {(int(draw.integers(rows)), int(draw.integers(ITEMS))) for _ in range(60)}
    mass = {pair: float(draw.normal(8.0, 4.0)) for pair in sorted(pairs)}
    left_out = {(int(draw.integers(rows)), int(draw.integers(ITEMS))) for _ in range(90)}
    left_out |= set(list(mass)[:10])
    allowed = draw.random(ITEMS) < (1.0 if seed == 0 else 0.7 if seed < 3 else 0.02)
    sparse = SparseMass.summed(
        np.array([row for row, _ in mass]),
        np.array([item for _, item in mass]),
        torch.tensor([*mass.values()]),
    )
    excluded = tuple(np.array([pair[place] for pair in left_out]) for place in (0, 1))
    expected = by_hand(query, items, mass, left_out, allowed, k)
    index = index_of(items, 10_000)
    assert index.probed == index.cells > 5
    for cells in (1, 1 << 20):
        item, score = indexed_top_items(
            scores_of(query, items, sparse),
            index,
            k,
            excluded=excluded,  # type: ignore[arg-type]
            allowed=None if seed == 0 else allowed,
            cells=cells,
        )
        assert item.tolist() == expected[0]
        np.testing.assert_allclose(score.numpy(), expected[1], rtol=1e-6)
    assert recall(item, torch.tensor(expected[0])) == (rows, rows)


def test_few_clusters_miss_items_and_get_no_score_wrong() -> None:
    torch.manual_seed(0)
    items = torch.nn.functional.normalize(torch.randn(ITEMS, 16), dim=1)
    query = torch.nn.functional.normalize(torch.randn(50, 16), dim=1)
    item, score = indexed_top_items(scores_of(query, items), index_of(items, 2), 10)
    exact = (query @ items.T).topk(10, dim=1)
    np.testing.assert_allclose(score.numpy(), (query @ items.T).gather(1, item).numpy(), rtol=1e-5, atol=1e-6)
    assert all(len(set(row)) == 10 for row in item.tolist())
    shares = [
        len(set(row) & set(best)) / 10
        for row, best in zip(item.tolist(), exact.indices.tolist(), strict=True)
    ]
    total, users = recall(item, exact.indices)
    assert (total, users) == (pytest.approx(sum(shares)), 50)
    assert 0.2 < total / users < 1
    better = indexed_top_items(scores_of(query, items), index_of(items), 10)[0]
    assert recall(better, exact.indices)[0] > total


def test_recall_of_short_lists() -> None:
    found = torch.tensor([[3, 4, NONE], [1, NONE, NONE], [NONE, NONE, NONE]])
    exact = torch.tensor([[4, 7, NONE], [1, NONE, NONE], [NONE, NONE, NONE]])
    assert recall(found, exact) == (1.5, 2)


def test_an_index_knows_of_all_that_scores_consist_of() -> None:
    """What is added to scores has to be added for candidates, too, or refused."""
    fields = {field.name for field in dataclasses.fields(HeldScores)}
    assert fields == {"query", "items", "held", "mass", "trend"}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> TrainedModel:
    """With history and jump logits."""
    folder = tmp_path_factory.mktemp("indexed")
    settings = ("loss.history=learned", "loss.jumps=learned", "embedding.behaviors=add")
    return load_model(run_on(prepare(folder), folder / "run", settings), device="cpu")


def test_recommendations_by_an_index(model: TrainedModel) -> None:
    index = ItemIndex.build(model._retrieval)
    for wanted in ({}, {"where": ["genres=Western"]}, {"exclude_seen": ["view"], "exclude": ["i1"]}):
        exact = model.recommend(k=6, at=0, **wanted).table()
        for how in ("ann", index):
            stream = model.recommend(k=6, at=0, index=how, **wanted)
            found = stream.table()
            assert found.drop_columns("score") == exact.drop_columns("score")
            np.testing.assert_allclose(found["score"], exact["score"], rtol=1e-5)
            assert (stream.told.recall, stream.told.compared_users > 5) == (1.0, True)
            assert any("not always exact" in note for note in stream.notes)
    assert model.recommend(k=6).told.recall is None
    with pytest.raises(UserError, match="there is no index 'hnsw'"):
        model.recommend(index="hnsw")


def test_a_bias_of_items_is_in_the_index(tmp_path: Path) -> None:
    settings = ("loss.history=learned", "loss.item_bias=popularity", "loss.kind=full_softmax")
    model = load_model(run_on(prepare(tmp_path), tmp_path / "run", settings), device="cpu")
    with torch.no_grad():
        model.served.module.item_bias.copy_(torch.linspace(0, 9, len(model.item_ids)))
    exact, found = (model.recommend(k=6, at=0, index=how).table() for how in ("exact", "ann"))
    assert found.drop_columns("score") == exact.drop_columns("score")
    np.testing.assert_allclose(found["score"], exact["score"], rtol=1e-5)


def test_what_an_index_cannot_find(
    model: TrainedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = model._retrieval
    monkeypatch.setattr(module, "jump_share", 0.3)
    with pytest.raises(UserError, match="votes are mixed"):
        model.recommend(index="ann")
    monkeypatch.undo()
    monkeypatch.setattr(module, "trends", torch.nn.Identity())
    with pytest.raises(UserError, match="trend logits are of all items"):
        model.recommend(index="ann")
    monkeypatch.undo()
    settings = ("loss.jumps=learned", "loss.jump_own=subtract")
    exact = load_model(run_on(prepare(tmp_path), tmp_path / "run", settings), device="cpu")
    with pytest.raises(UserError, match="votes go to all"):
        exact.recommend(index="ann")

    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(UserError, match="faiss, which is not installed") as caught:
        model.recommend(index="ann")
    assert caught.value.fix == 'pip install "lrm-kit[ann]"'


def test_an_index_is_the_same_each_time(tmp_path: Path) -> None:
    torch.manual_seed(3)
    items, query = torch.randn(ITEMS, 8), torch.randn(20, 8)
    one, other = (index_of(items, 3).nearest(query, 30) for _ in range(2))
    assert one.equal(other)
