"""HSTU's relative attention bias: a table over position differences and one over time differences.

Source: arXiv 2402.17152, and the bucket function of Meta's published research code.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from models.attention.sequences import Sequences

BUCKET_WIDTH = 0.301
"""Width of a time bucket, in natural logarithms of seconds."""
LAST_BUCKET = 128
NUM_BUCKETS = LAST_BUCKET + 1

# The smallest difference in seconds of each bucket. Comparing whole seconds with whole seconds gives the same
# bucket in every kernel on every device, whatever its logarithm does in the last digit.
BUCKET_STARTS: tuple[int, ...] = (
    1,
    *(math.ceil(math.exp(BUCKET_WIDTH * bucket)) for bucket in range(1, NUM_BUCKETS)),
)


def time_bucket(difference: Tensor) -> Tensor:
    """`floor(ln(max(1, |d|)) / 0.301)`, clamped to 0..128, of int64 differences in seconds."""
    starts = torch.tensor(BUCKET_STARTS, dtype=torch.int64, device=difference.device)
    return torch.bucketize(difference.abs().clamp(min=1), starts, right=True) - 1


@dataclass(frozen=True, eq=False)
class RelativeTime:
    """When each query asks and when each key happened; made once a batch and shared by all layers."""

    query_time: Tensor
    """[tokens] int64 seconds."""
    timestamp: Tensor
    """[tokens] int64 seconds."""
    sequences: Sequences

    def materialize(self) -> Tensor:
        """[sequences, max_length, max_length] int64 buckets (query, key), quadratic in length."""
        index, _ = self.sequences.padded_index()
        return time_bucket(self.query_time[index][:, :, None] - self.timestamp[index][:, None, :])


@dataclass(frozen=True, eq=False)
class RelativeBias:
    """`rab[i, j] = position[i - j] + time[bucket(query_time[i] - timestamp[j])]`, shared by all heads."""

    position: Tensor | None = None
    """[at least the longest sequence] float table over i - j, or None for no position bias."""
    time: Tensor | None = None
    """[129] float table over time buckets, or None for no time bias."""
    relative_time: RelativeTime | None = None
    """The times behind the time table; needed with it."""

    def __post_init__(self) -> None:
        if self.position is None and self.time is None:
            raise ValueError("a bias has a position table, a time table, or both")
        if self.time is not None and (self.relative_time is None or self.time.shape != (NUM_BUCKETS,)):
            raise ValueError(f"a time bias needs a table of {NUM_BUCKETS} and the times of the batch")

    def check(self, sequences: Sequences) -> None:
        """Raise ValueError where the tables do not cover `sequences`."""
        if self.position is not None and self.position.shape[0] < sequences.max_length:
            raise ValueError(
                f"the longest sequence, {sequences.max_length} tokens, "
                f"exceeds the position table, {len(self.position)}"
            )
        if self.relative_time is not None and self.relative_time.sequences.lengths != sequences.lengths:
            raise ValueError("the times of the bias belong to other sequences")

    def materialize(self, sequences: Sequences) -> Tensor:
        """[sequences, max_length, max_length] (query, key), differentiable and quadratic in length.

        Entries that no causal query sees (i < j) hold the value of i = j for positions.
        """
        length = sequences.max_length
        total = torch.zeros((), dtype=torch.float32, device=sequences.offsets.device)
        if self.position is not None:
            place = torch.arange(length, device=self.position.device)
            total = total + self.position[(place[:, None] - place[None, :]).clamp(min=0)]
        if self.time is not None and self.relative_time is not None:
            buckets = self.relative_time.materialize()
            # Gathered from a copy a query: the gradient is then a small histogram a query and their sum,
            # where one table would have every pair of the batch add to the same few numbers.
            copies = self.time.expand(buckets.shape[0] * length, NUM_BUCKETS)
            total = total + copies.gather(1, buckets.flatten(0, 1)).view_as(buckets)
        return total.expand(sequences.num_sequences, length, length)
