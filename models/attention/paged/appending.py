"""Before attention of a layer, in one launch: new keys and values are written to the pages, and what is added
to the scores of candidates is found.

All candidates of a sequence stand at one position and ask at one time. So their bias is the same, and what
they see of the history, too: a row of numbers a sequence, one a key, which hides what no candidate sees.
"""
# mypy: allow-untyped-defs
# ruff: noqa: N803

from __future__ import annotations

import triton
import triton.language as tl

from models.attention.paged.arguments import HIDDEN
from models.attention.paged.pointwise import silu
from models.attention.paged.seconds import rows_of_places
from models.attention.silu.buckets import find_bucket

KEYS_EACH = 256
"""Keys whose bias a program finds."""
_KEYS, _LANES = tl.constexpr(KEYS_EACH), tl.constexpr(16)
_HIDDEN = tl.constexpr(HIDDEN)


@triton.jit(do_not_specialize=("copies", "new", "nowhere", "num_users", "table_width", "room", "blocks",
                               "window", "front", "position_row", "time_row", "decay_row"))  # fmt: skip
def append_kernel(
    key, value, keys, values, written, copies, new, nowhere, key_stride, value_stride,
    rows, own_row, users, num_users, table, table_width, happened, query_time, timestamp, room, blocks,
    position, position_row, last_position, time, time_row, amount, rate, decay_row, wide_boundaries,
    window, front, TOKENS: tl.constexpr, K_WIDTH: tl.constexpr, V_WIDTH: tl.constexpr,
    K_ROOM: tl.constexpr, V_ROOM: tl.constexpr, PAGE: tl.constexpr, CONTEXT: tl.constexpr,
    POWER: tl.constexpr, FACTOR: tl.constexpr, ACTIVATE: tl.constexpr,
):  # fmt: skip
    """The first `copies` programs copy TOKENS tokens each; all others find KEYS_EACH numbers of a row."""
    number, table_row = tl.program_id(0), tl.program_id(1)
    if number < copies:
        if table_row == 0:
            token = number * TOKENS + tl.arange(0, TOKENS)
            row = tl.load(written + token, mask=token < new, other=nowhere)
            there = row < nowhere
            _copy(key, key_stride, token, keys, row, there, ACTIVATE, TOKENS, K_WIDTH, K_ROOM)
            _copy(value, value_stride, token, values, row, there, ACTIVATE, TOKENS, V_WIDTH, V_ROOM)
    elif rows is not None:
        user, block = (number - copies) // blocks, (number - copies) % blocks
        base, history = tl.load(users + user), tl.load(users + num_users + user)
        count = tl.load(users + 2 * num_users + user)
        if count > 0:
            first = tl.load(users + 3 * num_users + user) + history - base
            asked = tl.load(query_time + first)
            place = block * _KEYS + tl.arange(0, _KEYS)
            inside = place < history
            at = rows_of_places(
                table + user.to(tl.int64) * table_width, tl.minimum(place, tl.maximum(history - 1, 0)), PAGE
            )
            apart = _logical(history, CONTEXT) - _logical(place, CONTEXT)
            seen = inside & ((apart < window) | (place < front))
            found = _bias(
                position, position_row, last_position, time, time_row, amount, rate, decay_row,
                wide_boundaries, table_row, apart,
                tl.abs(asked - tl.load(happened + at, mask=inside, other=0)), POWER,
            )  # fmt: skip
            target = rows + (table_row * num_users + user).to(tl.int64) * room + place
            tl.store(target, tl.where(seen, FACTOR * found, _HIDDEN), mask=place < room)
            if block == 0:  # of a candidate and itself
                lane = tl.arange(0, _LANES)
                own = _bias(
                    position, position_row, last_position, time, time_row, amount, rate, decay_row,
                    wide_boundaries, table_row, lane * 0,
                    tl.abs(asked - tl.load(timestamp + first)) + lane * 0, POWER,
                )  # fmt: skip
                tl.store(own_row + table_row * num_users + user + lane * 0, FACTOR * own, mask=lane < 1)


@triton.jit
def _copy(
    source, stride, token, target, row, there, ACTIVATE: tl.constexpr, TOKENS: tl.constexpr,
    WIDTH: tl.constexpr, ROOM: tl.constexpr,
):  # fmt: skip
    """Of those tokens that are `there`: WIDTH numbers each, or their SiLU, rounded to the target's type."""
    column = tl.arange(0, ROOM)[None, :]
    mask = there[:, None] & (column < WIDTH)
    found = tl.load(source + token.to(tl.int64)[:, None] * stride + column, mask=mask, other=0.0)
    if ACTIVATE:
        found = silu(found)
    tl.store(target + row[:, None] * WIDTH + column, found.to(target.dtype.element_ty), mask=mask)


@triton.jit
def _logical(place, CONTEXT: tl.constexpr):
    """Position of a token of the history (`models.attention.masks.Mask`)."""
    SHIFT: tl.constexpr = CONTEXT - 1 if CONTEXT > 0 else 0  # noqa: N806
    return tl.maximum(place - SHIFT, 0)


@triton.jit
def _bias(
    position, position_row, last_position, time, time_row, amount, rate, decay_row, wide_boundaries,
    table_row, apart, difference, POWER: tl.constexpr,
):  # fmt: skip
    """Of keys so many positions and seconds before."""
    found = apart.to(tl.float32) * 0.0
    if position is not None:
        apart = tl.minimum(tl.maximum(apart, 0), last_position)
        found += tl.load(position + table_row * position_row + apart)
    if time is not None:
        found += tl.load(time + table_row * time_row + find_bucket(difference, wide_boundaries))
    if amount is not None:
        exponent = difference.to(tl.float32)
        if POWER:
            exponent = tl.log(1.0 + exponent)
        at = table_row * decay_row
        found += tl.load(amount + at) * tl.exp(-tl.load(rate + at) * exponent)
    return found
