"""Where along a row buckets change, and sums over the band near the diagonal."""

from __future__ import annotations

import importlib

import pytest
import torch
from torch import Tensor

from models.attention import Mask, RelativeTime, Sequences, time_bucket
from models.attention.bias import BUCKET_STARTS, NUM_BUCKETS
from tests.models.interpreted import DEVICE

pytest.importorskip("triton", reason="triton is not installed")
pytestmark = pytest.mark.usefixtures("interpreted")

LENGTHS = (1, 200, 0, 64, 65)
LIMIT = 2.0**24  # Amounts are whole numbers: sums of them are exact.
FAR = 10**12


def times(order: str, span: int = 10**6) -> RelativeTime:
    """Timestamps of LENGTHS tokens, and query times a while after them."""
    generator = torch.Generator().manual_seed(span % 1000)
    stamps = [torch.randint(0, span, (length,), generator=generator) for length in LENGTHS]
    if order != "any":
        stamps = [of_sequence.sort().values for of_sequence in stamps]
    timestamp = torch.cat(stamps)
    later = torch.randint(0, 5, timestamp.shape, generator=generator)
    if order == "asked before":
        later[150] = -1
    if order == "asked sooner":
        later[150] = 10**7
    query_time = timestamp + later
    sequences = Sequences.from_lengths(list(LENGTHS), DEVICE)
    return RelativeTime(query_time.to(DEVICE), timestamp.to(DEVICE), sequences)


def sequences_of(tensor: Tensor) -> list[Tensor]:
    return list(tensor[: sum(LENGTHS)].cpu().split(list(LENGTHS)))


@pytest.mark.parametrize("span", [1, 100, 10**6, 10**17])
def test_where_buckets_change(span: int) -> None:
    from models.attention.silu.times import times_of

    relative_time = times("sorted", span)
    query_time = torch.cat(
        [of_sequence.sort().values for of_sequence in sequences_of(relative_time.query_time)]
    )
    relative_time = RelativeTime(query_time.to(DEVICE), relative_time.timestamp, relative_time.sequences)
    found = times_of(relative_time)
    starts = torch.tensor(BUCKET_STARTS[1:])
    of_sequences = zip(
        sequences_of(relative_time.query_time), sequences_of(relative_time.timestamp), strict=True
    )
    beyond = [query[:, None, None] - key[None, :, None] >= starts for query, key in of_sequences]
    keys_beyond, queries_before = found.keys_beyond().cpu(), found.queries_before().cpu()
    tokens = sum(LENGTHS)
    assert torch.equal(keys_beyond[:tokens], torch.cat([pairs.sum(1) for pairs in beyond]).float())
    assert torch.equal(queries_before[:tokens], torch.cat([(~pairs).sum(0) for pairs in beyond]).float())
    assert keys_beyond.shape == queries_before.shape == (tokens + 128, 128)
    assert not keys_beyond[tokens:].any()


@pytest.mark.parametrize(
    ("order", "wrong", "wrong_queries"),
    [("any", {1, 3, 4}, {1, 3, 4}), ("asked before", {1}, set()), ("asked sooner", set(), {1})],
)
def test_sequences_out_of_order(order: str, wrong: set[int], wrong_queries: set[int]) -> None:
    """All counts of a sequence are -1 where times fall anywhere in it, or a query asks before its token; the
    other way round where query times fall."""
    from models.attention.silu.times import times_of

    found = times_of(times(order, 10**9))
    for counts_of_all, fell in ((found.keys_beyond(), wrong), (found.queries_before(), wrong_queries)):
        for number, counts in enumerate(sequences_of(counts_of_all)):
            assert bool((counts == -1).all() if number in fell else (counts >= 0).all())


@pytest.mark.parametrize("order", ["sorted", "any", "far"])
@pytest.mark.parametrize(
    "mask", [Mask(), Mask(window=30), Mask(context=7, candidates=torch.tensor([0, 40, 0, 9, 65]))]
)
def test_sums_over_the_band(order: str, mask: Mask) -> None:
    found, expected = band_sums(times(order, FAR if order == "far" else 10**6), mask)
    assert torch.equal(found, expected)


def band_sums(relative_time: RelativeTime, mask: Mask) -> tuple[Tensor, Tensor]:
    """[heads, 129] each: by the kernel, and by hand, for whole numbers wherever a query sees a key."""
    from models.attention.silu.masking import CAUSAL, RICH, WINDOW
    from models.attention.silu.time_gradient import BAND, BAND_MOST, HALF_SUMS, TIME_SUMS
    from models.attention.silu.times import times_of

    heads, tokens = 2, sum(LENGTHS)
    generator = torch.Generator().manual_seed(1)
    # What no query sees was never written, and may be anything.
    band = torch.full((heads, tokens, BAND), float("nan"))
    expected = torch.zeros(heads, NUM_BUCKETS, dtype=torch.float64)
    candidates = mask.candidates
    seen = mask.materialize(relative_time.sequences).cpu()
    offset = 0
    for number, length in enumerate(LENGTHS):
        of_sequence = slice(offset, offset + length)
        bucket = time_bucket(
            relative_time.query_time.cpu()[of_sequence, None]
            - relative_time.timestamp.cpu()[None, of_sequence]
        )
        for query in range(length):
            begin = query // 64 * 64 - 128
            for key in range(max(begin, 0), min(begin + BAND, length)):
                if seen[number, query, key]:
                    amounts = torch.randint(-500, 500, (heads,), generator=generator).float()
                    band[:, offset + query, key - begin] = amounts
                    expected[:, bucket[query, key]] += amounts
        offset += length
    found_times, sums = times_of(relative_time), torch.zeros(heads, TIME_SUMS, dtype=torch.int64)
    plain = WINDOW if mask.window else CAUSAL
    kind = RICH if candidates is not None else plain
    rules = None
    if kind == RICH:
        rules = torch.stack([
            mask.history(relative_time.sequences), relative_time.sequences.offsets[:-1],
            torch.zeros(len(LENGTHS), dtype=torch.int64, device=DEVICE),
        ])  # fmt: skip
    sums, blocks = sums.to(DEVICE), found_times.blocks
    kernel = importlib.import_module("models.attention.silu.band_gradient").band_kernel
    kernel[(heads * 3, blocks.shape[1])](
        band.to(DEVICE), sums, sums.shape[1], found_times.keys_beyond(), LIMIT, blocks, blocks.shape[1],
        rules, len(LENGTHS), found_times.query_time, found_times.timestamp, found_times.bounds,
        found_times.wide_boundaries, tokens, found_times.bounds.shape[1],
        mask.window or 1 << 30, mask.front, mask.context, MASK=kind, PRECISION="tf32x3",
    )  # fmt: skip
    lowest, beyond = sums.view(heads, -1, 2, HALF_SUMS).double().sum(1).cpu().unbind(1)
    found = lowest - torch.cat([beyond[:, 1:], beyond[:, :1]], 1) + beyond
    return found[:, :NUM_BUCKETS] * BAND_MOST / LIMIT, expected
