"""Softmax attention over sequences whose lengths only the device knows."""

from __future__ import annotations

import pytest
import torch

from models.attention import (
    Causal,
    LocalWindow,
    Mask,
    RelativeBias,
    RelativeTime,
    SemiLocal,
    Sequences,
    reference,
    sdpa,
)
from models.attention.inputs import AttentionInputs


@pytest.mark.parametrize("mask", [Causal(), LocalWindow(2)], ids=["causal", "window"])
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("lengths", [(3, 0, 4), (1,), (4, 4, 4, 4)])
@pytest.mark.parametrize("spare", [0, 5])
def test_padding_gets_zeros_and_changes_nothing(
    lengths: tuple[int, ...], biased: bool, mask: Mask, spare: int
) -> None:
    """Empty sequences behind the last one, and tokens of none; also where all of it fills rows by chance."""
    torch.manual_seed(0)
    known = Sequences.from_lengths(lengths)
    tokens = known.num_tokens + spare
    offsets = torch.cat([known.offsets, torch.full((3,), known.num_tokens)])
    unread = Sequences.unread(offsets, tokens=tokens, longest=4)
    q, k, v = (torch.randn(tokens, 2, width, requires_grad=True) for width in (5, 5, 3))
    times, position, time = torch.arange(tokens) * 50, torch.randn(4), torch.randn(129)

    def inputs(sequences: Sequences) -> AttentionInputs:
        n = sequences.num_tokens
        bias = None
        if biased:
            bias = RelativeBias(position, time, RelativeTime(times[:n] + 7, times[:n], sequences))
        return AttentionInputs(q[:n], k[:n], v[:n], sequences, "softmax", mask, bias, 0.5, 1.0)

    assert sdpa.reasons_against(inputs(unread)) == []
    found, expected = sdpa.run(inputs(unread)), reference.run(inputs(known))
    torch.testing.assert_close(found[: known.num_tokens], expected)
    assert not found[known.num_tokens :].any()
    weight = torch.randn_like(found)
    mine = torch.autograd.grad((found * weight).sum(), (q, k, v))
    theirs = torch.autograd.grad((expected * weight[: known.num_tokens]).sum(), (q, k, v))
    for a, b in zip(mine, theirs, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize(
    "mask", [Causal(), SemiLocal(2, 1, context=1, candidates=torch.tensor([2, 0, 1, 0]))], ids=["all", "rich"]
)
def test_last_tokens_alone_without_their_lengths(mask: Mask, biased: bool) -> None:
    torch.manual_seed(0)
    lengths, last = (6, 4, 3, 0), (3, 4, 1, 0)
    known, kept = Sequences.from_lengths(lengths), Sequences.from_lengths(last)
    unread = Sequences.unread(known.offsets, tokens=15, longest=9)
    asking = Sequences.unread(kept.offsets, tokens=11, longest=5)
    q, (k, v) = torch.randn(11, 2, 4), torch.randn(2, 15, 2, 4)
    asked, happened = torch.arange(11) * 90 + 400, torch.arange(15) * 50
    tables = torch.randn(9), torch.randn(129)

    def inputs(sequences: Sequences, queries: Sequences) -> AttentionInputs:
        n, m, bias = sequences.num_tokens, queries.num_tokens, None
        if biased:
            bias = RelativeBias(*tables, RelativeTime(asked[:m], happened[:n], sequences, queries))
        return AttentionInputs(q[:m], k[:n], v[:n], sequences, "softmax", mask, bias, 0.5, 1.0, queries)

    assert sdpa.reasons_against(inputs(unread, asking)) == []
    found = sdpa.run(inputs(unread, asking))
    torch.testing.assert_close(found[:8], reference.run(inputs(known, kept)))
    assert not found[8:].any()
