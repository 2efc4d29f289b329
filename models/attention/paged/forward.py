"""Attention whose queries read keys and values where they are: in the pages of a cache.

One program a tile of queries and a head, or several of them, each with a part of the keys. A tile's queries
are events, which see those before them, or candidates, which see the whole history, and then, out of a tensor
of their own, themselves.
"""
# mypy: allow-untyped-defs
# ruff: noqa: N803, N806

from __future__ import annotations

import triton
import triton.language as tl

from models.attention.paged.arguments import FIRST_PEAK, HIDDEN
from models.attention.paged.pointwise import silu
from models.attention.paged.prefetching import ahead
from models.attention.paged.scores import score_pairs, seconds_of_queries, span_of_keys
from models.attention.paged.seconds import rows_of_places
from models.attention.silu.activation import activate
from models.attention.silu.kernel_arguments import MaskRule
from models.attention.silu.masking import RICH, count_tiles_of, key_ranges, masked_ranges, place_of_tile
from models.attention.silu.scheduling import wait_for_product
from models.attention.silu.tile_io import load_rows, store_rows

# Bits of a row's number that are constant in a thread, or may be.
_FAR_ROWS = tl.constexpr(8 + 16 + 32)
_RICH, _HIDDEN, _FIRST_PEAK = tl.constexpr(RICH), tl.constexpr(HIDDEN), tl.constexpr(FIRST_PEAK)
UNSPECIALIZED = (
    "num_users", "table_width", "room", "num_blocks", "last_position", "position_row", "time_row",
    "decay_row", "bias_row", "window", "front", "tiles", "parts", "part_size", "new",
)  # fmt: skip


