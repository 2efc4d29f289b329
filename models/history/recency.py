"""Buckets of how many events ago something was: exact at first, then logarithmic."""

from __future__ import annotations

import functools

import torch
from torch import Tensor

EXACT = 16
"""Distances 0 to 15 have a bucket each."""
PER_DOUBLING = 4
NUM_RECENCY = 64

RECENCY_STARTS: tuple[int, ...] = (
    *range(EXACT),
    *(round(EXACT * 2 ** (step / PER_DOUBLING)) for step in range(NUM_RECENCY - EXACT)),
)
"""The lower boundary of each bucket, in events; the last begins at 55,109."""


def recency_bucket(distance: Tensor) -> Tensor:
    """0 to 63 of int64 distances from 0 on; the event that a query comes right after is at distance 0.

    >>> recency_bucket(torch.tensor([0, 1, 15, 16, 18, 19, 22, 23, 100_000])).tolist()
    [0, 1, 15, 16, 16, 17, 17, 18, 63]
    """
    return torch.bucketize(distance, _starts(distance.device), right=True) - 1


@functools.cache
def _starts(device: torch.device) -> Tensor:
    """Once a device: a copy to it waits for what runs there."""
    return torch.tensor(RECENCY_STARTS, dtype=torch.int64, device=device)
