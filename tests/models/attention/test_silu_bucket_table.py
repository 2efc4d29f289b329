"""Buckets of near pairs, found once a batch, against the bucket function, pair by pair."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from models.attention import RelativeBias, RelativeTime, Sequences, attention
from models.attention.bias import BUCKET_STARTS, NUM_BUCKETS, time_bucket
from models.attention.masks import Causal, Mask
from tests.models.interpreted import DEVICE

pytest.importorskip("triton", reason="triton is not installed")
pytestmark = pytest.mark.usefixtures("interpreted")
BLOCK = 64


def find(times: RelativeTime) -> Tensor:
    """[tokens + 128, 2, 3, 64] buckets that the kernel finds, the farthest block first."""
    from models.attention.silu.times import times_of

    near = times_of(times).bucket_table().cpu()
    # [rows, 2, block, pair, part, half, side]
    parts = near.view(torch.uint8).view(near.shape[0], 2, 3, 4, 4, 2, 2)
    return parts.permute(0, 1, 2, 4, 5, 3, 6).reshape(near.shape[0], 2, 3, BLOCK).long()


def check(times: RelativeTime, query_time: Tensor, timestamp: Tensor) -> None:
    """Compare all pairs of a token with the block of the other one, and with the two blocks before."""
    found = find(times)
    assert found.max() < NUM_BUCKETS, "rows past a sequence are read as well"
    start = pairs = 0
    for length in times.sequences.lengths:
        asked, happened = query_time[start : start + length], timestamp[start : start + length]
        bucket = time_bucket(asked[:, None] - happened[None, :])
        for query in range(length):
            for back in range(min(query // BLOCK, 2) + 1):
                first = (query // BLOCK - back) * BLOCK
                keys = slice(first, min(first + BLOCK, length))
                count = keys.stop - first
                assert torch.equal(found[start + query, 0, 2 - back, :count], bucket[query, keys])
                column = query % BLOCK
                by_key = found[start + first : start + keys.stop, 1, 2 - back, column]
                assert torch.equal(by_key, bucket[query, keys])
                pairs += count
        start += length
    assert pairs > 0 or not sum(times.sequences.lengths)


def draw(kind: str, tokens: int) -> tuple[Tensor, Tensor]:
    """Query times and timestamps, int64."""
    generator = torch.Generator().manual_seed(tokens)
    if kind == "equal":
        return torch.full((tokens,), 7), torch.full((tokens,), 7)
    if kind == "sorted":
        timestamp = torch.randint(0, 10**6, (tokens,), generator=generator).sort().values
        return torch.cat([timestamp[1:], timestamp[-1:]]), timestamp
    if kind == "any order":
        return tuple(torch.randint(0, 10**8, (2, tokens), generator=generator))
    exponent = 2 ** torch.randint(0, 62, (2, tokens), generator=generator)
    sign = torch.randint(0, 2, (2, tokens), generator=generator) * 2 - 1
    return tuple(exponent * sign)


@pytest.mark.parametrize("kind", ["equal", "sorted", "any order", "far apart"])
@pytest.mark.parametrize("lengths", [(0,), (1,), (63,), (64,), (65,), (200, 0, 1, 66)])
def test_near_buckets(lengths: tuple[int, ...], kind: str) -> None:
    query_time, timestamp = draw(kind, sum(lengths))
    sequences = Sequences.from_lengths(lengths, DEVICE)
    check(RelativeTime(query_time.to(DEVICE), timestamp.to(DEVICE), sequences), query_time, timestamp)


@pytest.mark.parametrize("sign", [1, -1])
def test_every_border_of_a_bucket(sign: int) -> None:
    """A second before each, on it and a second after."""
    difference = torch.tensor([start + step for start in BUCKET_STARTS for step in (-1, 0, 1)])
    query_time = torch.zeros_like(difference)
    sequences = Sequences.from_lengths([len(difference)], DEVICE)
    times = RelativeTime(query_time.to(DEVICE), (-sign * difference).to(DEVICE), sequences)
    check(times, query_time, -sign * difference)


def test_queries_that_are_only_last_tokens() -> None:
    lengths, kept = [150, 3, 70], [40, 3, 0]
    query_time, timestamp = draw("sorted", 223)
    queries = torch.cat([query_time[110:150], query_time[150:153]])
    # Tokens that do not ask are taken to ask when they happen.
    asked = timestamp.clone()
    asked[110:153] = queries
    sequences = Sequences.from_lengths(lengths, DEVICE)
    last = Sequences.from_lengths(kept, DEVICE)
    check(RelativeTime(queries.to(DEVICE), timestamp.to(DEVICE), sequences, last), asked, timestamp)


def test_room_behind_the_last_sequence() -> None:
    lengths, tokens = (60, 0, 75), 300
    query_time, timestamp = draw("sorted", tokens)
    offsets = Sequences.from_lengths(lengths, DEVICE).offsets
    sequences = Sequences.unread(torch.cat([offsets, offsets[-1:]]), tokens=tokens, longest=90)
    found = find(RelativeTime(query_time.to(DEVICE), timestamp.to(DEVICE), sequences))
    known = RelativeTime(
        query_time[:135].to(DEVICE), timestamp[:135].to(DEVICE), Sequences.from_lengths(lengths, DEVICE)
    )
    check(known, query_time[:135], timestamp[:135])
    assert torch.equal(found[:135], find(known)[:135])
    assert not found[135:].any()


@pytest.mark.parametrize("span", [10**7, 10**12])
@pytest.mark.parametrize("dim", [16, 80, 200])
@pytest.mark.parametrize("mask", [Causal(), Mask(context=32)], ids=["causal", "context"])
def test_what_tiles_of_all_sizes_add(mask: Mask, dim: int, span: int) -> None:
    """Weights are the biases themselves, small whole numbers, whose sums are exact in float16 too."""
    lengths = [330, 65]
    torch.manual_seed(0)
    sequences = Sequences.from_lengths(lengths, DEVICE)
    # Some differ by a few seconds, others by as much as there is.
    timestamp = (span ** torch.rand(395, dtype=torch.float64)).long().to(DEVICE)
    times = RelativeTime(timestamp, timestamp, sequences)
    q = torch.zeros(395, 1, dim, device=DEVICE, dtype=torch.float16)
    k = q.clone()
    results = []
    for kernel in ("triton", "reference"):
        table = torch.arange(129, device=DEVICE).remainder(3).float().requires_grad_()
        v = (torch.arange(395 * dim, device=DEVICE).reshape(395, 1, dim) % 5 == 0).half().requires_grad_()
        bias = RelativeBias(time=table, relative_time=times)
        out = attention(
            q, k, v, sequences, activation="identity", mask=mask, bias=bias, kernel=kernel
        )  # fmt: skip
        results.append((out, *torch.autograd.grad(out.float().sum(), [v, table])))
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=0)