@triton.jit
def _first_row(table, place, C: tl.constexpr):
    """The row in the pages of a tile's first key, where tiles do not reach over pages."""
    if C.PAGE % C.KEYS == 0:
        return tl.load(table + place // C.PAGE).to(tl.int64) * C.PAGE + place % C.PAGE
    else:
        return tl.full((), 0, tl.int64)


@triton.jit
def _rows(table, first_row, place, history, C: tl.constexpr):
    """[KEYS] rows in the pages."""
    if C.PAGE % C.KEYS == 0:
        return first_row + tl.arange(0, C.KEYS)
    else:
        return rows_of_places(table, tl.minimum(place + tl.arange(0, C.KEYS), history - 1), C.PAGE)


@triton.jit
def _load(
    pages, first_row, table, place, history, AHEAD: tl.constexpr, STRIDE: tl.constexpr, DIM: tl.constexpr,
    WIDTH: tl.constexpr, C: tl.constexpr,
):  # fmt: skip
    """[KEYS, WIDTH] of one head out of pages; zeros past the history."""
    row = tl.arange(0, C.KEYS)
    column = tl.arange(0, WIDTH)[None, :]
    there = (row < history - place)[:, None]
    if DIM < WIDTH:
        there &= column < DIM
    if C.PAGE % C.KEYS == 0:
        # Steps between a thread's rows are constants: one place serves them all (`silu.tile_io.load_rows`).
        places = (pages + first_row * STRIDE) + ((row & ~_FAR_ROWS)[:, None] * STRIDE + column)
        places += (row & _FAR_ROWS)[:, None] * STRIDE
    else:
        places = pages + _rows(table, first_row, place, history, C)[:, None] * STRIDE + column
    return ahead(tl.load(places, mask=there, other=0.0), AHEAD)


@triton.jit
def _add(total, peak, norm, scores, v_tile, C: tl.constexpr):
    """Add a tile of keys, given all scores."""
    if C.SOFTMAX:
        highest = tl.maximum(peak, tl.max(scores, 1))
        shrink = tl.exp2(peak - highest)
        weights = tl.exp2(scores - highest[:, None])
        norm = norm * shrink + tl.sum(weights, 1)
        total = total * shrink[:, None]
        peak = highest
    else:
        weights = activate(scores, False, C.FAST)
    total = wait_for_product(tl.dot(weights.to(v_tile.dtype), v_tile, total, input_precision=C.PRECISION))
    return total, peak, norm


@triton.jit
def _add_events(
    state, q_tile, keys, values, table, begin, stop, ranges, scale, first, end, rule, least, most, position,
    last_position, time, amount, rate, query_seconds, seconds, bounds, num_blocks, query_time, happened,
    boundaries, wide_boundaries, C: tl.constexpr,
):  # fmt: skip
    """Add tiles `begin` to `stop` of keys to queries that are events."""
    total, peak, norm = state
    history = rule.history
    place = place_of_tile(ranges, begin, C.KEYS)
    first_row = _first_row(table, tl.minimum(place, tl.maximum(history - 1, 0)), C)
    span = span_of_keys(time, least, most, bounds, num_blocks, place, history, C.KEYS)
    for number in tl.range(begin, stop):
        next_place = place_of_tile(ranges, number + 1, C.KEYS)
        next_row = _first_row(table, tl.minimum(next_place, history - 1), C)
        next_span = span_of_keys(time, least, most, bounds, num_blocks, next_place, history, C.KEYS)
        k_tile = _load(
            keys, first_row, table, place, history, C.KEYS_AHEAD, C.K_STRIDE, C.QK_DIM, C.QK_WIDTH, C
        )
        products = tl.dot(q_tile, tl.trans(k_tile.to(q_tile.dtype)), input_precision=C.PRECISION)
        scores = score_pairs(
            products, scale, span, first, place, end, rule, position, last_position, time, amount, rate,
            query_seconds, seconds, query_time, happened, _rows(table, first_row, place, history, C),
            boundaries, wide_boundaries, C,
        )  # fmt: skip
        v_tile = _load(
            values, first_row, table, place, history, C.VALUES_AHEAD, C.V_STRIDE, C.V_DIM, C.V_WIDTH, C
        )
        total, peak, norm = _add(total, peak, norm, scores, v_tile.to(q_tile.dtype), C)
        place, first_row, span = next_place, next_row, next_span
    return total, peak, norm


@triton.jit
def _add_history(
    state, q_tile, keys, values, table, begin, stop, ranges, scale, history, rows, C: tl.constexpr
):
    """The same of candidates, given a row of numbers that are added to the scores of all."""
    total, peak, norm = state
    place = place_of_tile(ranges, begin, C.KEYS)
    first_row = _first_row(table, tl.minimum(place, tl.maximum(history - 1, 0)), C)
    for number in tl.range(begin, stop):
        next_place = place_of_tile(ranges, number + 1, C.KEYS)
        next_row = _first_row(table, tl.minimum(next_place, history - 1), C)
        k_tile = _load(
            keys, first_row, table, place, history, C.KEYS_AHEAD, C.K_STRIDE, C.QK_DIM, C.QK_WIDTH, C
        )
        row = tl.load(rows + place + tl.arange(0, C.KEYS))
        products = tl.dot(q_tile, tl.trans(k_tile.to(q_tile.dtype)), input_precision=C.PRECISION)
        scores = products * scale
        if place < history:  # as it always is: what does not branch waits for values before the product
            scores += row[None, :]
        v_tile = _load(
            values, first_row, table, place, history, C.VALUES_AHEAD, C.V_STRIDE, C.V_DIM, C.V_WIDTH, C
        )
        total, peak, norm = _add(total, peak, norm, scores, v_tile.to(q_tile.dtype), C)
        place, first_row = next_place, next_row
    return total, peak, norm


@triton.jit
def _add_themselves(
    state, q_tile, own_key, own_value, key_stride, value_stride, begin, stop, first, end, scale, own,
    STORED: tl.constexpr, C: tl.constexpr,
):  # fmt: skip
    """Add to candidates themselves, rounded as if they were stored."""
    total, peak, norm = state
    for number in tl.range(begin, stop, num_stages=1):
        place = first + number * C.KEYS
        k_tile = load_rows(own_key, key_stride, place, end, C.KEYS, C.QK_DIM, C.QK_WIDTH, True)
        if C.ACTIVATE:
            k_tile = silu(k_tile)
        k_tile = k_tile.to(STORED).to(q_tile.dtype)
        products = tl.dot(q_tile, tl.trans(k_tile), input_precision=C.PRECISION)
        query = (first + tl.arange(0, C.QUERIES))[:, None]
        same = query == (place + tl.arange(0, C.KEYS))[None, :]
        scores = tl.where(same, products * scale + own, _HIDDEN)
        v_tile = load_rows(own_value, value_stride, place, end, C.KEYS, C.V_DIM, C.V_WIDTH, True)
        if C.ACTIVATE:
            v_tile = silu(v_tile)
        total, peak, norm = _add(total, peak, norm, scores, v_tile.to(STORED).to(q_tile.dtype), C)
    return total, peak, norm


@triton.jit(do_not_specialize=UNSPECIALIZED)
def paged_kernel(
    q, ready, own_key, own_value, keys, values, out, stats, users, num_users, table, table_width,
    query_time, query_seconds, happened, seconds, bounds, room, num_blocks, rows, own_row, bias_row,
    position, position_row, last_position, time, time_row, amount, rate, decay_row, boundaries,
    wide_boundaries, q_stride, key_stride, value_stride, window, front, scale, output_scale, tiles, parts,
    part_size, new, C: tl.constexpr,
):  # fmt: skip
    QUERIES: tl.constexpr = C.QUERIES
    KEYS: tl.constexpr = C.KEYS
    V_WIDTH: tl.constexpr = C.V_WIDTH
    tile, head = tl.program_id(0) % tiles, tl.program_id(0) // tiles
    user, part = tl.program_id(1) // parts, tl.program_id(1) % parts
    base, history = tl.load(users + user), tl.load(users + num_users + user)
    row = tl.load(users + 3 * num_users + user).to(tl.int64) - base
    first, end = base + tile * QUERIES, history
    alone = tile < 0
    if C.CANDIDATES:
        before = (history - base + QUERIES - 1) // QUERIES
        alone = tile >= before
        first = tl.where(alone, history + (tile - before) * QUERIES, first)
        end = tl.where(alone, history + tl.load(users + 2 * num_users + user), history)
    if first >= end:
        return
    # Row 0 of these is the sequence's first place, or would be.
    q += row * q_stride + head * C.QK_DIM
    table += user.to(tl.int64) * table_width
    keys += head * C.QK_DIM
    values += head * C.V_DIM
    if position is not None:
        position += head * position_row
    if time is not None:
        time += head * time_row
        query_seconds += row
        seconds += user.to(tl.int64) * room
        bounds += user * (room // 64)
    if amount is not None:
        amount += head * decay_row
        rate += head * decay_row
    if query_time is not None:
        query_time += row
    rule = MaskRule(window, front, C.CONTEXT, history, base)
    q_tile = load_rows(q, q_stride, first, end, QUERIES, C.QK_DIM, C.QK_WIDTH, True)
    if C.ACTIVATE:
        # Written and read again, for the matrix units to have it in shared memory and not in registers, which
        # are full. Programs with other parts of the keys write the same.
        ready += row * (C.HEADS * C.QK_DIM) + head * C.QK_DIM
        store_rows(ready, C.HEADS * C.QK_DIM, first, end, silu(q_tile), QUERIES, C.QK_DIM, C.QK_WIDTH)
        tl.debug_barrier()
        q_tile = load_rows(ready, C.HEADS * C.QK_DIM, first, end, QUERIES, C.QK_DIM, C.QK_WIDTH, True)
    least, most = seconds_of_queries(time, query_seconds, first, end, QUERIES)
    ranges = key_ranges(tl.minimum(first, history), history, rule, QUERIES, KEYS, _RICH)
    ranges = masked_ranges(ranges, False, _RICH)
    paged = count_tiles_of(ranges, KEYS)
    begin, stop = tile * 0, paged
    if C.CANDIDATES:
        stop = paged + tl.where(alone, (tl.minimum(QUERIES, end - first) + KEYS - 1) // KEYS, 0)
    if C.PARTS:
        share = (stop + parts - 1) // parts
        begin = part * share
        stop = tl.minimum(begin + share, stop)
    total = tl.zeros((QUERIES, V_WIDTH), tl.float32)
    peak, norm = tl.full((), 0.0, tl.float32), tl.full((), 0.0, tl.float32)
    if C.SOFTMAX:
        peak, norm = tl.full((QUERIES,), _FIRST_PEAK, tl.float32), tl.zeros((QUERIES,), tl.float32)
    state = total, peak, norm
    if C.CANDIDATES:
        if alone:
            at = (head * bias_row).to(tl.int64) * num_users + user
            state = _add_history(
                state, q_tile, keys, values, table, begin, tl.minimum(stop, paged), ranges, scale, history,
                rows + at * room, C,
            )  # fmt: skip
            state = _add_themselves(
                state, q_tile, own_key + row * key_stride + head * C.QK_DIM,
                own_value + row * value_stride + head * C.V_DIM, key_stride, value_stride,
                tl.maximum(begin - paged, 0), tl.maximum(stop - paged, 0), first, end, scale,
                tl.load(own_row + at), keys.dtype.element_ty, C,
            )  # fmt: skip
        else:
            state = _add_events(
                state, q_tile, keys, values, table, begin, stop, ranges, scale, first, end, rule, least, most,
                position, last_position, time, amount, rate, query_seconds, seconds, bounds, num_blocks,
                query_time, happened, boundaries, wide_boundaries, C,
            )  # fmt: skip
    else:
        state = _add_events(
            state, q_tile, keys, values, table, begin, stop, ranges, scale, first, end, rule, least, most,
            position, last_position, time, amount, rate, query_seconds, seconds, bounds, num_blocks,
            query_time, happened, boundaries, wide_boundaries, C,
        )  # fmt: skip
    total, peak, norm = state
    out_stride = C.HEADS * C.V_DIM
    if C.PARTS:
        out += part.to(tl.int64) * part_size
        if C.SOFTMAX:
            place = first + tl.arange(0, QUERIES)
            at_row = (row + place) * C.HEADS + head
            one = new.to(tl.int64) * C.HEADS
            tl.store(stats + (2 * part) * one + at_row, peak, mask=place < end)
            tl.store(stats + (2 * part + 1) * one + at_row, norm, mask=place < end)
    elif C.SOFTMAX:
        total = total / tl.maximum(norm, 1e-37)[:, None]
    out += row * out_stride + head * C.V_DIM
    store_rows(out, out_stride, first, end, total * output_scale, QUERIES, C.V_DIM, V_WIDTH)
