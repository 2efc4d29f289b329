"""Attention out of pages against the dense oracle in float64, which is given whole sequences."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from models.attention import (
    LocalWindow,
    Mask,
    RelativeBias,
    RelativeTime,
    Sequences,
    TimeDecay,
    reference,
)
from models.attention.inputs import AttentionInputs
from models.attention.paged.paging import Paging
from models.attention.paged.tuning import Cut, chosen, parts_of_keys
from models.gpu.tile_shape import TileShape
from tests.models.interpreted import DEVICE, import_interpreted, interpret

import_interpreted()
HEADS = 2


@pytest.fixture(autouse=True)
def interpreted_here(monkeypatch: pytest.MonkeyPatch) -> None:
    interpret(monkeypatch)


@dataclass
class Problem:
    """Sequences whose first tokens lie in pages, in any order, among those of others."""

    base: list[int]
    new: list[int]
    candidates: list[int]
    page: int = 16
    step: int = 600
    """Seconds between events, about."""
    qk_dim: int = 16
    v_dim: int = 16
    dtype: torch.dtype = torch.float32
    stored: torch.dtype | None = None
    jump: int = 0
    """Seconds by which the second half of a history is later."""
    activate: bool = False
    """Whether what asks is given before SiLU."""

    def __post_init__(self) -> None:
        generator = torch.Generator().manual_seed(0)

        def draw(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator)

        users = len(self.base)
        total = [b + n + c for b, n, c in zip(self.base, self.new, self.candidates, strict=True)]
        self.total, tokens = total, sum(total)
        stored = self.stored or self.dtype
        self.q, self.k = draw(tokens, HEADS, self.qk_dim), draw(tokens, HEADS, self.qk_dim)
        self.v = draw(tokens, HEADS, self.v_dim)
        self.q, self.k, self.v = (each.to(self.dtype).double() for each in (self.q, self.k, self.v))
        self.given = self.q, self.k, self.v
        if self.activate:
            self.q, self.k, self.v = (each * each.sigmoid() for each in self.given)
        self.k, self.v = self.k.to(stored).double(), self.v.to(stored).double()
        if not self.activate:  # interpreted, rounding to bfloat16 cuts off
            self.given = self.q, self.k, self.v
        history = [b + n for b, n in zip(self.base, self.new, strict=True)]
        timestamp, query_time, written = [], [], []
        most = max(-(-h // self.page) for h in history)
        order = torch.randperm(users * most + 3, generator=generator)
        self.table = order[: users * most].view(users, most).to(torch.int32)
        rows = (users * most + 3) * self.page
        place = torch.cat([torch.arange(t) for t in total])
        user = torch.repeat_interleave(torch.arange(users), torch.tensor(total))
        for h, c in zip(history, self.candidates, strict=True):
            steps = torch.randint(0, 2 * self.step + 1, (h + 1,), generator=generator)
            steps[h // 2] += self.jump
            times = 10**9 + steps.cumsum(0)
            timestamp += [times[:-1], times[-1:].expand(c)]
            query_time += [times[1:], times[-1:].expand(c)]
        self.timestamp, self.query_time = torch.cat(timestamp), torch.cat(query_time)
        happened = place < torch.tensor(history)[user]
        within = self.table[user, (place // self.page).clamp(max=most - 1)].long() * self.page
        written = torch.where(happened, within + place % self.page, rows)
        self.asking = place >= torch.tensor(self.base)[user]
        old = ~self.asking
        self.keys = torch.full((rows + 1, HEADS, self.qk_dim), float("nan"), dtype=stored)
        self.values = torch.full((rows + 1, HEADS, self.v_dim), float("nan"), dtype=stored)
        self.keys[written[old]], self.values[written[old]] = self.k[old].to(stored), self.v[old].to(stored)
        seconds = torch.zeros(rows + 1, dtype=torch.int64)
        seconds[written[happened]] = self.timestamp[happened]
        asking = torch.tensor([n + c for n, c in zip(self.new, self.candidates, strict=True)])
        counts = torch.tensor(self.candidates)
        self.counts = counts.to(DEVICE) if counts.any() else None
        self.paging = Paging(
            table=self.table.to(DEVICE),
            page=self.page,
            base=torch.tensor(self.base).to(DEVICE),
            history=torch.tensor(history).to(DEVICE),
            candidates=self.counts,
            begin=(asking.cumsum(0) - asking).to(DEVICE),
            happened=seconds.to(DEVICE),
            query_time=self.query_time[self.asking].to(DEVICE),
            timestamp=self.timestamp[self.asking].to(DEVICE),
            written=written[self.asking].to(DEVICE),
            longest=max(total),
            most_asking=int(asking.max()),
        )

    def bias(self, kind: str, per_head: bool, times: RelativeTime) -> RelativeBias | None:
        if kind == "none":
            return None
        generator = torch.Generator().manual_seed(1)
        shape = (HEADS,) if per_head else ()

        def draw(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator).to(times.query_time.device)

        position, time = draw(*shape, max(self.total)), draw(*shape, 129)
        amount = draw(HEADS if per_head else 1)
        return RelativeBias(
            position if kind in ("both", "position") else None,
            time if kind in ("both", "time") else None,
            times,
            TimeDecay(amount, amount.abs() * 0.1 + 0.1, "power") if kind == "decay" else None,
        )

    def truth(
        self, mask: Mask, kind: str, per_head: bool, activation: Any, scales: tuple[float, float]
    ) -> Tensor:
        sequences = Sequences.from_lengths(self.total)
        counts = None if self.counts is None else self.counts.cpu()
        whole = replace(mask) if type(mask) is Mask else Mask(mask.window, mask.prefix, mask.context)
        whole = Mask(whole.window, whole.prefix, whole.context, counts)
        bias = self.bias(kind, per_head, RelativeTime(self.query_time, self.timestamp, sequences))
        inputs = AttentionInputs(self.q, self.k, self.v, sequences, activation, whole, bias, *scales)
        return reference.run(inputs)[self.asking]

    def found(
        self, mask: Mask, kind: str, per_head: bool, activation: str, scales: tuple[float, float]
    ) -> Tensor:
        from models.attention.paged.launching import Layer, attend

        asked = Mask(mask.window, mask.prefix, mask.context, self.counts)
        layer = Layer(
            self.keys.to(DEVICE), self.values.to(DEVICE), activation == "softmax", asked,
            self.bias(kind, per_head, self.paging.relative_time), *scales, self.activate,
        )  # fmt: skip
        rows = (each[self.asking].to(DEVICE, self.dtype) for each in self.given)
        return attend(layer, self.paging, *rows).cpu()


CAUSAL = Mask()
SMALL = Cut(TileShape(16, 16, 4, 2))
WIDE = Cut(TileShape(32, 64, 4, 2), (2, 1))
MIXED = {"base": [130, 0, 40, 17], "new": [20, 33, 1, 5], "candidates": [5, 20, 1, 0]}
EVENTS = {"base": [60, 9], "new": [1, 40], "candidates": [0, 0]}


def compare(
    problem: Problem,
    mask: Mask = CAUSAL,
    kind: str = "both",
    per_head: bool = False,
    activation: str = "silu",
    cut: Cut = SMALL,
    parts: int | None = None,
    tolerance: float = 1e-5,
) -> None:
    scales = (problem.qk_dim**-0.5, 1.0 if activation == "softmax" else 0.125)
    truth = problem.truth(mask, kind, per_head, activation, scales)
    with chosen(cut, parts):
        found = problem.found(mask, kind, per_head, activation, scales)
    error = (found.double() - truth).abs().max() / truth.abs().max()
    assert error < tolerance


@pytest.mark.parametrize("activation", ["silu", "softmax"])
@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize("kind", ["none", "both", "decay"])
def test_biases(kind: str, parts: int, activation: str) -> None:
    compare(Problem(**MIXED), kind=kind, parts=parts, activation=activation, per_head=parts > 1)


@pytest.mark.parametrize(
    "mask",
    [LocalWindow(9), Mask(window=7, prefix=3), Mask(context=4), Mask(window=20, prefix=2, context=3)],
    ids=["window", "semi-local", "context", "all"],
)
@pytest.mark.parametrize("activation", ["silu", "softmax"])
def test_masks(mask: Mask, activation: str) -> None:
    compare(Problem(**MIXED), mask, kind="position", activation=activation)
    compare(Problem(**EVENTS, page=4), mask, activation=activation, cut=WIDE)


@pytest.mark.parametrize(("step", "jump"), [(1, 0), (100_000, 0), (20, 2**31), (600, 2**40)])
def test_times_near_and_far(step: int, jump: int) -> None:
    """One bucket a tile, a few, many, and differences that 32 bits do not hold."""
    compare(Problem(**MIXED, step=step, jump=jump), kind="time", cut=WIDE, parts=2)


@pytest.mark.parametrize("page", [3, 16, 64])
def test_pages_smaller_and_larger_than_tiles(page: int) -> None:
    compare(Problem(**MIXED, page=page), cut=Cut(TileShape(32, 32, 4, 2)))


def test_the_tables_choice() -> None:
    compare(Problem(**EVENTS, page=64, qk_dim=24, v_dim=40), cut=None)  # type: ignore[arg-type]


def test_half_precision_and_rounded_storage() -> None:
    compare(Problem(**MIXED, dtype=torch.float16), tolerance=2e-3)
    compare(Problem(**MIXED, stored=torch.bfloat16), tolerance=1e-5)


@pytest.mark.parametrize("parts", [1, 3])
def test_silu_of_what_asks_is_taken_there(parts: int) -> None:
    compare(Problem(**MIXED, activate=True), parts=parts)
    compare(Problem(**EVENTS, activate=True, stored=torch.bfloat16), tolerance=5e-3)


def test_what_is_new_is_in_the_pages_afterwards() -> None:
    problem = Problem(**MIXED)
    from models.attention.paged.launching import Layer, attend

    keys, values = problem.keys.to(DEVICE), problem.values.to(DEVICE)
    layer = Layer(keys, values, False, Mask(candidates=problem.counts), None, 1.0, 1.0)
    rows = (each[problem.asking].to(DEVICE, torch.float32) for each in (problem.q, problem.k, problem.v))
    attend(layer, problem.paging, *rows)
    written = problem.paging.written.cpu()
    there = written < len(keys) - 1
    assert there.sum() == sum(problem.new)
    assert torch.equal(keys.cpu()[written[there]].double(), problem.k[problem.asking][there])
    assert torch.equal(values.cpu()[written[there]].double(), problem.v[problem.asking][there])
    assert keys[-1].isnan().all()


def test_parts_keep_a_gpu_busy() -> None:
    """Of 132 processors: few tiles are shared by as many as there are, one whole wave or more by none."""
    assert parts_of_keys(16, 66, 132) == 8
    assert parts_of_keys(128, 66, 132) == 1
    assert parts_of_keys(512, 66, 132) == 1
    assert parts_of_keys(4, 2, 132) == 1
    assert 1 < parts_of_keys(40, 66, 132) <= 4


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("activation", ["silu", "softmax"])
@pytest.mark.parametrize("parts", [1, 4])
def test_at_full_width(activation: str, parts: int) -> None:
    problem = Problem(
        base=[1000, 0, 517], new=[130, 90, 1], candidates=[200, 3, 0], page=64, qk_dim=256, v_dim=256,
        dtype=torch.bfloat16, activate=activation == "silu",
    )  # fmt: skip
    compare(problem, activation=activation, cut=None, parts=parts, tolerance=2e-2)  # type: ignore[arg-type]
