"""Sums for the time table's gradient in shared memory: what the pairs of a tile give to time buckets.

Triton has no addition of many numbers to a few in shared memory, so this is inline assembly: a program has
an int32 for each bucket and each thread of a warp, so that no two threads of a warp meet, and integers come
out the same in any order. Where each pair of a tile has a bucket of its own, a pair costs a conversion and
one addition, however many buckets a tile has; where many share one, each thread adds up its own before.
Before sums can overflow they are flushed to those of the head in global memory.

Buckets are those of differences that fit into int32, 0 to 71. With inputs of float32 sums have twice as many
digits, in two halves.

No thread may hold what another holds, too: it would be added twice. With tiles that are too small for their
warps to make sure of that, and interpreted, on the CPU, Triton itself adds all where the sums go (`way`).
"""
# mypy: allow-untyped-defs
# ruff: noqa: N803, N806

from __future__ import annotations

import triton
import triton.language as tl

from models.attention.bias import BUCKET_STARTS
from models.gpu import fast_launch
from models.gpu.interpreter import INTERPRETED
from models.gpu.tile_shape import TileShape

BUCKETS = 72
"""Of differences below 2^31."""
assert BUCKET_STARTS[BUCKETS - 1] < 2**31 <= BUCKET_STARTS[BUCKETS]
MOST = 2**20
"""What the largest amount there can be is in these sums; in those of two halves as many times that."""
TILES = 15
"""After so many tiles sums are flushed: a tile gives a thread's sum 128 amounts at most, 64 x 64 over 32."""
assert TILES * 128 * MOST < 2**31
PLAIN, COARSE, FINE = 0, 1, 2
"""Ways: by Triton itself, in global memory; in shared memory; there with twice as many digits."""
_COUNTS = {COARSE: 8, FINE: 4}  # Numbers of a tile that each thread adds up before
_ROW = 128  # bytes: an int32 for each thread of a warp
_HALF = BUCKETS * _ROW
WINDOW_HALF = 4096
"""Bytes behind these sums, for each half, that a window of positions takes (`shared_window`)."""
_PLAIN, _FINE, _TILES, _MOST = (
    tl.constexpr(PLAIN),
    tl.constexpr(FINE),
    tl.constexpr(TILES),
    tl.constexpr(MOST),
)
_HALF_BYTES = tl.constexpr(_HALF)
_ROW_BYTES, _EIGHT, _FOUR = tl.constexpr(_ROW), tl.constexpr(_COUNTS[COARSE]), tl.constexpr(_COUNTS[FINE])


def way(shape: TileShape, element_size: int, timed: bool, chained: bool) -> int:
    """How a kernel with tiles of this shape sums: PLAIN, COARSE or FINE.

    Args:
        shape: a tile's queries and keys.
        element_size: bytes of a number of q.
        timed: whether there is a time table.
        chained: whether scores are a product of which another product is made: the compiler then gives rows
            to warps, 16 each, and nothing else, where otherwise they share columns, too.
    """
    if chained:
        # However the matrix units divide a tile among warps: 16 rows each, 8 columns each, or in between.
        held_once = 16 * shape.warps <= shape.tile <= 128 and 8 * shape.warps <= shape.stream
    else:
        held_once = shape.tile == 64 and 8 * shape.warps // 4 <= shape.stream
    if (
        INTERPRETED
        or not fast_launch.is_tested()
        or not held_once
        or (timed and shape.tile * shape.stream > 64 * 64)
    ):
        return PLAIN
    return COARSE if element_size == 2 else FINE


def joined(*lines: str) -> tl.constexpr:
    return tl.constexpr("{ " + " ".join(lines) + " }")


def _begin(halves: int) -> tl.constexpr:
    """All zero, and the place of a thread's sums."""
    size = halves * (_HALF + WINDOW_HALF)
    return joined(
        f".shared .align 1024 .b8 sums[{size}];",
        ".reg .u32 place, end, step, zero; .reg .pred done;",
        f"mov.u32 $0, sums; add.u32 end, $0, {size}; mov.u32 zero, 0;",
        "mov.u32 place, %tid.x; shl.b32 place, place, 4; add.u32 place, place, $0;",
        "mov.u32 step, %ntid.x; shl.b32 step, step, 4;",
        "NEXT: setp.ge.u32 done, place, end; @done bra DONE;",
        "st.shared.v4.u32 [place], {zero, zero, zero, zero}; add.u32 place, place, step; bra NEXT;",
        "DONE: mov.u32 place, %laneid; shl.b32 place, place, 2; add.u32 $0, $0, place;",
    )


