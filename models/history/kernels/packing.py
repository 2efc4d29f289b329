"""Columns as the kernels read them, made once a call: 32 bits, one after the other, with room behind the last
event, so that tiles are read whole, and nothing about an event is found out again for each tile.
"""
# mypy: allow-untyped-defs
# ruff: noqa: N803

from __future__ import annotations

import triton
import triton.language as tl

from models.history.kernels.arguments import AGAIN, BEHAVIOR, CLOSED, ITEM, TARGET, WANTED
from models.history.kernels.pairs import FAR, LOG2_E

_ITEM, _TARGET, _BEHAVIOR = tl.constexpr(ITEM), tl.constexpr(TARGET), tl.constexpr(BEHAVIOR)
_WANTED, _AGAIN, _CLOSED = tl.constexpr(WANTED), tl.constexpr(AGAIN), tl.constexpr(CLOSED)
_LATEST = tl.constexpr(2**31 - 1)
_NONE = tl.constexpr(float("-inf"))


@triton.jit
def _pack(column, packed, row: tl.constexpr, room, factor, events, place):
    number = tl.load(column + place, mask=place < events, other=0).to(tl.int64) * factor
    target = packed + row * room.to(tl.int64) + place
    tl.store(target, tl.minimum(number, _LATEST).to(tl.int32), mask=place < room)


@triton.jit(do_not_specialize=("events", "room"))
def pack_columns_kernel(
    item, target, behavior, wanted, again, closed, packed, events, room, BEHAVIORS: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """[6, room] int32, of the columns that are not None; 0 behind the last event."""
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    _pack(item, packed, _ITEM, room, 1, events, place)
    _pack(target, packed, _TARGET, room, 1, events, place)
    if behavior is not None:
        _pack(behavior, packed, _BEHAVIOR, room, BEHAVIORS, events, place)
        _pack(wanted, packed, _WANTED, room, 1, events, place)
    if again is not None:
        _pack(again, packed, _AGAIN, room, 1, events, place)
    if closed is not None:
        _pack(closed, packed, _CLOSED, room, 1, events, place)


@triton.jit(do_not_specialize=("events", "room"))
def pack_masses_kernel(
    on_target, on_rest, grad_target, grad_rest, constant, scale, masses, events, room, BLOCK: tl.constexpr
):
    """[4, room] float32: both masses less the constant, in units of log(2), and their gradients, divided by
    `scale` if any; a large number and 0 where a mass is minus infinity, and behind the last event."""
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    factor = 1.0
    if scale is not None:
        factor = 1.0 / tl.load(scale)
    less = tl.load(constant)
    for row in tl.static_range(2):
        mass, grad = (on_target, grad_target) if row == 0 else (on_rest, grad_rest)
        found = tl.load(mass + place, mask=place < events, other=_NONE)
        given = tl.load(grad + place, mask=place < events, other=0.0).to(tl.float32)
        exists = found > _NONE
        packed = masses + row * room.to(tl.int64) + place
        tl.store(packed, tl.where(exists, (found - less) * LOG2_E, -FAR), mask=place < room)
        tl.store(packed + 2 * room, tl.where(exists, given * factor, 0.0), mask=place < room)
