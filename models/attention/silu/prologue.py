"""What the kernels for queries and for keys begin with: where a program is, and the bias of its head and
sequence.

What may be None, the parts of a bias, stays with the kernels: no function of Triton's can return it.
"""
# mypy: allow-untyped-defs
# ruff: noqa: N803

from __future__ import annotations

import triton
import triton.language as tl

from models.attention.silu.bucket_table import bucket_table_rows
from models.attention.silu.kernel_arguments import SecondsRange, TimeColumns
from models.attention.silu.tile_io import block_bounds


@triton.jit
def times_of_sequence(times, start, tokens):
    """`TimeColumns` of a sequence, given its first token and those of a batch of `tokens`, its seconds
    twice."""
    seconds = times.query_seconds
    # Without a time table there are no such rows.
    bucket_table = seconds
    if times.bucket_table is not None:
        bucket_table = bucket_table_rows(times.bucket_table, start)
    return TimeColumns(
        seconds + start, seconds + tokens + start, times.query_time + start, times.timestamp + start,
        times.boundaries, times.wide_boundaries, bucket_table,
    )  # fmt: skip


@triton.jit
def seconds_of_rows(
    time, bounds, num_blocks, blocks, first, length, OWN_QUERIES: tl.constexpr, SIZE: tl.constexpr
):
    """`SecondsRange` of the SIZE rows from `first` on, queries or keys; zeros without a time table.

    `bounds` are those of a batch, [4, num_blocks], see `times.Times`; `blocks` come before the sequence.
    """
    if time is not None:
        if OWN_QUERIES:
            least, most = block_bounds(bounds + blocks, num_blocks, first, length, SIZE)
            return SecondsRange(least, most, bounds + 2 * num_blocks + blocks, num_blocks)
        else:
            least, most = block_bounds(bounds + 2 * num_blocks + blocks, num_blocks, first, length, SIZE)
            return SecondsRange(least, most, bounds + blocks, num_blocks)
    else:
        return SecondsRange(0, 0, 0, 0)