def add_amount(halves: int, place: str, half: int, below: bool = False) -> str:
    """Assembly: add the float32 `amount` at a place, whose other half is so many bytes further; `below`: and
    take it from the bucket below."""
    places = [f"{place}", f"{place}+-{_ROW}"] if below else [place]
    if halves == 1:
        texts = [".reg .s32 n; cvt.rni.s32.f32 n, amount;"]
        for number, each in enumerate(places):
            texts += ["neg.s32 n, n;"] * number + [f"red.shared.add.u32 [{each}], n;"]
    else:
        texts = [".reg .s64 wide, upper; .reg .u32 n; cvt.rni.s64.f32 wide, amount;"]
        for number, each in enumerate(places):
            texts += ["neg.s64 wide, wide;"] * number
            texts += [f"shr.s64 upper, wide, {MOST.bit_length() - 1}; cvt.u32.u64 n, upper;"]
            texts += [f"red.shared.add.u32 [{each}], n; cvt.u32.u64 n, wide; and.b32 n, n, {MOST - 1};"]
            texts += [f"red.shared.add.u32 [{each}+{half}], n;"]
    return " ".join(texts)


def _pair(halves: int) -> tl.constexpr:
    return joined(".reg .f32 amount; mul.f32 amount, $2, $3;", add_amount(halves, "$1", _HALF))


def _several(count: int, halves: int, beyond: bool) -> tl.constexpr:
    """All of a thread's `count` amounts at one place; `beyond`: of those that lie beyond a boundary."""
    place, scale = f"${count}", f"${(4 if beyond else 3) * count}"
    texts = [".reg .f32 amount; mov.f32 amount, 0f00000000;"]
    for number in range(2 * count, 3 * count):
        if beyond:
            texts += [f"fma.rn.f32 amount, ${number}, ${number + count}, amount;"]
        else:
            texts += [f"add.f32 amount, amount, ${number};"]
    return joined(*texts, f"mul.f32 amount, amount, {scale};", add_amount(halves, place, _HALF, below=beyond))


def _constraints(count: int, floats: int) -> tl.constexpr:
    return tl.constexpr(",".join(["=r"] * count + ["r"] * count + ["f"] * count * floats))


# Each gives as many numbers as it takes places, since it must; nobody wants them. Several have one place.
_PAIR_COARSE, _PAIR_FINE = _pair(1), _pair(2)
_ALIKE_COARSE, _ALIKE_FINE = _several(_COUNTS[COARSE], 1, False), _several(_COUNTS[FINE], 2, False)
_BEYOND_COARSE, _BEYOND_FINE = _several(_COUNTS[COARSE], 1, True), _several(_COUNTS[FINE], 2, True)
_OF_ALIKE_COARSE, _OF_ALIKE_FINE = _constraints(_COUNTS[COARSE], 2), _constraints(_COUNTS[FINE], 2)
_OF_BEYOND_COARSE, _OF_BEYOND_FINE = _constraints(_COUNTS[COARSE], 3), _constraints(_COUNTS[FINE], 3)
_FAR = joined(
    ".reg .s64 n; .reg .f32 amount; mul.f32 amount, $2, $3; cvt.rni.s64.f32 n, amount;",
    "red.relaxed.gpu.global.add.u64 [$1], n;",
)


def _flush(halves: int) -> tl.constexpr:
    """A thread has a bucket. All begin at another of a row's eight parts, so that they do not meet."""
    upper = f"shl.b64 units, units, {MOST.bit_length() - 1};"
    return joined(
        # Not Triton's barrier: it reads no tiles ahead in a loop that has one.
        "bar.sync 0;",
        ".reg .u32 bucket, row, part, place, zero, threads; .reg .s32 n<4>; .reg .s64 units, more;",
        ".reg .u64 target; .reg .f64 amount, worth; .reg .pred done, none;",
        "mov.u32 zero, 0; mov.u32 bucket, %tid.x; mov.u32 threads, %ntid.x; cvt.f64.f32 worth, $3;",
        f"NEXT: setp.ge.u32 done, bucket, {BUCKETS}; @done bra DONE;",
        f"and.b32 row, $1, {-_ROW}; mad.lo.u32 row, bucket, {_ROW}, row; mov.s64 units, 0;",
        *(
            (upper if half == 1 and number == 0 else "")
            + f"add.u32 part, bucket, {number}; and.b32 part, part, 7; mad.lo.u32 place, part, 16, row; "
            f"ld.shared.v4.u32 {{n0, n1, n2, n3}}, [place+{half * _HALF}]; "
            f"st.shared.v4.u32 [place+{half * _HALF}], {{zero, zero, zero, zero}};"
            + " ".join(f"cvt.s64.s32 more, n{each}; add.s64 units, units, more;" for each in range(4))
            for half in range(halves)
            for number in range(8)
        ),
        "setp.eq.s64 none, units, 0;",
        "cvt.rn.f64.s64 amount, units; mul.f64 amount, amount, worth; cvt.rzi.s64.f64 units, amount;",
        "mul.wide.u32 target, bucket, 8; add.u64 target, target, $2;",
        "@!none red.relaxed.gpu.global.add.u64 [target], units;",
        "add.u32 bucket, bucket, threads; bra NEXT;",
        "DONE: mov.u32 $0, 0; bar.sync 0;",
    )


_BEGIN_COARSE, _BEGIN_FINE = _begin(1), _begin(2)
_FLUSH_COARSE, _FLUSH_FINE = _flush(1), _flush(2)


