"""The softmax of one positive among negatives, a program a position: scores are read twice, written once.

torch's own operations pass over all scores nine times or more.
"""
# mypy: allow-untyped-defs
# ruff: noqa: N803

from __future__ import annotations

import triton
import triton.language as tl

_FAR = tl.constexpr(-3.0e38)  # below all scores, and no infinity, whose differences are no numbers


@triton.jit
def _candidates(
    scores, ranks, correction, target, first, count, CORRECTED: tl.constexpr, BLOCK: tl.constexpr
):
    """BLOCK corrected scores from `first` on, and which of them count."""
    column = first + tl.arange(0, BLOCK)
    exists = column < count
    score = tl.load(scores + column, mask=exists, other=0.0).to(tl.float32)
    if CORRECTED:
        score -= tl.load(correction + column, mask=exists, other=0.0).to(tl.float32)
    rank = tl.load(ranks + column, mask=exists, other=0)
    return score, exists & (rank != target)


@triton.jit
def _log_1p(x):
    """`log(1 + x)` of a number from 0 on, also where 1 + x is 1."""
    rounded = 1.0 + x
    # Goldberg's: what rounding takes from x it takes from the divisor too.
    return tl.where(rounded == 1.0, x, tl.log(rounded) * (x / (rounded - 1.0)))


@triton.jit
def loss_kernel(
    positive, scores, ranks, correction, target, losses, gaps, count,
    score_stride, rank_stride, correction_stride, CORRECTED: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """The logarithm of the sum of exponentials less the positive, as a loss and in float32."""
    position = tl.program_id(0).to(tl.int64)
    scores += position * score_stride
    ranks += position * rank_stride
    correction += position * correction_stride
    own = tl.load(target + position)
    score_of_own = tl.load(positive + position).to(tl.float32)
    # A maximum and a sum a lane, joined at the end.
    most = tl.full((BLOCK,), _FAR, tl.float32)
    total = tl.zeros((BLOCK,), tl.float32)
    for first in tl.range(0, count, BLOCK):
        score, counts = _candidates(scores, ranks, correction, own, first, count, CORRECTED, BLOCK)
        higher = tl.maximum(most, tl.where(counts, score, _FAR))
        total = total * tl.exp(most - higher) + tl.where(counts, tl.exp(score - higher), 0.0)
        most = higher
    highest = tl.maximum(tl.max(most), score_of_own)
    # What little the negatives add must not be lost in the digits of 1, nor in those of a large score.
    others = tl.sum(total * tl.exp(most - highest))
    own_share = tl.exp(score_of_own - highest)
    gap = (highest - score_of_own) + tl.where(own_share == 1.0, _log_1p(others), tl.log(own_share + others))
    tl.store(gaps + position, gap)
    tl.store(losses + position, gap)


@triton.jit
def gradient_kernel(
    positive, scores, ranks, correction, target, gaps, given, dpositive, dscores, count,
    score_stride, rank_stride, correction_stride, CORRECTED: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Of the loss by `positive` and by `scores`, times `given`."""
    position = tl.program_id(0).to(tl.int64)
    scores += position * score_stride
    dscores += position * count
    ranks += position * rank_stride
    correction += position * correction_stride
    own = tl.load(target + position)
    factor = tl.load(given + position).to(tl.float32)
    gap = tl.load(gaps + position)
    score_of_own = tl.load(positive + position).to(tl.float32)
    others = tl.full((), 0.0, tl.float32)
    for first in tl.range(0, count, BLOCK):
        score, counts = _candidates(scores, ranks, correction, own, first, count, CORRECTED, BLOCK)
        share = tl.where(counts, tl.exp((score - score_of_own) - gap), 0.0)
        others += tl.sum(share)
        column = first + tl.arange(0, BLOCK)
        tl.store(dscores + column, factor * share, mask=column < count)
    # Shares add up to 1: a small one that the negatives have is not the difference of two large ones.
    tl.store(dpositive + position, -factor * others)
