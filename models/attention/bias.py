"""The relative attention bias: a table over position differences, one over time differences, and a decay.

Source: arXiv 2402.17152, and the bucket function of Meta's published research code.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from torch import Tensor

from models.attention.buckets import BUCKET_STARTS as BUCKET_STARTS
from models.attention.buckets import BUCKET_WIDTH as BUCKET_WIDTH
from models.attention.buckets import LAST_BUCKET as LAST_BUCKET
from models.attention.buckets import NUM_BUCKETS as NUM_BUCKETS
from models.attention.decay import TimeDecay
from models.attention.masks import Causal, Mask, last_rows
from models.attention.sequences import Sequences


def time_bucket(difference: Tensor) -> Tensor:
    """`floor(ln(max(1, |d|)) / 0.301)`, clamped to 0..128, of int64 differences in seconds."""
    starts = _bucket_starts(difference.device)
    return torch.bucketize(difference.abs().clamp(min=1), starts, right=True) - 1


@functools.cache
def _bucket_starts(device: torch.device) -> Tensor:
    """Once a device: a copy to it waits for what runs there."""
    return torch.tensor(BUCKET_STARTS, dtype=torch.int64, device=device)


@dataclass(frozen=True, eq=False)
class RelativeTime:
    """When each query asks and when each key happened; made once a batch and shared by all layers."""

    query_time: Tensor
    """[tokens] int64 seconds; [query tokens] where queries are only the last tokens of each sequence."""
    timestamp: Tensor
    """[tokens] int64 seconds."""
    sequences: Sequences
    queries: Sequences | None = None
    """Of the queries, where they are only the last tokens of each sequence."""

    def differences(self) -> Tensor:
        """[sequences, queries, max_length] int64 seconds (query, key), quadratic in length."""
        keys, _ = self.sequences.padded_index()
        queries, _ = (self.queries or self.sequences).padded_index()
        return self.query_time[queries][:, :, None] - self.timestamp[keys][:, None, :]


@dataclass(frozen=True, eq=False)
class RelativeBias:
    """`rab[i, j] = position[p(i) - p(j)] + time[bucket(d)] + decay(d)`, `d = query_time[i] - timestamp[j]`.

    p is a token's logical position (`models.attention.masks.Mask`): its index in the sequence, if the mask
    has neither context nor candidates. Each table is shared by all heads or has a row a head.
    """

    position: Tensor | None = None
    """[at least the longest sequence] or [heads, ...] float, or None for no position bias."""
    time: Tensor | None = None
    """[129] or [heads, 129] float, over time buckets, or None for none."""
    relative_time: RelativeTime | None = None
    """The times behind the time table and the decay; needed with them."""
    decay: TimeDecay | None = None

    def __post_init__(self) -> None:
        if self.position is None and self.time is None and self.decay is None:
            raise ValueError("a bias has a position table, a time table, a decay, or several of these")
        if self.time is not None and (self.time.ndim > 2 or self.time.shape[-1] != NUM_BUCKETS):
            raise ValueError(f"a time bias needs a table of {NUM_BUCKETS}, for all heads or for each")
        if (self.time is not None or self.decay is not None) and self.relative_time is None:
            raise ValueError("a time bias or a decay needs the times of the batch")

    def check(self, sequences: Sequences, queries: Sequences | None, heads: int) -> None:
        """Raise ValueError where the bias does not cover `sequences`, or is for other heads or queries."""
        if self.position is not None and self.position.shape[-1] < sequences.max_length:
            raise ValueError(
                f"the longest sequence, {sequences.max_length} tokens, "
                f"exceeds the position table, {self.position.shape[-1]}"
            )
        if self.rows not in (1, heads):
            raise ValueError(f"the bias is for {self.rows} heads, and there are {heads}")
        times = self.relative_time
        if times is None:
            return
        if not times.sequences.is_like(sequences):
            raise ValueError("the times of the bias belong to other sequences")
        if not (times.queries or sequences).is_like(queries or sequences):
            raise ValueError("the times of the bias belong to other queries")

    @property
    def rows(self) -> int:
        """1, or the number of heads where any part differs from head to head."""
        rows = 1
        for table in (self.position, self.time):
            if table is not None and table.ndim == 2:
                rows = max(rows, table.shape[0])
        return rows if self.decay is None else max(rows, self.decay.amount.shape[0])

    def tensors(self) -> tuple[Tensor | None, Tensor | None, Tensor | None, Tensor | None]:
        """What has gradients: position, time, amount and rate of the decay."""
        amount, rate = (self.decay.amount, self.decay.rate) if self.decay else (None, None)
        return self.position, self.time, amount, rate

    def materialize(
        self, sequences: Sequences, mask: Mask | None = None, queries: Sequences | None = None
    ) -> Tensor:
        """[sequences, 1 or heads, queries, max_length] (query, key), differentiable, quadratic in length.

        Args:
            sequences: of the keys.
            mask: gives the logical positions; causal by default.
            queries: of the queries, where they are only the last tokens of each sequence.

        Entries of pairs that the mask hides mean nothing.
        """
        total = torch.zeros((), dtype=torch.float32, device=sequences.offsets.device)
        if self.position is not None:
            distance = _distances(sequences, mask or Causal(), queries)
            total = total + _look_up(_rows(self.position), distance)
        if self.relative_time is not None and (self.time is not None or self.decay is not None):
            differences = self.relative_time.differences()
            if self.time is not None:
                total = total + _look_up(_rows(self.time), time_bucket(differences))
            if self.decay is not None:
                total = total + self.decay.materialize(differences).transpose(0, 1)
        lengths = ((queries or sequences).max_length, sequences.max_length)
        return total.expand(sequences.num_sequences, self.rows, *lengths)


def _rows(table: Tensor) -> Tensor:
    """[1 or heads, size]."""
    return table if table.ndim == 2 else table[None]


def _distances(sequences: Sequences, mask: Mask, queries: Sequences | None) -> Tensor:
    """[1 or sequences, queries, max_length] between logical positions, 0 where the key is ahead."""
    keys = mask.logical_positions(sequences)
    asking = keys if queries is None else last_rows(keys, sequences, queries)
    return (asking[:, :, None] - keys[:, None, :]).clamp(min=0)


def _look_up(table: Tensor, places: Tensor) -> Tensor:
    """[sequences, rows, queries, keys] of a [rows, size] table and places without rows.

    Gathered from a copy a query: the gradient is then a small histogram a query and their sum, where one
    table would have every pair of the batch add to the same few numbers.
    """
    if torch.compiler.is_exporting():  # has no gradients, and copies would be part of the graph
        return table[:, places].transpose(0, 1)
    flat = places.flatten(0, 1)
    if table.is_cuda:
        # Neighbouring threads then take different queries. As neighbouring keys of one query, mostly of the
        # same bucket, they would all wait for the same number.
        copies = table[:, :, None].expand(-1, -1, flat.shape[0])
        found = copies.gather(1, flat.T.contiguous().expand(len(table), -1, -1))
        found = found.transpose(1, 2).contiguous()
    else:
        copies = table[:, None].expand(-1, flat.shape[0], -1)
        found = copies.gather(2, flat.expand(len(table), -1, -1))
    return found.unflatten(1, places.shape[:2]).transpose(0, 1)
