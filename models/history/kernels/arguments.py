"""Groups of values that the kernels pass on to their parts, and the one group that they are compiled for.

Groups are NamedTuples: tuples whose fields have names to Triton. A function of Triton's can return neither
None nor a constant within one, so groups that hold such are made in the kernels themselves.
"""

from __future__ import annotations

from typing import Any, NamedTuple


class Constants(NamedTuple):
    """What one of the kernels is compiled for: one `tl.constexpr` argument."""

    QUERIES: int
    """Events of a tile that ask."""
    KEYS: int
    """Events of a tile that are asked about, past ones."""
    DIM: int
    """Of queries and keys; 0 without a product."""
    WIDTH: int
    """DIM rounded up to a power of two, 16 at least; zeros in between."""
    QUERY_STRIDE: int
    KEY_STRIDE: int
    """From row to row."""
    PRECISION: str
    """Of products of float32: `tf32`, or `tf32x3` for three of these, close to float32."""
    HALVES: bool
    """Whether what has 16 bits is multiplied, on the matrix units."""
    BEHAVIORS: int
    """Rows and columns of the tables of behaviors; 0 without any."""
    PLAIN: bool
    """Whether one of these is for all events,"""
    AGAIN: bool
    """whether one is for those whose item came again,"""
    CLOSED: bool
    """and whether one is for those whose item is closed."""
    BEHAVIOR_WIDTH: int
    """BEHAVIORS rounded up to a power of two, 16 at least."""
    TIMES: int
    """Numbers of the time table; 0 without one."""
    TIME_WIDTH: int
    """TIMES rounded up to a power of two."""
    RECENCIES: int
    """Numbers of the recency table; 0 without one."""
    RECENCY_WIDTH: int
    """RECENCIES rounded up to a power of two."""


ITEM, TARGET, BEHAVIOR, WANTED, AGAIN, CLOSED = range(6)
"""Rows of the packed columns."""
ROWS = 6
ROOM = 128
"""Packed events behind the last one: no tile has more."""
BEFORE = 128
"""Negative numbers of events since that are looked up, of pairs that are not seen: no tile has more."""


class Columns(NamedTuple):
    """What is known of each event: addresses; None where no term asks for it."""

    packed: Any
    """int32, see `packing`."""
    room: Any
    """From one of its rows to the next."""
    seconds: Any
    """int32: of all queries, then of all past events, see `models.attention.silu.times`."""
    query_time: Any
    """int64"""
    timestamp: Any


class Tables(NamedTuple):
    """The learned terms: addresses of float32 tables, None for what there is not, and of what finds a place
    in them."""

    states: Any
    """[1 or 4, BEHAVIORS, BEHAVIORS]: whether the item came again and is closed (`HistoryBias.states`),
    behavior of the past event, wanted behavior."""
    time: Any
    """[TIMES]"""
    boundaries: Any
    """[129] int32: the least difference of each bucket of time; 2^31 - 1 where int32 does not reach."""
    wide_boundaries: Any
    """[129] int64: the same, all of them."""
    recency: Any
    """What each number of events since adds, from -BEFORE on."""


class Queries(NamedTuple):
    """A tile of events that ask, as a row or a column."""

    place: Any
    """int32, in the sequence."""
    event: Any
    """int32, in the batch."""
    target: Any
    """int32"""
    wanted: Any
    """int32; anything without a behavior table, and so on."""
    asked: Any
    """int32 seconds, see `models.attention.silu.times`."""


class Events(NamedTuple):
    """A tile of past events, as a row or a column."""

    place: Any
    """int32, in the sequence."""
    item: Any
    """int32"""
    behavior: Any
    """int32: the first place of its row in a table of behaviors."""
    happened: Any
    """int32 seconds."""
    again: Any
    """int32: the first event in the batch from which on the item came again."""
    closed: Any
    """int32: likewise, is closed."""
    bias: Any
    """float32: 0, or minus infinity where the item is unknown."""


class Tile(NamedTuple):
    """Where a tile of pairs is, and which buckets of time it may have."""

    start: Any
    """The sequence's first event, int64."""
    length: Any
    """Of the sequence."""
    query: Any
    """Place of the first query."""
    event: Any
    """Place of the first past event."""
    low: Any
    """The least bucket of time, or one less."""
    high: Any
    """The greatest, or one more."""
    narrow: Any
    """Whether all seconds fit into 32 bits."""


class Masses(NamedTuple):
    """Of each query, as `Queries`: both log-sum-exps over its history, less the constant, in units of
    log(2), and gradients of both; a large number and 0 where there is no such event."""

    on_target: Any
    on_rest: Any
    grad_target: Any
    grad_rest: Any
