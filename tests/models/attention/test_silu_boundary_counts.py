"""Where along a row buckets change, in sequences whose times are in order."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from models.attention import RelativeTime, Sequences
from models.attention.bias import BUCKET_STARTS
from tests.models.interpreted import DEVICE

pytest.importorskip("triton", reason="triton is not installed")
pytestmark = pytest.mark.usefixtures("interpreted")

LENGTHS = (1, 200, 0, 64, 65)


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
