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
def loss_kernel(
    positive, scores, ranks, correction, target, losses, totals, count,
    score_stride, rank_stride, correction_stride, CORRECTED: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """`losses[p] = totals[p] - positive[p]`, `totals` being the logarithm of the sum of exponentials."""
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
    all_of_it = tl.sum(total * tl.exp(most - highest)) + tl.exp(score_of_own - highest)
    logarithm = highest + tl.log(all_of_it)
    tl.store(totals + position, logarithm)
    tl.store(losses + position, logarithm - score_of_own)


@triton.jit
def gradient_kernel(
    positive, scores, ranks, correction, target, totals, given, dpositive, dscores, count,
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
    logarithm = tl.load(totals + position)
    share = tl.exp(tl.load(positive + position).to(tl.float32) - logarithm)
    tl.store(dpositive + position, factor * (share - 1.0))
    for first in tl.range(0, count, BLOCK):
        score, counts = _candidates(scores, ranks, correction, own, first, count, CORRECTED, BLOCK)
        slope = tl.where(counts, factor * tl.exp(score - logarithm), 0.0)
        column = first + tl.arange(0, BLOCK)
        tl.store(dscores + column, slope, mask=column < count)
