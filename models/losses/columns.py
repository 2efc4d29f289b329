"""Candidates that all positions of a batch share, each item once."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor


class Columns(NamedTuple):
    """Of n places, of which the first `number` hold a candidate each."""

    ranks: Tensor
    """[n] int32 item ranks."""
    bias: Tensor
    """[n] float32, added to scores."""
    number: Tensor
    """[1] int32."""
    place: Tensor
    """[n] int64 the row of the vectors that a candidate has its own from; n: none."""


def merged_columns(
    ranks: Tensor, mask: Tensor | None, log_expected: Callable[[Tensor], Tensor] | None
) -> Columns:
    """Candidates of which some are alike, as columns of which none are.

    An item that is there c times counts c times: `c exp(s) = exp(s + log c)`. Targets of a batch are often
    alike, so that this saves products, and it is exact. Shapes do not depend on it, and nothing waits for the
    device.

    Args:
        ranks: [n] item ranks; alike ones have the same vector.
        mask: [n] bool, false for those that do not count; None: all do.
        log_expected: logQ correction of item ranks, taken off scores; None: there is none.
    """
    n = len(ranks)
    nowhere = torch.iinfo(torch.int32).max
    keys = ranks.int()  # sorting takes as many passes as they have bytes
    if mask is not None:
        keys = keys.masked_fill(~mask, nowhere)
    ordered, order = keys.sort(stable=True)
    begins = torch.ones_like(ordered, dtype=torch.bool)
    torch.ne(ordered[1:], ordered[:-1], out=begins[1:])
    group = begins.cumsum(0) - 1
    counts = torch.zeros_like(group).scatter_add_(0, group, torch.ones_like(group))
    # Others than the first of a group write to a place of their own, after the last.
    place = order.new_full((n + 1,), n).scatter_(0, torch.where(begins, group, n), order)[:n]
    there = begins if mask is None else begins & (ordered != nowhere)
    number = there.sum(dtype=torch.int32)[None]
    exists = torch.arange(n, device=ranks.device) < number
    unique = torch.zeros_like(ordered).scatter_(0, group, ordered).masked_fill(~exists, 0)
    bias = counts.clamp(min=1).float().log()
    if log_expected is not None:
        bias = bias - log_expected(unique)
    return Columns(unique, bias, number, place.masked_fill(~exists, n))


def separate_columns(
    ranks: Tensor, mask: Tensor | None, log_expected: Callable[[Tensor], Tensor] | None
) -> Columns:
    """Candidates as they are, where alike ranks have vectors of their own; see `merged_columns`."""
    n = len(ranks)
    bias = torch.zeros(n, device=ranks.device)
    if log_expected is not None:
        bias = bias - log_expected(ranks)
    if mask is not None:
        bias = bias.masked_fill(~mask, float("-inf"))
    number = torch.full((1,), n, dtype=torch.int32, device=ranks.device)
    return Columns(ranks.int(), bias, number, torch.arange(n, device=ranks.device))
