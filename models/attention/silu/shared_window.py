"""Sums for the position table's gradient in shared memory: what the pairs of tiles give to each distance.

The tiles that a program adds one after the other lie on neighbouring diagonals. So a window of 256 distances
moves along: sums that it leaves behind are flushed to those of the head in global memory. A distance has four
sums, by columns, so that no two threads of a warp meet in a memory bank where they hold scores as the matrix
units do. See `shared_sums` for the assembly.
"""
# mypy: allow-untyped-defs
# ruff: noqa: N803, N806

from __future__ import annotations

import triton
import triton.language as tl

from models.attention.silu.mma_loads import FAR_COLUMNS, FAR_ROW
from models.attention.silu.shared_sums import FINE, MOST, PLAIN, WINDOW_HALF, add_amount, joined, window_begin

DISTANCES = 256
"""In a window."""
_COPIES = 4
assert DISTANCES * _COPIES * 4 == WINDOW_HALF
MOST_OF_WINDOW = 2**23
"""What the largest amount there can be is in sums of one half: a distance has a pair a row, 128 at most."""
assert 128 * MOST_OF_WINDOW < 2**31
NOWHERE = 1 << 30
"""Where a window begins in which there is nothing yet."""
_PLAIN, _FINE, _MOST = tl.constexpr(PLAIN), tl.constexpr(FINE), tl.constexpr(MOST)
# Bytes of a distance; what is constant in a thread of a row's and a column's number.
_EACH, _ROW, _COLUMNS = tl.constexpr(4 * _COPIES), tl.constexpr(FAR_ROW), tl.constexpr(FAR_COLUMNS)
_DISTANCES, _MOST_OF_WINDOW = tl.constexpr(DISTANCES), tl.constexpr(MOST_OF_WINDOW)

_ADD_COARSE, _ADD_FINE = (
    joined(".reg .f32 amount; mul.f32 amount, $2, $3;", add_amount(halves, "$1", WINDOW_HALF))
    for halves in (1, 2)
)


def _flush(halves: int) -> tl.constexpr:
    """A thread has a distance."""
    loads = [
        f"ld.shared.v4.u32 {{n0, n1, n2, n3}}, [place+{half * WINDOW_HALF}]; "
        f"st.shared.v4.u32 [place+{half * WINDOW_HALF}], {{zero, zero, zero, zero}};"
        + " ".join(f"cvt.s64.s32 more, n{each}; add.s64 units, units, more;" for each in range(_COPIES))
        for half in range(halves)
    ]
    return joined(
        "bar.sync 0; .reg .u32 distance, place, zero, threads; .reg .s32 n<4>; .reg .s64 units, more;",
        ".reg .u64 target; .reg .f64 amount, worth; .reg .pred done, none;",
        "mov.u32 zero, 0; mov.u32 distance, %tid.x; mov.u32 threads, %ntid.x; cvt.f64.f32 worth, $3;",
        f"NEXT: setp.ge.u32 done, distance, {DISTANCES}; @done bra DONE;",
        f"mad.lo.u32 place, distance, {4 * _COPIES}, $1; mov.s64 units, 0;",
        f"shl.b64 units, units, {MOST.bit_length() - 1};".join(loads),
        "setp.eq.s64 none, units, 0;",
        "cvt.rn.f64.s64 amount, units; mul.f64 amount, amount, worth; cvt.rzi.s64.f64 units, amount;",
        "mul.wide.u32 target, distance, 8; add.u64 target, target, $2;",
        "@!none red.relaxed.gpu.global.add.u64 [target], units;",
        "add.u32 distance, distance, threads; bra NEXT;",
        "DONE: mov.u32 $0, 0; bar.sync 0;",
    )


_FLUSH_COARSE, _FLUSH_FINE = _flush(1), _flush(2)


@triton.jit
def add_distances(begin, dscores, first_query, first_key, query_index, key_index, sums, WAY: tl.constexpr):
    """Add a tile's amounts to the distances of its pairs, and return where the window begins, given where it
    did. What lies at distances below 0 is 0."""
    if WAY == _PLAIN:
        place = sums.position + tl.maximum(query_index - key_index, 0)
        units = (dscores * sums.scale).to(tl.int64)
        tl.atomic_add(place, units, mask=dscores != 0.0, sem="relaxed")
    else:
        nearest = first_query - first_key - (dscores.shape[1] - 1)
        farthest = first_query - first_key + (dscores.shape[0] - 1)
        if (nearest < begin) | (farthest >= begin + _DISTANCES):
            flush_window(begin, sums, WAY)
            begin = farthest - (_DISTANCES - 1)
        HOW: tl.constexpr = _ADD_FINE if WAY == _FINE else _ADD_COARSE
        # What differs between threads apart from what is constant in one, which costs no instruction.
        row, column = tl.arange(0, dscores.shape[0])[:, None], tl.arange(0, dscores.shape[1])[None, :]
        varying = _EACH * ((row & ~_ROW) - (column & ~_COLUMNS)) + 2 * (column & ~_COLUMNS)
        constant = _EACH * ((row & _ROW) - (column & _COLUMNS))
        own = window_begin(sums.shared, WAY) + _EACH * (first_query - first_key - begin)
        tl.inline_asm_elementwise(
            HOW, "=r,r,f,f", [(own + varying) + constant, dscores, _scale(sums, WAY)], dtype=tl.int32,
            is_pure=False, pack=1,
        )  # fmt: skip
    return begin


@triton.jit
def flush_window(begin, sums, WAY: tl.constexpr):
    """Add all sums of the window to those of the head, and begin with zeros again."""
    if WAY != _PLAIN:
        HOW: tl.constexpr = _FLUSH_FINE if WAY == _FINE else _FLUSH_COARSE
        # An empty window is nowhere, and adds nothing.
        target = sums.position.to(tl.int64) + 8 * begin.to(tl.int64)
        tl.inline_asm_elementwise(
            HOW, "=r,r,l,f", [window_begin(sums.shared, WAY), target, sums.scale / _scale(sums, WAY)],
            dtype=tl.int32, is_pure=False, pack=1,
        )  # fmt: skip


@triton.jit
def _scale(sums, WAY: tl.constexpr):
    """Units of 1 in the window."""
    if WAY == _FINE:
        return sums.shared_scale
    else:
        return sums.shared_scale * (_MOST_OF_WINDOW // _MOST)
