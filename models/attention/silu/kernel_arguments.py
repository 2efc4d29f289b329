"""Groups of values that the kernels pass on to their parts, and the one group that they are compiled for.

A group is a NamedTuple: to Triton (3.6 and 3.7) a tuple whose fields have names, which leaves no trace in
machine code. Two limits: a function of Triton's can return neither None nor a constant within a group, so
groups that hold such are made in the kernels themselves; and Triton specializes every number in a tuple that
is a kernel's argument, whatever `do_not_specialize` says, so what differs from batch to batch comes to a
kernel one by one.
"""

from __future__ import annotations

from typing import Any, NamedTuple


class Constants(NamedTuple):
    """What one of the kernels for queries or keys is compiled for: one `tl.constexpr` argument."""

    QUERIES: int
    """Rows of a tile that are queries, or columns."""
    KEYS: int
    QK_DIM: int
    QK_WIDTH: int
    """QK_DIM rounded up to a power of two, 16 at least; zeros in between."""
    V_DIM: int
    V_WIDTH: int
    MASK: int
    """How much of a mask there is: CAUSAL, WINDOW or RICH (`masking`)."""
    POWER: bool
    """Whether a decay is a power of the time difference, or else an exponential."""
    IDENTITY: bool
    """Whether scores are the weights, or else go through SiLU."""
    FAST: bool
    """Whether tanh is one operation of the special-function unit, wrong by 2^-11 at most."""
    COMPARED: int
    """Bucket boundaries that a tile may have whose pairs are compared with each of them outside of simple
    tiles, too. If any, no sequence out of order has simple tiles: their loop is without code for these."""
    PACKED: bool
    """Whether the buckets of a tile are found once for scores and for the time table's gradient."""
    SUMS: int
    """How the time table's gradient is summed: PLAIN, COARSE or FINE (`shared_sums`)."""
    PRECISION: str
    """Of products of float32: `tf32`, or `tf32x3` for three of these, close to float32."""
    SPLIT: bool
    """Whether tiles that need no mask have a loop of their own."""
    PARTS: bool
    """Whether the keys of a tile of queries are shared by several programs of the kernel for the result."""
    APART: bool
    """Whether a tile's first two products have the compiler choose their layout apart from those that follow
    (`key_gradients`)."""
    ENDED: bool
    """Whether all products of a tile are waited for before the next one (`key_gradients`)."""
    HALVED: bool
    """Whether products of a tile are begun one tile ahead (`forward`)."""
    FIRST_STRIDE: int
    """Of the rows that are streamed, from token to token: of k, or of q in the kernel for the keys."""
    SECOND_STRIDE: int
    """The same of v, or of the result's gradient."""


class MaskRule(NamedTuple):
    """What a mask says of one sequence, in token indices; see `models.attention.masks.Mask`."""

    window: Any
    """Keys are visible whose logical position is less than that before the query's."""
    front: Any
    """Tokens at the front that no window hides."""
    context: Any
    """Tokens at the front that all have logical position 0 and see each other."""
    history: Any
    """The first candidate; the length where there is none."""
    skip: Any
    """The first token that is a query."""


class TimeColumns(NamedTuple):
    """The times of a sequence, from its first token on, and the boundaries of buckets."""

    query_seconds: Any
    """int32, see `times`."""
    key_seconds: Any
    query_time: Any
    """int64"""
    timestamp: Any
    boundaries: Any
    """int32, the least difference of each bucket."""
    wide_boundaries: Any
    """int64, the same."""
    bucket_table: Any
    """The sequence's rows of `bucket_table`; anything without a time table."""


class Bias(NamedTuple):
    """The parts of a head's bias in a sequence; None for what there is not."""

    position: Any
    time: Any
    amount: Any
    rate: Any
    times: Any
    """`TimeColumns`, where there is a time table or a decay."""
    written: Any
    """The sequence's first row of the `written_bias`, in place of all else."""
    written_stride: Any
    """Of these rows."""


class SecondsRange(NamedTuple):
    """Least and greatest second of the rows that a program owns, and those of all blocks of the other
    side."""

    least: Any
    most: Any
    bounds: Any
    """Least seconds of the blocks of 64 tokens that the other side has; the greatest `num_blocks` further."""
    num_blocks: Any


class Program(NamedTuple):
    """What a program works on: a tile's rows, queries or keys, of one sequence and head."""

    start: Any
    """The sequence's first token, int64."""
    length: Any
    """Of the sequence."""
    first: Any
    """The first row, from the start of the sequence."""
    rule: Any
    """`MaskRule` of the sequence."""
    seconds: Any
    """`SecondsRange` of the rows."""


class TileRanges(NamedTuple):
    """Which columns a program has to do with, as token indices; see `masking`."""

    begin: Any
    """The range that it goes through."""
    end: Any
    whole_begin: Any
    """From here to `whole_end`, within it, are tiles that need no mask."""
    whole_end: Any
    apart: Any
    """Two more ranges, begin and end each, that need the mask; only with a rich one."""


class TableSums(NamedTuple):
    """Where a head's gradients of tables are summed, in fixed point."""

    position: Any
    """A row of int64, or None."""
    time: Any
    """A row of int64, or None."""
    scale: Any
    """How many units an amount of 1 is."""
    shared: Any
    """Where this thread's time sums begin in shared memory, see `shared_sums`."""
    shared_scale: Any
    """How many units an amount of 1 is there."""
