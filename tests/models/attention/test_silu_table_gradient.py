"""Sums of score gradients for the position and time tables, against sums by hand."""

from __future__ import annotations

import importlib
import math
from dataclasses import replace
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import Tensor

from models.attention import Causal, Mask, RelativeBias, RelativeTime, Sequences, attention, time_bucket
from models.attention.bias import BUCKET_STARTS, NUM_BUCKETS
from tests.models.attention.attention_problems import Problem
from tests.models.interpreted import DEVICE, on_gpu

pytest.importorskip("triton", reason="triton is not installed")
pytestmark = pytest.mark.usefixtures("interpreted")

WAYS = [1, 2] if on_gpu else [0]
"""Of `shared_sums`."""
TILES = [(32, 32), (64, 64), (128, 32)]
# Amounts are whole numbers below 2^9, and sums of them are exact.
LIMIT = 2.0**24
POSITIONS = 1400


@pytest.fixture
def kernels(interpreted: None) -> ModuleType:
    return importlib.import_module("tests.models.attention.table_kernels")


def whole_numbers(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randint(-500, 500, shape, generator=generator).float().to(DEVICE)


def empty(*shape: int) -> Tensor:
    return torch.full(shape, float("nan"), device=DEVICE)


def bits(*numbers: float) -> Tensor:
    """What kernels know of lengths: the bits of their squares."""
    return torch.tensor(numbers, dtype=torch.float32, device=DEVICE).square().view(torch.int32)


class Sums:
    """Whole numbers of one head, and what they come to."""

    def __init__(self, limit: float = LIMIT, given: float = 500.0, value: float = 1.0) -> None:
        from models.attention.silu.time_gradient import TIME_SUMS

        self.limit, self.most = limit, bits(given, value)
        self.position = torch.zeros(POSITIONS, dtype=torch.int64, device=DEVICE)
        self.time = torch.zeros(TIME_SUMS, dtype=torch.int64, device=DEVICE)
        scale = empty(1)
        importlib.import_module("tests.models.attention.table_kernels").scale_kernel[(1,)](
            self.most, limit, scale
        )
        self._worth = 1 / float(scale)

    def arguments(self) -> tuple[Tensor, Tensor, Tensor, float]:
        return self.position, self.time, self.most, self.limit

    def positions(self) -> Tensor:
        """[POSITIONS] by `i - j`, from 0 on."""
        return self.position.double().cpu() * self._worth

    def buckets(self) -> Tensor:
        """[129] by bucket."""
        return self.time[:NUM_BUCKETS].double().cpu() * self._worth


def by_number(amounts: Tensor, numbers: Tensor, size: int) -> Tensor:
    """[size] float64: the sum of all amounts of each number."""
    found = np.bincount(numbers.flatten().numpy(), amounts.flatten().double().numpy(), minlength=size)
    return torch.from_numpy(found)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize(("rows", "columns"), TILES)
def test_a_run_of_tiles(kernels: ModuleType, rows: int, columns: int, ordered: bool, way: int) -> None:
    """Sums carried from tile to tile, of positions and of buckets, of which a tile has one or a few: by
    counts where times are in order, by seconds where not."""
    count = 4
    generator = torch.Generator().manual_seed(0)
    scores = whole_numbers(rows, count * columns)
    seconds = torch.randint(9000, 9300, (rows,), generator=generator)
    far = [4010, 4000, 40, 20]  # seconds before the first query: one bucket, then others, one or two
    stamps = torch.cat([9000 - before - torch.arange(columns).flip(0) * 7 // columns for before in far])
    if not ordered:
        places = torch.cat([part[torch.randperm(columns, generator=generator)]
                            for part in torch.arange(count * columns).split(columns)])  # fmt: skip
        stamps = stamps[places]
    difference = seconds[:, None] - stamps[None, :]
    bucket = time_bucket(difference)
    tiles = bucket.view(rows, count, columns)
    lowest, highest = tiles.amin((0, 2)), tiles.amax((0, 2))
    assert (lowest != highest)[2:].all()
    assert lowest[0] == lowest[1]
    ends = ((lowest << 8) + highest).int().to(DEVICE)
    apart = count * columns
    counts = torch.full((apart + rows, NUM_BUCKETS - 1), -1.0)
    if ordered:
        counts[apart:] = (difference[:, :, None] >= torch.tensor(BUCKET_STARTS[1:])).sum(1)
    both = torch.cat([torch.zeros(apart), seconds, stamps, torch.zeros(256)]).int().to(DEVICE)
    sums = Sums()
    kernels.run_kernel[(1,)](
        scores, *sums.arguments(), counts.to(DEVICE), int(ordered), both, narrow_boundaries(), ends, apart,
        count, ROWS=rows, COLUMNS=columns, WAY=way,
    )  # fmt: skip
    place = apart + torch.arange(rows)[:, None] - torch.arange(count * columns)[None, :]
    expected = by_number(scores.cpu(), place, POSITIONS)
    assert torch.equal(sums.positions().round(), expected)
    assert torch.equal(sums.buckets().round(), by_number(scores.cpu(), bucket, NUM_BUCKETS))


def narrow_boundaries() -> Tensor:
    from models.attention.silu.times import bucket_boundaries

    return bucket_boundaries(torch.device(DEVICE))[0]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("order", ["sorted", "equal", "any", "lifetimes"])
def test_tiles_whose_pairs_find_their_buckets(kernels: ModuleType, order: str, way: int) -> None:
    """Of queries at places from 256 on and of keys 128 places before and farther, of 18 tiles: more than are
    added before sums are flushed."""
    length = 64 * 18
    scores = whole_numbers(64, length)
    queries, keys = times_of_tiles(order, 64), times_of_tiles(order, length)
    first = 256
    empty_places = torch.zeros(first, dtype=torch.int64)
    query_time, timestamp = torch.cat([empty_places, queries]), torch.cat([keys, empty_places])
    far = order == "lifetimes"
    seconds = torch.cat(
        [query_time, timestamp[: first + 64]] if length < first + 64 else [query_time, timestamp]
    )
    sums = Sums()
    kernels.tiles_kernel[(1,)](
        scores, None, sums.time, sums.most, sums.limit, (seconds * (not far)).int().to(DEVICE),
        query_time.to(DEVICE), timestamp.to(DEVICE), narrow_boundaries(),
        torch.tensor(BUCKET_STARTS).to(DEVICE), 128 if far else 71, first, length, 0, 1 << 30,
        ROWS=64, COLUMNS=64, MASK=0, WAY=way,
    )  # fmt: skip
    bucket = time_bucket(queries[:, None] - keys[None, :])
    assert torch.equal(sums.buckets().round(), by_number(scores.cpu(), bucket, NUM_BUCKETS))


def times_of_tiles(order: str, count: int) -> Tensor:
    generator = torch.Generator().manual_seed(count)
    span = 10**16 if order == "lifetimes" else 10**7
    if order == "equal":
        return torch.full((count,), 12345)
    times = torch.randint(0, span, (count,), generator=generator)
    return times.sort().values if order == "sorted" else times


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("context", "candidates"), [(0, 0), (5, 0), (1, 20), (32, 70)])
def test_positions_of_context_and_candidates(
    kernels: ModuleType, context: int, candidates: int, way: int
) -> None:
    from models.attention.silu.masking import RICH

    history = 128 - candidates
    counts = torch.tensor([candidates]) if candidates else None
    mask = Mask(None, 0, context, counts)
    scores = whole_numbers(128, 128) * mask.materialize(Sequences.from_lengths([128]))[0].to(DEVICE)
    sums = Sums()
    kernels.tiles_kernel[(2,)](
        scores, sums.position, None, sums.most, sums.limit, None, None, None, None, None, 0, 0, 128, context,
        history, ROWS=64, COLUMNS=64, MASK=RICH, WAY=way,
    )  # fmt: skip
    # Context stands together at 0, the rest follows, and all candidates stand where the first of them does.
    logical_position = (torch.arange(128).clamp(max=history) - max(context - 1, 0)).clamp(min=0)
    apart = (logical_position[:, None] - logical_position[None, :]).clamp(min=0)
    assert torch.equal(sums.positions().round(), by_number(scores.cpu(), apart, POSITIONS))


@pytest.mark.parametrize(("given", "value"), [(1.0, 1.0), (3e4, 2e-3), (1e-6, 1e-7), (1e18, 1e18)])
def test_a_scale_for_the_largest_amount(kernels: ModuleType, given: float, value: float) -> None:
    scale = empty(1)
    kernels.scale_kernel[(1,)](bits(given, value), 2.0**62, scale)
    # No score's gradient is larger than 1.1 times the product of both lengths.
    assert 2.0**60 < float(scale) * 1.1 * given * value <= 2.0**62


@pytest.mark.parametrize(("given", "value"), [(0.0, 1.0), (0.0, 0.0), (1e-25, 1e-25)])
def test_a_scale_for_next_to_nothing_is_finite(kernels: ModuleType, given: float, value: float) -> None:
    scale = empty(1)
    kernels.scale_kernel[(1,)](bits(given, value), 2.0**62, scale)
    assert 0 < float(scale) < math.inf


@pytest.mark.filterwarnings("ignore:invalid value")  # NumPy's, of the interpreter
@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("good", [0.0, 1.0])
def test_no_scale_for_what_is_not_finite(kernels: ModuleType, bad: float, good: float) -> None:
    for numbers in ((bad, good), (good, bad)):
        scale = empty(1).zero_()
        kernels.scale_kernel[(1,)](bits(*numbers), 2.0**62, scale)
        assert math.isnan(float(scale))


@pytest.mark.parametrize("bad", [None, math.nan, -math.nan, math.inf, -math.inf])
def test_the_longest_of_rows(kernels: ModuleType, bad: float | None) -> None:
    rows, most = whole_numbers(2, 16, 32) / 256, torch.zeros(1, dtype=torch.int32, device=DEVICE)
    if bad is not None:
        rows[0, 3, 4] = bad
    for tile in rows:
        kernels.longest_kernel[(1,)](most, tile, ROWS=16, COLUMNS=32)
    found, expected = most.view(torch.float32), rows.square().sum(2).max()
    torch.testing.assert_close(found[0], expected, equal_nan=True, rtol=1e-6, atol=0)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("sign", [1, -1])
def test_the_largest_sum_there_can_be_does_not_overflow(kernels: ModuleType, sign: int, way: int) -> None:
    """All pairs fall into one bucket, and the gradient of each is as large as rows of these lengths allow."""
    count, given, value = 20, 7.0, 300.0
    pairs = 64 * 64 * count
    sums = Sums(2.0**62 / pairs, given, value)
    scores = torch.full((64, 64 * count), sign * 1.2 * given * value, device=DEVICE)
    counts = torch.zeros((64 + 64 * count, NUM_BUCKETS - 1), device=DEVICE)
    ends = torch.zeros(count, dtype=torch.int32, device=DEVICE)
    kernels.run_kernel[(1,)](
        scores, *sums.arguments(), counts, 1, ends, narrow_boundaries(), ends, 64 * count, count, ROWS=64,
        COLUMNS=64, WAY=way,
    )  # fmt: skip
    total = pairs * sign * 1.2 * given * value
    # A product with the identity in TF32 rounds to 2^-11.
    assert sums.buckets()[0].item() == pytest.approx(total, rel=1e-3)
    assert sums.positions().sum().item() == pytest.approx(total, rel=1e-3)


def table_gradients(
    kernel: str,
    given: Tensor,
    v: Tensor | None = None,
    stamps: Tensor | None = None,
    activation: str = "silu",
) -> tuple[Tensor, ...]:
    """Of both tables, for one sequence and `given`, [length, heads, 16]; v and times may be given too."""
    length, heads, _ = given.shape
    torch.manual_seed(0)
    q, k, drawn = torch.randn(3, length, heads, 16, device=DEVICE).to(given.dtype)
    v = drawn if v is None else v
    if stamps is None:
        stamps = torch.randint(0, 10**6, (length,), device=DEVICE).sort().values
    tables = [torch.randn(size, device=DEVICE).requires_grad_() for size in (length, NUM_BUCKETS)]
    sequences = Sequences.from_lengths([length], DEVICE)
    bias = RelativeBias(*tables, RelativeTime(stamps, stamps, sequences))
    out = attention(q, k, v, sequences, activation=activation, mask=Causal(), bias=bias, kernel=kernel)  # type: ignore[arg-type]
    return torch.autograd.grad(out, tables, given)


def test_all_pairs_in_one_bucket_and_all_rows_alike() -> None:
    """The gradients of all scores are the product of the lengths of given rows and values; identity."""
    length, heads = 150, 2
    row = torch.linspace(-3, 4, 16, device=DEVICE).expand(length, heads, 16).contiguous()
    stamps = torch.zeros(length, dtype=torch.int64, device=DEVICE)
    position, time = table_gradients("triton", row, row, stamps, "identity")
    each = float(row[0, 0].double().square().sum())
    counts = heads * (length - torch.arange(length, device=DEVICE))
    torch.testing.assert_close(position, each * counts.float(), rtol=1e-5, atol=0)
    assert float(time[0]) == pytest.approx(each * heads * length * (length + 1) / 2, rel=1e-5)
    assert time[1:].count_nonzero() == 0


@pytest.mark.filterwarnings("ignore:invalid value")  # NumPy's, of the interpreter
@pytest.mark.parametrize("name", ["given", "v"])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_stays_so(name: str, bad: float) -> None:
    torch.manual_seed(1)
    tensors = {name: torch.randn(70, 1, 16, device=DEVICE) for name in ("given", "v")}
    tensors[name][40, 0, 3] = bad
    for gradient in table_gradients("triton", **tensors):
        assert gradient.isnan().all()


@pytest.mark.parametrize("size", [1e-30, 1e-20, 1e-10, 1e10])
def test_gradients_of_any_size(size: float) -> None:
    torch.manual_seed(1)
    given = size * torch.randn(70, 1, 16, device=DEVICE)
    for found, expected in zip(
        table_gradients("triton", given), table_gradients("reference", given), strict=True
    ):
        # Below 1e-15 / 2^62 * pairs nothing is left of a gradient.
        room = 1e-5 * float(expected.abs().max()) + 1e-28
        torch.testing.assert_close(found, expected, rtol=0, atol=room)


def test_score_gradients_that_float16_cannot_hold() -> None:
    """The tables' gradients are float32, near the diagonal too."""
    torch.manual_seed(1)
    given, v = (400 * torch.randn(2, 150, 1, 16, device=DEVICE)).half()
    found = table_gradients("triton", given, v)
    for gradient, expected in zip(found, table_gradients("reference", given.float(), v.float()), strict=True):
        torch.testing.assert_close(gradient, expected, rtol=0, atol=1e-2 * float(expected.abs().max()))


def test_no_gradient_at_all() -> None:
    for gradient in table_gradients("triton", torch.zeros(70, 1, 16, device=DEVICE)):
        assert gradient.count_nonzero() == 0


@pytest.mark.parametrize(("element_size", "numbers"), [(2, 8), (4, 4)])
def test_tiles_whose_sums_are_in_shared_memory(
    interpreted: None, monkeypatch: pytest.MonkeyPatch, element_size: int, numbers: int
) -> None:
    """Always in half precision: each thread has as many numbers of a tile as are added up at once."""
    from models.attention.silu import shared_sums
    from models.attention.silu.tuning import tile_shapes

    monkeypatch.setattr(shared_sums, "INTERPRETED", False)
    for width in (16, 32, 64, 128, 256):
        for timed, placed, short in ((t, p, s) for t in (0, 1) for p in (0, 1) for s in (0, 1) if t or p):
            shapes = tile_shapes(width, width, element_size, bool(timed), bool(placed), bool(short))
            for shape, chained in ((shapes.queries, True), (shapes.kept_summed, False)):
                way = shared_sums.way(shape, element_size, bool(timed), chained)
                if element_size == 2 or (width <= 64 and chained):
                    assert way == (shared_sums.COARSE if element_size == 2 else shared_sums.FINE)
                    assert shape.tile * shape.stream % (32 * shape.warps * numbers) == 0
                elif chained:
                    assert way == shared_sums.PLAIN


PRECISE = [
    Problem((3000,), heads=2, qk_dim=64, v_dim=64, sorted_times=True, time_span=10**7),
    Problem((2000, 1000), heads=2, qk_dim=64, v_dim=64, window=500, time_span=10**9),
    Problem((1500, 900), qk_dim=64, v_dim=64, context=7, candidates=300, sorted_times=True),
]


@pytest.mark.gpu
@pytest.mark.skipif(not on_gpu, reason="no CUDA device")
@pytest.mark.parametrize("problem", PRECISE)
def test_sums_over_thousands_of_tokens_are_precise(problem: Problem) -> None:
    found = replace(problem, dtype=torch.float32, device=DEVICE).solve("triton")
    expected = replace(problem, rounded=torch.float32, device=DEVICE).solve("reference")
    for name in ("position", "time"):
        error = (found[name].double() - expected[name]).norm() / expected[name].norm()
        assert error < 1e-6
