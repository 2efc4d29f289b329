"""Times for the kernel, found once a pass: 32-bit seconds of queries and of keys, these out of pages, and the
least and greatest second of each block of 64 keys.

Seconds count from 17 years after the first event of a sequence and are clamped to 34 years on either side, as
in `silu.times`; where that happens the bounds show it, and the kernel goes back to 64-bit times.
"""
# mypy: allow-untyped-defs
# ruff: noqa: N803

from __future__ import annotations

import triton
import triton.language as tl

from models.attention.paged.arguments import BLOCK
from models.attention.silu.times import LIMIT

_BLOCK = tl.constexpr(BLOCK)
_LIMIT = tl.constexpr(LIMIT)


@triton.jit
def rows_of_places(table, place, PAGE: tl.constexpr):
    """Rows in the pages, int64, of places of one sequence, given its row of the table."""
    return tl.load(table + place // PAGE).to(tl.int64) * PAGE + place % PAGE


@triton.jit(do_not_specialize=("num_users", "table_width", "room", "num_blocks"))
def seconds_kernel(
    users, num_users, table, table_width, happened, query_time, query_seconds, seconds, bounds, room,
    num_blocks, PAGE: tl.constexpr,
):  # fmt: skip
    """A block of one sequence: of its keys, and of as many of its queries."""
    user, block = tl.program_id(1), tl.program_id(0)
    base, history = tl.load(users + user), tl.load(users + num_users + user)
    count, row = tl.load(users + 2 * num_users + user), tl.load(users + 3 * num_users + user)
    table += user.to(tl.int64) * table_width
    first = block * _BLOCK
    if history > 0:
        origin = tl.load(happened + tl.load(table).to(tl.int64) * PAGE) + _LIMIT // 2
        own = first + tl.arange(0, _BLOCK)
        asking = own < history - base + count
        found = _relative(tl.load(query_time + row + own, mask=asking, other=0), origin)
        tl.store(query_seconds + row + own, found, mask=asking)
        if first < history:
            # Past the end stands the last event again: it changes no bound.
            place = tl.minimum(own, history - 1)
            found = _relative(tl.load(happened + rows_of_places(table, place, PAGE)), origin)
            tl.store(seconds + user.to(tl.int64) * room + own, found)
            at = bounds + user * (room // _BLOCK) + block
            tl.store(at, tl.min(found))
            tl.store(at + num_blocks, tl.max(found))


@triton.jit
def _relative(time, origin):
    return tl.minimum(tl.maximum(time - origin, -_LIMIT), _LIMIT).to(tl.int32)
