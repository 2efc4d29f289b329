"""History masses the slow obvious way: one pair of events at a time, in plain Python, from the formula."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from models.attention.sequences import Sequences
from models.history import HistoryBias, HistoryColumns

INFINITY = float("inf")


def time_bucket(seconds: int) -> int:
    return min(128, math.floor(math.log(max(1, abs(seconds))) / 0.301))


def recency_bucket(distance: int) -> int:
    """0 to 15 by themselves, then four buckets from one power of two to the next, rounded to whole events."""
    if distance < 16:
        return distance
    step = 0
    while step < 47 and round(16 * 2 ** ((step + 1) / 4)) <= distance:
        step += 1
    return 16 + step


def logit(i: int, j: int, query: Any, key: Any, bias: HistoryBias, columns: HistoryColumns) -> Tensor:
    """g_ij."""
    g = bias.constant
    if query is not None:
        g = g + (query[i] * key[j]).sum()
    by_wanted = columns.behavior[j].item(), columns.wanted[i].item()
    if bias.behavior is not None:
        g = g + bias.behavior[by_wanted]
    if bias.time is not None:
        g = g + bias.time[time_bucket(int(columns.query_time[i] - columns.timestamp[j]))]
    if bias.recency is not None:
        g = g + bias.recency[recency_bucket(i - j)]
    if bias.latest is not None and columns.again is not None and int(columns.again[j]) <= i:
        g = g + bias.latest[by_wanted]
    if bias.closed is not None and columns.closed is not None and int(columns.closed[j]) <= i:
        g = g + bias.closed[by_wanted]
    return g


def masses(
    query: Tensor | None, key: Tensor | None, bias: HistoryBias, columns: HistoryColumns, sequences: Sequences
) -> tuple[Tensor, Tensor]:
    """[events] each, differentiable, in the precision of the inputs."""
    found: list[list[Tensor]] = [[], []]
    offsets = sequences.offsets.tolist()
    for i in range(sequences.num_tokens):
        starts = [start for start, stop in pairwise(offsets) if start <= i < stop]
        target = columns.target[i].item()
        logits: tuple[list[Tensor], list[Tensor]] = [], []
        for j in range(starts[0], i + 1) if starts and target else ():
            if columns.item[j] != 0:
                g = logit(i, j, query, key, bias, columns)
                logits[int(columns.item[j].item() != target)].append(g)
        for sums, some in zip(found, logits, strict=True):
            none = torch.tensor(-INFINITY, dtype=bias.constant.dtype)
            sums.append(torch.stack(some).exp().sum().log() if some else none)
    return torch.stack(found[0]), torch.stack(found[1])
