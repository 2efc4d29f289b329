"""Positions that a mask leaves out: they add nothing, get nothing, and stand against nobody."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from models.losses import chunks
from tests.models.losses import loss_oracle as oracle
from tests.models.losses.test_losses import (
    DIM,
    ITEMS,
    KINDS,
    POSITIONS,
    SOURCES,
    Vectors,
    compare,
    lookup,
    make_loss,
    make_vectors,
    negatives_of,
)

MASK = torch.tensor([True, False, True, True, False, True, False])
KEPT = MASK.nonzero().squeeze(1)


def named(config: dict[str, Any]) -> str:
    return "-".join(map(str, config.values()))


@pytest.fixture
def vectors() -> Vectors:
    query, items, target = make_vectors()
    target[1], target[4] = 0, target[0]  # what is left out has targets like any other
    return query, items, target


def with_all_draws(loss: Any, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Any]:
    """Two losses that draw the same: one for all positions, one for those that the mask keeps."""
    config = loss.config.negatives
    each = torch.randint(ITEMS, (POSITIONS, config.count), generator=torch.Generator().manual_seed(3))
    kept = make_loss(**loss.config.model_dump())
    for one, rows in ((loss, each), (kept, each[KEPT])):
        drawn = rows if config.sharing == "position" else each[0]
        monkeypatch.setattr(one.sampler, "draw", lambda *_, drawn=drawn: drawn)
    return loss, kept


@pytest.mark.parametrize("kind", KINDS, ids=named)
def test_every_loss_is_that_of_the_positions_kept(
    vectors: Vectors, kind: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    query, items, target = vectors
    loss, kept = with_all_draws(make_loss(**kind), monkeypatch)
    drawn = negatives_of(kept, target[KEPT])
    found = loss(query, target, lookup(items), mask=MASK)
    expected = oracle.ORACLES[loss.config.kind](query[KEPT], items, target[KEPT].tolist(), drawn, loss.config)
    compare(found, expected, vectors)


@pytest.mark.parametrize("scores", [9, 1 << 20])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("negatives", SOURCES, ids=named)
def test_the_sampled_softmax_is_that_of_the_positions_kept(
    vectors: Vectors,
    negatives: dict[str, Any],
    smoothing: float,
    scores: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(chunks, "_CHUNK_SCORES", {"cpu": scores})
    query, items, target = vectors
    loss, kept = with_all_draws(make_loss(negatives=negatives, label_smoothing=smoothing), monkeypatch)
    drawn = negatives_of(kept, target[KEPT])
    found = loss(query, target, lookup(items), mask=MASK)
    expected = oracle.softmax_over_some(query[KEPT], items, target[KEPT].tolist(), drawn, 0.3, smoothing)
    compare(found, expected, vectors)


@pytest.mark.parametrize("kind", ["bce", "gbce"])
@pytest.mark.parametrize(
    "negatives", [{"count": 6}, {"count": 6, "sharing": "batch"}, {"source": "mixed"}], ids=named
)
def test_binary_cross_entropy_is_that_of_the_positions_kept(
    vectors: Vectors, kind: str, negatives: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """gBCE draws from the catalog only."""
    if kind == "gbce" and "source" in negatives:
        negatives = {"count": 9}
    query, items, target = vectors
    loss, kept = with_all_draws(make_loss(kind=kind, negatives=negatives), monkeypatch)
    drawn = negatives_of(kept, target[KEPT])
    found = loss(query, target, lookup(items), mask=MASK)
    expected = oracle.binary(query[KEPT], items, target[KEPT].tolist(), drawn, 0.3, loss.power)
    compare(found, expected, vectors)


@pytest.mark.parametrize("scores", [30, 1 << 20])
@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_the_full_softmax_is_that_of_the_positions_kept(
    vectors: Vectors, smoothing: float, scores: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunks, "_CHUNK_SCORES", {"cpu": scores})
    query, items, target = vectors
    found = make_loss(kind="full_softmax", label_smoothing=smoothing)(query, target, lookup(items), mask=MASK)
    expected = oracle.softmax_over_all(query[KEPT], items, target[KEPT].tolist(), 0.3, smoothing)
    compare(found, expected, vectors)


@pytest.mark.parametrize("kind", KINDS, ids=named)
def test_what_is_left_out_gets_no_gradient_and_changes_nothing(
    vectors: Vectors, kind: dict[str, Any]
) -> None:
    """Not even by being a zero vector, as padding is, or another item."""
    query, items, target = vectors
    loss = make_loss(**kind)
    changed = query.detach().clone().masked_fill(~MASK[:, None], 0.0).requires_grad_()
    others = torch.where(MASK, target, (target + 1) % ITEMS)
    results: list[list[Tensor]] = []
    for q, t in ((query, target), (changed, others)):
        torch.manual_seed(1)
        value = loss(q, t, lookup(items), mask=MASK)
        gradient, of_items = torch.autograd.grad(value, (q, items))
        assert not gradient[~MASK].any()
        assert gradient[MASK].any()
        results.append([value, gradient, of_items])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("kind", KINDS, ids=named)
def test_a_mask_that_keeps_all_changes_nothing(vectors: Vectors, kind: dict[str, Any]) -> None:
    query, items, target = vectors
    loss = make_loss(**kind)
    results = []
    for mask in (None, torch.ones_like(MASK)):
        torch.manual_seed(1)
        value = loss(query, target, lookup(items), mask=mask)
        results.append([value, *torch.autograd.grad(value, (query, items))])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("kind", KINDS, ids=named)
def test_a_mask_that_keeps_nothing_loses_nothing(vectors: Vectors, kind: dict[str, Any]) -> None:
    query, items, target = vectors
    found = make_loss(**kind)(query, target, lookup(items), mask=torch.zeros_like(MASK))
    assert found.item() == 0.0
    for gradient in torch.autograd.grad(found, (query, items)):
        assert not gradient.any()


@pytest.mark.parametrize("kind", KINDS, ids=named)
def test_a_mask_is_not_waited_for(kind: dict[str, Any]) -> None:
    """Fake tensors have no values: whatever would read one back is an error."""
    with FakeTensorMode():
        query, items = (torch.empty(n, DIM, requires_grad=True) for n in (POSITIONS, ITEMS))
        target, mask = torch.empty(POSITIONS, dtype=torch.int64), torch.empty(POSITIONS, dtype=torch.bool)
        make_loss(**kind)(query, target, lookup(items), mask=mask).backward()
        assert query.grad is not None