@triton.jit
def begin_shared_sums(anything, WAY: tl.constexpr):
    """Where a thread's sums begin in shared memory, all zero; given any int32. Once in a kernel."""
    if WAY == _PLAIN:
        return anything
    else:
        HOW: tl.constexpr = _BEGIN_FINE if WAY == _FINE else _BEGIN_COARSE
        begin = tl.inline_asm_elementwise(HOW, "=r,r", [anything], dtype=tl.int32, is_pure=False, pack=1)
        tl.debug_barrier()
        return begin


@triton.jit
def window_begin(begin, WAY: tl.constexpr):
    """Where in shared memory the window of positions begins, given where a thread's sums do."""
    return (begin & -_ROW_BYTES) + (2 * _HALF_BYTES if WAY == _FINE else _HALF_BYTES)


@triton.jit
def add_pairs(dscores, found, far, sums, WAY: tl.constexpr):
    """Add each pair's amount to its bucket, `found`; `far` says that buckets may be 72 and above."""
    if WAY == _PLAIN:
        tl.atomic_add(sums.time + found, (dscores * sums.scale).to(tl.int64), sem="relaxed")
    else:
        if far:
            _add_to_head(dscores, found, sums)
        else:
            HOW: tl.constexpr = _PAIR_FINE if WAY == _FINE else _PAIR_COARSE
            place = sums.shared + found * _ROW_BYTES
            tl.inline_asm_elementwise(
                HOW, "=r,r,f,f", [place, dscores, sums.shared_scale], dtype=tl.int32, is_pure=False, pack=1
            )


@triton.jit
def _add_to_head(dscores, found, sums):
    """Without sums in shared memory: slow."""
    place = sums.time.to(tl.int64) + 8 * found.to(tl.int64)
    tl.inline_asm_elementwise(
        _FAR, "=r,l,f,f", [place, dscores, sums.scale], dtype=tl.int32, is_pure=False, pack=1
    )


@triton.jit
def add_alike(dscores, bucket, sums, WAY: tl.constexpr):
    """Add all of a tile to one bucket."""
    if WAY == _PLAIN:
        tl.atomic_add(sums.time + bucket, (tl.sum(dscores) * sums.scale).to(tl.int64), sem="relaxed")
    else:
        HOW: tl.constexpr = _ALIKE_FINE if WAY == _FINE else _ALIKE_COARSE
        OF: tl.constexpr = _OF_ALIKE_FINE if WAY == _FINE else _OF_ALIKE_COARSE
        COUNT: tl.constexpr = _FOUR if WAY == _FINE else _EIGHT
        place = sums.shared + bucket * _ROW_BYTES
        tl.inline_asm_elementwise(
            HOW, OF, [place, dscores, sums.shared_scale], dtype=tl.int32, is_pure=False, pack=COUNT
        )


@triton.jit
def move_beyond(dscores, beyond, bucket, sums, WAY: tl.constexpr):
    """Add what lies beyond a bucket's lower boundary, where `beyond` is 1 and not 0, and take it from the
    bucket below."""
    if WAY == _PLAIN:
        total = (tl.sum(dscores * beyond) * sums.scale).to(tl.int64)
        tl.atomic_add(sums.time + bucket, total, sem="relaxed")
        tl.atomic_add(sums.time + bucket - 1, -total, sem="relaxed")
    else:
        HOW: tl.constexpr = _BEYOND_FINE if WAY == _FINE else _BEYOND_COARSE
        OF: tl.constexpr = _OF_BEYOND_FINE if WAY == _FINE else _OF_BEYOND_COARSE
        COUNT: tl.constexpr = _FOUR if WAY == _FINE else _EIGHT
        place = sums.shared + bucket * _ROW_BYTES
        tl.inline_asm_elementwise(
            HOW, OF, [place, dscores, beyond, sums.shared_scale], dtype=tl.int32, is_pure=False, pack=COUNT
        )


@triton.jit
def flush_if_full(tiles, sums, WAY: tl.constexpr):
    """The number of tiles added since the last flush, given that before the next one."""
    if tiles >= _TILES:
        flush_shared_sums(sums, WAY)
        tiles = tl.zeros_like(tiles)
    return tiles


@triton.jit
def flush_shared_sums(sums, WAY: tl.constexpr):
    """Add all sums to those of the head, and begin with zeros again."""
    if WAY != _PLAIN:
        HOW: tl.constexpr = _FLUSH_FINE if WAY == _FINE else _FLUSH_COARSE
        tl.inline_asm_elementwise(
            HOW, "=r,r,l,f", [sums.shared, sums.time.to(tl.int64), sums.scale / sums.shared_scale],
            dtype=tl.int32, is_pure=False, pack=1,
        )  # fmt: skip


@triton.jit
def shared_sums_scale(scale, limit, WAY: tl.constexpr):
    """Units of 1 in these sums, given those in the head's, and how many there the largest amount may be."""
    if WAY == _FINE:
        return scale * (_MOST / limit) * _MOST
    else:
        return scale * (_MOST / limit)
