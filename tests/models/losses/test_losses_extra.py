"""Losses with mass beside the items' scores, and with weights, against their formulas."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from models.losses import chunks, register_loss
from models.losses.extra import ExtraMass, log_add
from models.losses.formulas import FORMULAS, Scored
from models.losses.kinds import LOSSES
from tests.models.losses import extra_oracle as oracle
from tests.models.losses.test_losses import (
    DIM,
    POSITIONS,
    Vectors,
    lookup,
    make_loss,
    make_vectors,
    negatives_of,
)
from tests.models.losses.test_losses_masked import KEPT, MASK, named, with_all_draws

NONE = float("-inf")
KINDS: list[dict[str, Any]] = [
    *({"kind": "full_softmax", "label_smoothing": smoothing} for smoothing in (0.0, 0.3)),
    {"kind": "bce", "negatives": {"count": 3}},
    {"kind": "gbce", "negatives": {"count": 3}},
    *(
        {"kind": "sampled_softmax", "label_smoothing": smoothing, "negatives": negatives}
        for smoothing in (0.0, 0.2)
        for negatives in (
            {"count": 4},
            {"count": 4, "logq": True, "popularity_power": 0.5},
            {"count": 4, "sharing": "batch", "logq": True},
            {"source": "in_batch", "logq": True},
            {"source": "mixed", "count": 4, "logq": True},
        )
    ),
]
WEIGHT = torch.tensor([1.0, 0.5, 2.0, 0.0, 1.0, 3.0, 0.25])


def make_masses() -> ExtraMass:
    """Some on the target alone, on the rest alone, on neither; large and small ones."""
    on_target = [NONE, 1.0, NONE, -30.0, 40.0, 0.5, NONE]
    on_rest = [NONE, NONE, 0.7, 2.0, 3.0, 60.0, -25.0]
    return ExtraMass(
        *(torch.tensor(mass, dtype=torch.float64).requires_grad_() for mass in (on_target, on_rest))
    )


@pytest.fixture
def vectors() -> Vectors:
    return make_vectors()


def gradients(loss: Tensor, vectors: Vectors, extra: ExtraMass) -> list[Tensor]:
    return list(torch.autograd.grad(3.0 * loss, (*vectors[:2], *extra)))


def compare(found: Tensor, expected: Tensor, vectors: Vectors, extra: ExtraMass) -> None:
    """Odds of being drawn are float32. No gradient is anything but a number."""
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-9)
    theirs = [torch.zeros_like(one) for one in (*vectors[:2], *extra)]
    wanted = torch.autograd.grad(3.0 * expected, (*vectors[:2], *extra), allow_unused=True)
    for one, other, zero in zip(gradients(found, vectors, extra), wanted, theirs, strict=True):
        torch.testing.assert_close(one, zero if other is None else other, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("scores", [1, 40, 1 << 20])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", KINDS, ids=named)
def test_every_loss_is_its_formula(
    vectors: Vectors, kind: dict[str, Any], weighted: bool, scores: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunks, "_CHUNK_SCORES", {"cpu": scores})
    query, items, target = vectors
    loss, extra = make_loss(**kind), make_masses()
    weight = WEIGHT if weighted else torch.ones(POSITIONS)
    torch.manual_seed(1)
    drawn = negatives_of(loss, target)
    torch.manual_seed(1)
    found = loss(query, target, lookup(items), extra=extra, weight=weight if weighted else None)
    expected = oracle.loss_of(loss.config, query, items, target.tolist(), drawn, extra, weight.tolist())
    compare(found, expected / POSITIONS, vectors, extra)


@pytest.mark.parametrize("kind", KINDS, ids=named)
def test_masked_positions_do_not_count(
    vectors: Vectors, kind: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    query, items, target = vectors
    (loss, kept), extra = with_all_draws(make_loss(**kind), monkeypatch), make_masses()
    drawn = negatives_of(kept, target[KEPT])
    found = loss(query, target, lookup(items), mask=MASK, extra=extra, weight=WEIGHT)
    some, weight = extra.take(KEPT), WEIGHT[KEPT].tolist()
    expected = oracle.loss_of(loss.config, query[KEPT], items, target[KEPT].tolist(), drawn, some, weight)
    compare(found, expected / len(KEPT), vectors, extra)
    assert not any(
        gradient[~MASK].any()
        for gradient in torch.autograd.grad(
            loss(query, target, lookup(items), mask=MASK, extra=extra), (query, *extra)
        )
    )


@pytest.mark.parametrize("kind", KINDS, ids=named)
def test_no_mass_and_equal_weights_are_nothing(vectors: Vectors, kind: dict[str, Any]) -> None:
    query, items, target = vectors
    none = ExtraMass(*torch.full((2, POSITIONS), NONE, dtype=torch.float64).requires_grad_().unbind())
    results = []
    for more in (
        {},
        {"extra": none},
        {"weight": torch.ones(POSITIONS)},
        {"extra": none, "weight": torch.ones(7)},
    ):
        torch.manual_seed(1)
        loss = make_loss(**kind)(query, target, lookup(items), **more)  # type: ignore[arg-type]
        found = torch.autograd.grad(loss, (query, items, *none), allow_unused=True)
        results.append([loss, *found[:2]])
        assert not any(gradient is not None and gradient.any() for gradient in found[2:])
    for other in results[1:]:
        for one, two in zip(results[0], other, strict=True):
            torch.testing.assert_close(one, two, rtol=1e-6, atol=1e-9)  # odds of being drawn are float32


def test_a_registered_loss_sees_one_more_candidate(vectors: Vectors) -> None:
    """It is written for `Scored`, and knows nothing of extra mass."""
    seen: list[Scored] = []

    def formula(scored: Scored) -> Tensor:
        seen.append(scored)
        return (scored.negative.exp() * ~scored.collides).sum(1) - scored.positive

    query, items, target = vectors
    extra = make_masses()
    try:
        register_loss("odd", formula)
        loss = make_loss(kind="odd", negatives={"count": 3})
        torch.manual_seed(1)
        drawn = negatives_of(loss, target)
        torch.manual_seed(1)
        found = loss(query, target, lookup(items), extra=extra)
    finally:
        FORMULAS.pop("odd", None)
        LOSSES.pop("odd", None)
    assert [scored.negative.shape for scored in seen] == [(POSITIONS, 4)]
    total = torch.zeros((), dtype=torch.float64)
    for p, t in enumerate(target.tolist()):
        scores = [(query[p] * item).sum() / 0.3 for item in items]
        total = total - (scores[t].exp() + extra.on_target[p].exp()).log() + extra.on_rest[p].exp()
        total = total + sum(scores[rank].exp() for rank, _ in drawn[p] if rank != t)
    compare(found, total / POSITIONS, vectors, extra)


@pytest.mark.parametrize("kind", KINDS, ids=named)
def test_nothing_is_waited_for(kind: dict[str, Any]) -> None:
    """Fake tensors have no values: whatever would read one back is an error."""
    with FakeTensorMode():
        query, items = (torch.empty(n, DIM, requires_grad=True) for n in (POSITIONS, 11))
        target, mask = torch.empty(POSITIONS, dtype=torch.int64), torch.empty(POSITIONS, dtype=torch.bool)
        masses = [torch.empty(POSITIONS, requires_grad=True) for _ in range(2)]
        weight = torch.empty(POSITIONS)
        loss = make_loss(**kind)
        loss(query, target, lookup(items), mask=mask, extra=ExtraMass(*masses), weight=weight).backward()
        assert all(tensor.grad is not None for tensor in (query, items, *masses))


def test_sums_of_masses() -> None:
    one, other = (torch.tensor(mass, requires_grad=True) for mass in ([NONE, NONE, 1.0], [NONE, 2.0, 3.0]))
    total = log_add(one, other)
    torch.testing.assert_close(total, torch.tensor([NONE, 2.0, 3.0 + torch.tensor(-2.0).exp().log1p()]))
    gradients = torch.autograd.grad(total.sum(), (one, other))
    share = torch.tensor(-2.0).sigmoid().item()
    for gradient, wanted in zip(gradients, ([0.0, 0.0, share], [0.0, 1.0, 1 - share]), strict=True):
        assert gradient.tolist() == pytest.approx(wanted)
