"""Losses and their gradients against their formulas, written out in float64."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from behavior.config import parse_config
from behavior.errors import UserError
from models.config import load_config
from models.losses import (
    ItemVectors,
    LossConfig,
    RetrievalLoss,
    chunks,
    formulas,
    gbce_power,
    register_loss,
)
from models.losses.drawn import scores_of_rows
from models.losses.kinds import LOSSES
from models.losses.negatives import NegativeSampler
from tests.models.largest import LargestTensor
from tests.models.losses import loss_oracle as oracle

POSITIONS, ITEMS, DIM, COUNT, FIRST = 7, 11, 5, 6, 2
COUNTS = [0, 0, 30, 22, 17, 12, 8, 5, 3, 2, 1, 1, 0]
Vectors = tuple[Tensor, Tensor, Tensor]

SOURCES = [
    {"source": source, "sharing": sharing, "count": COUNT, "popularity_power": power, "logq": logq}
    for source in ("catalog", "in_batch", "mixed")
    for sharing in ("position", "batch")
    for power in (0.0, 0.75)
    for logq in (False, True)
]
KINDS: list[dict[str, Any]] = [
    *({"kind": kind, "negatives": {"count": 3}} for kind in oracle.ORACLES),
    {"kind": "sampled_softmax", "negatives": {"sharing": "batch", "popularity_power": 1.0, "logq": True}},
    {"kind": "sampled_softmax", "negatives": {"source": "mixed", "logq": True}, "label_smoothing": 0.1},
]


def make_vectors(positions: int = POSITIONS, items: int = ITEMS, dim: int = DIM) -> Vectors:
    generator = torch.Generator().manual_seed(5)
    query = torch.randn(positions, dim, dtype=torch.float64, generator=generator)
    table = torch.randn(items, dim, dtype=torch.float64, generator=generator)
    target = torch.randint(items, (positions,), generator=generator)
    target[-1:] = target[:1]  # a target of another position may be one's own
    query, table = (torch.nn.functional.normalize(x, dim=-1).requires_grad_() for x in (query, table))
    return query, table, target


@pytest.fixture
def vectors() -> Vectors:
    return make_vectors()


def lookup(items: Tensor) -> ItemVectors:
    return lambda ranks: items if ranks is None else torch.nn.functional.embedding(ranks, items)


def make_loss(counts: list[int] = COUNTS, **config: Any) -> RetrievalLoss:
    parsed = LossConfig(**{"temperature": 0.3, **config})
    return RetrievalLoss(
        parsed, NegativeSampler(torch.tensor(counts), FIRST, parsed.negatives.popularity_power)
    )


def negatives_of(loss: RetrievalLoss, target: Tensor) -> list[list[tuple[int, float]]]:
    """The ranks that the loss is about to draw, and how often each is expected, in plain Python."""
    config = loss.config.negatives
    counts = [max(count, 1) for count in COUNTS[FIRST:]]
    frequency = [count / sum(counts) for count in counts]
    weights = [count**config.popularity_power for count in counts]
    odds = [weight / sum(weights) for weight in weights]
    own: list[list[int]] = [[] for _ in target]
    drawn, in_batch = 0, 0
    if config.source != "in_batch":
        drawn = config.count
        each = config.sharing == "position"
        ranks = loss.sampler.draw(len(target), drawn) if each else loss.sampler.draw(drawn)
        own = ranks.tolist() if each else [ranks.tolist()] * len(target)
    if config.source != "catalog":
        in_batch = len(target) - 1
        own = [
            ranks + [t for other, t in enumerate(target.tolist()) if other != place]
            for place, ranks in enumerate(own)
        ]
    times = [drawn * odds[i] + in_batch * frequency[i] if config.logq else 1.0 for i in range(ITEMS)]
    return [[(i, times[i]) for i in ranks] for ranks in own]


def compare(found: Tensor, expected: Tensor, vectors: Vectors) -> None:
    """Values and gradients; float64 but for the odds of being drawn, which are float32."""
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-9)
    query, items, _ = vectors
    for a, b in zip(
        torch.autograd.grad(3.0 * found, (query, items)),
        torch.autograd.grad(3.0 * expected, (query, items)),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("kind", KINDS, ids=lambda config: str(list(config.values())))
def test_every_loss_is_its_formula(vectors: Vectors, kind: dict[str, Any]) -> None:
    query, items, target = vectors
    loss = make_loss(**kind)
    torch.manual_seed(1)
    drawn = negatives_of(loss, target)
    torch.manual_seed(1)
    found = loss(query, target, lookup(items))
    expected = oracle.ORACLES[loss.config.kind](query, items, target.tolist(), drawn, loss.config)
    compare(found, expected, vectors)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("negatives", SOURCES, ids=lambda config: "-".join(map(str, config.values())))
def test_the_sampled_softmax_is_its_formula(
    vectors: Vectors, negatives: dict[str, Any], smoothing: float
) -> None:
    query, items, target = vectors
    loss = make_loss(negatives=negatives, label_smoothing=smoothing)
    torch.manual_seed(1)
    drawn = negatives_of(loss, target)
    assert any(i == t for ranks, t in zip(drawn, target.tolist(), strict=True) for i, _ in ranks)
    torch.manual_seed(1)
    found = loss(query, target, lookup(items))
    compare(found, oracle.softmax_over_some(query, items, target.tolist(), drawn, 0.3, smoothing), vectors)


@pytest.mark.parametrize(
    "negatives",
    [{"count": 1}, {"count": 6}, {"count": 6, "sharing": "batch"}, {"source": "in_batch"}],
    ids=lambda config: "-".join(map(str, config.values())),
)
@pytest.mark.parametrize("calibration", [None, 0.0, 0.75, 1.0])
def test_binary_cross_entropy_is_its_formula(
    vectors: Vectors, negatives: dict[str, Any], calibration: float | None
) -> None:
    """gBCE draws from the catalog only."""
    if calibration is not None and negatives.get("source") == "in_batch":
        negatives = {"count": 9}
    query, items, target = vectors
    kind = {"kind": "bce"} if calibration is None else {"kind": "gbce", "calibration": calibration}
    loss = make_loss(negatives=negatives, **kind)
    torch.manual_seed(1)
    drawn = negatives_of(loss, target)
    torch.manual_seed(1)
    found = loss(query, target, lookup(items))
    beta = 1.0
    if calibration is not None:
        alpha = negatives["count"] / (ITEMS - 1)
        beta = alpha * (calibration * (1 - 1 / alpha) + 1 / alpha)
    compare(found, oracle.binary(query, items, target.tolist(), drawn, 0.3, beta), vectors)


def test_gbce_knows_its_ends() -> None:
    """Not calibrated, or with every item drawn, it is BCE; calibrated fully, its power is the share drawn."""
    assert gbce_power(256, 3417, 0.0) == 1.0
    assert gbce_power(256, 3417, 1.0) == pytest.approx(256 / 3416)
    assert gbce_power(3416, 3417, 0.75) == 1.0


@pytest.mark.parametrize("kind", KINDS, ids=lambda config: str(list(config.values())))
def test_a_denominator_takes_the_place_of_the_number_of_positions(
    vectors: Vectors, kind: dict[str, Any]
) -> None:
    query, items, target = vectors
    loss = make_loss(**kind)
    results = []
    for denominator in (None, 28.0, torch.tensor(28.0)):
        torch.manual_seed(1)
        results.append(loss(query, target, lookup(items), denominator).item())
    assert results[1:] == pytest.approx([results[0] / 4] * 2)


@pytest.mark.parametrize("negatives", SOURCES, ids=lambda config: "-".join(map(str, config.values())))
def test_with_an_only_item_there_is_nothing_to_lose(negatives: dict[str, Any]) -> None:
    """All negatives collide with the target; no gradient becomes infinite or no number."""
    query, items, target = make_vectors(positions=3, items=1)
    loss = make_loss(counts=[0, 0, 5], negatives=negatives, label_smoothing=0.1)
    found = loss(query, target, lookup(items))
    assert found.item() == 0.0
    for gradient in torch.autograd.grad(found, (query, items)):
        assert not gradient.any()


@pytest.mark.parametrize("source", ["catalog", "in_batch", "mixed"])
def test_one_position_alone_has_no_other_targets(source: str) -> None:
    query, items, target = make_vectors(positions=1)
    loss = make_loss(negatives={"source": source, "logq": True})
    for tensor in (found := loss(query, target, lookup(items)), *torch.autograd.grad(found, (query, items))):
        assert torch.isfinite(tensor).all()
    assert (found.item() == 0.0) == (source == "in_batch")


@pytest.mark.parametrize("kind", KINDS, ids=lambda config: str(list(config.values())))
def test_no_positions_lose_nothing(kind: dict[str, Any]) -> None:
    query, items, target = make_vectors(positions=0)
    found = make_loss(**kind)(query, target, lookup(items))
    assert found.item() == 0.0
    assert not torch.autograd.grad(found, items)[0].any()


@pytest.fixture(params=[1, 40, 64])
def small_chunks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """So many scores at a time."""
    monkeypatch.setattr(chunks, "_CHUNK_SCORES", {"cpu": request.param})
    yield request.param
    monkeypatch.undo()


@pytest.mark.parametrize(
    "config",
    [{"negatives": {**negatives, "logq": True}, "label_smoothing": 0.1} for negatives in SOURCES[::4]]
    + [{"kind": "bce"}, {"kind": "gbce", "negatives": {"count": 4}}],
    ids=lambda config: "-".join(map(str, config.values())),
)
def test_chunks_of_positions_change_nothing(vectors: Vectors, small_chunks: int, config: Any) -> None:
    query, items, target = vectors
    loss = make_loss(**config)
    results = []
    for scores in (small_chunks, 1 << 20):
        chunks._CHUNK_SCORES["cpu"] = scores
        torch.manual_seed(1)
        value = loss(query, target, lookup(items))
        results.append((value, *torch.autograd.grad(value, (query, items))))
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("count", [1, 4, 30])
def test_scores_of_drawn_rows_and_their_gradients(vectors: Vectors, count: int) -> None:
    query, items, _ = vectors
    rows = torch.randint(ITEMS, (POSITIONS, count), generator=torch.Generator().manual_seed(2))
    weight = torch.randn(POSITIONS, count, dtype=torch.float64)
    found = scores_of_rows(query, items, rows)
    expected = torch.stack(
        [torch.stack([q @ items[i] for i in row]) for q, row in zip(query, rows, strict=True)]
    )
    torch.testing.assert_close(found, expected)
    for a, b in zip(
        torch.autograd.grad(found, (query, items), weight),
        torch.autograd.grad(expected, (query, items), weight),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize(
    "negatives",
    [
        {"count": 512},
        {"count": 512, "source": "mixed", "logq": True},
        {"count": 2048, "sharing": "batch"},
        {"source": "in_batch"},
    ],
    ids=lambda config: "-".join(map(str, config.values())),
)
@pytest.mark.parametrize("kind", ["sampled_softmax", "bce"])
def test_memory_does_not_grow_with_positions_times_negatives_times_dim(
    monkeypatch: pytest.MonkeyPatch, kind: str, negatives: dict[str, Any]
) -> None:
    if kind == "bce":
        negatives = {key: value for key, value in negatives.items() if key != "logq"}
    monkeypatch.setattr(chunks, "_CHUNK_SCORES", {"cpu": 8192})
    positions, items, dim = 600, 900, 8
    query, table, target = make_vectors(positions, items, dim)
    loss = make_loss(counts=[1] * (items + FIRST), kind=kind, negatives=negatives)
    with LargestTensor() as largest:
        loss(query, target, lookup(table)).backward()
    # A chunk of scores, of vectors shared by all, of all items or all queries.
    assert 8192 / 2 <= largest.numbers <= max(8192, 2048 * dim, items * dim, positions * dim)


@pytest.mark.parametrize("kind", KINDS, ids=lambda config: str(list(config.values())))
def test_threads_change_nothing_from_run_to_run(kind: dict[str, Any]) -> None:
    query, items, target = make_vectors(1000, 500, 16)
    loss = make_loss(counts=[1] * 502, **kind)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    torch.use_deterministic_algorithms(True)
    try:
        results = []
        for _ in range(3):
            torch.manual_seed(1)
            value = loss(query, target, lookup(items))
            results.append((value, *torch.autograd.grad(value, (query, items))))
    finally:
        torch.use_deterministic_algorithms(False)
        torch.set_num_threads(threads)
    for result in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(result, results[0], strict=True))


@pytest.mark.parametrize("kind", KINDS, ids=lambda config: str(list(config.values())))
def test_nothing_waits_for_the_device(kind: dict[str, Any]) -> None:
    """Fake tensors have no values: whatever would read one back is an error."""
    with FakeTensorMode():
        query, items = (torch.empty(n, DIM, requires_grad=True) for n in (POSITIONS, ITEMS))
        target = torch.empty(POSITIONS, dtype=torch.int64)
        make_loss(**kind)(query, target, lookup(items)).backward()
        assert query.grad is not None
        assert items.grad is not None


@pytest.mark.parametrize("kind", KINDS, ids=lambda config: str(list(config.values())))
def test_mixed_precision_leaves_the_loss_alone(vectors: Vectors, kind: dict[str, Any]) -> None:
    query, items, target = (x.detach().float() if x.is_floating_point() else x for x in vectors)
    loss = make_loss(**kind)
    torch.manual_seed(1)
    plain = loss(query, target, lookup(items))
    torch.manual_seed(1)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(loss(query, target, lookup(items)), plain)


@pytest.mark.parametrize("kind", KINDS, ids=lambda config: str(list(config.values())))
def test_a_second_derivative_is_refused(vectors: Vectors, kind: dict[str, Any]) -> None:
    query, items, target = vectors
    value = make_loss(**kind)(query, target, lookup(items))
    with pytest.raises(RuntimeError, match="cannot be differentiated twice"):
        torch.autograd.grad(value, query, create_graph=True)


def test_a_drawing_that_cannot_be_calibrated_is_an_error() -> None:
    with pytest.raises(UserError, match="fewer negatives than there are items, and there are 11"):
        make_loss(kind="gbce", negatives={"count": ITEMS})
    make_loss(kind="gbce", negatives={"count": ITEMS - 1})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["loss.kind=bce", "loss.label_smoothing=0.1"], "label_smoothing belongs to the softmaxes"),
        (["loss.kind=gbce", "loss.negatives.logq=true"], "logq corrects a softmax"),
        (["loss.kind=gbce", "loss.negatives.source=in_batch"], "gbce is calibrated for uniform draws"),
        (["loss.kind=gbce", "loss.negatives.popularity_power=1"], "gbce is calibrated for uniform draws"),
        (["loss.label_smoothing=1"], "less than 1"),
        (["loss.calibration=2"], "less than or equal to 1"),
    ],
)
def test_settings_that_contradict_are_errors(settings: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_config("default", settings)


def test_settings_from_before_there_were_more_mean_the_same() -> None:
    before = {
        "kind": "sampled_softmax",
        "temperature": 0.05,
        "loss_on": "all",
        "negatives": {"count": 128, "sharing": "position", "popularity_power": 0.0, "logq": False},
    }
    assert parse_config(LossConfig, before, where="") == LossConfig()


def test_a_loss_of_somebody_else_is_registered_and_used(
    vectors: Vectors, monkeypatch: pytest.MonkeyPatch
) -> None:
    """How far the mean negative is above the positive; and it may be one that takes label smoothing."""
    for table in (formulas.FORMULAS, LOSSES):
        monkeypatch.setitem(table, "margin", None)  # to be taken away again
    register_loss("margin", lambda scored: scored.negative.mean(1) - scored.positive, "mean margin")
    query, items, target = vectors
    loss = make_loss(kind="margin", temperature=0.5)
    torch.manual_seed(1)
    drawn = negatives_of(loss, target)
    torch.manual_seed(1)
    found = loss(query, target, lookup(items))
    scores = (query @ items.T).tolist()
    expected = [
        sum(row[rank] for rank, _ in against) / len(against) - row[t]
        for row, t, against in zip(scores, target.tolist(), drawn, strict=True)
    ]
    assert found.item() == pytest.approx(sum(expected) / POSITIONS / 0.5)
    with pytest.raises(UserError, match="label_smoothing belongs to the softmaxes"):
        load_config("default", ["loss.kind=margin", "loss.label_smoothing=0.1"])
    register_loss("margin", formulas.FORMULAS["margin"], softmax=True)
    load_config("default", ["loss.kind=margin", "loss.label_smoothing=0.1"])


def test_an_unknown_loss_names_the_nearest_and_says_how_to_register() -> None:
    with pytest.raises(UserError, match=r"'loss\.kind': there is no loss 'sampled_sofmax'") as caught:
        load_config("default", ["loss.kind=sampled_sofmax"])
    assert "did you mean 'sampled_softmax'?" in (caught.value.fix or "")
    assert "models.losses.register_loss" in (caught.value.fix or "")
    assert "models.evaluate" in (caught.value.fix or "")
