"""Which keys a query sees: for pairs, and as ranges of tiles.

MASK says how much of a mask there is: CAUSAL, a WINDOW too, or RICH: all that `models.attention.masks.Mask`
and queries that are only last tokens can say. A `rule` is `kernel_arguments.MaskRule`.
"""
# mypy: allow-untyped-defs
# ruff: noqa: N803

from __future__ import annotations

import triton
import triton.language as tl

from models.attention.silu.kernel_arguments import MaskRule, TileRanges

CAUSAL, WINDOW, RICH = 0, 1, 2
_WINDOW = tl.constexpr(WINDOW)
_RICH = tl.constexpr(RICH)


@triton.jit
def load_rule(rules, num_sequences, sequence, start, length, window, front, context, MASK: tl.constexpr):
    """The rule of a sequence, and the row of q (int64) at which its place 0 is, or would be."""
    if MASK == _RICH:
        history = tl.load(rules + sequence).to(tl.int32)
        row = tl.load(rules + num_sequences + sequence)
        skip = tl.load(rules + 2 * num_sequences + sequence).to(tl.int32)
        return MaskRule(window, front, context, history, skip), row
    else:
        return MaskRule(window, front, context, length, length * 0), start


@triton.jit
def logical_position(place, rule):
    """Of a token: its index in the sequence, but for context and candidates."""
    return tl.maximum(tl.minimum(place, rule.history) - tl.maximum(rule.context - 1, 0), 0)


@triton.jit
def keeps_distance(query_index, key_index, rule):
    """Whether two tokens stand as far apart as their places are."""
    shift = rule.context - 1
    return (key_index >= shift) & (query_index >= shift) & (query_index <= rule.history)


@triton.jit
def is_visible(query_index, key_index, rule, MASK: tl.constexpr):
    """Whether a query sees a key."""
    if MASK == _RICH:
        apart = logical_position(query_index, rule) - logical_position(key_index, rule)
        near = (apart > 0) & ((apart < rule.window) | (key_index < rule.front))
        return near | (query_index == key_index) | ((query_index < rule.context) & (key_index < rule.context))
    elif MASK == _WINDOW:
        return (query_index >= key_index) & (query_index - key_index < rule.window)
    else:
        return query_index >= key_index


# A program goes through one range of columns, in which there may be a range of tiles that all of its rows
# see, or are seen by; and, with a rich mask, through two ranges apart from it, where all tiles need the mask.


@triton.jit
def key_ranges(first, length, rule, QUERIES: tl.constexpr, KEYS: tl.constexpr, MASK: tl.constexpr):
    """Of a tile of queries: the keys that it has to do with, `TileRanges`."""
    end = tl.minimum(first + QUERIES, length)
    whole_end = (first + 1) // KEYS * KEYS
    # Rows past the end of the sequence are farther from the first keys than any position table reaches.
    near = tl.minimum(length, rule.window)
    if MASK == _RICH:
        window, front, context, history, _ = rule
        shift = tl.maximum(context - 1, 0)
        # Where tokens stand as far apart as their places are, masks are those of a window, front aside.
        steady = (first >= context) & (end <= history + 1)
        whole_begin = tl.maximum(first + QUERIES - near, shift)
        whole_begin = tl.minimum((whole_begin + KEYS - 1) // KEYS * KEYS, whole_end)
        # The first keys near the tile's first query; all before them that may be seen is the front.
        begin = tl.maximum(logical_position(first, rule) - window + 1 + shift, 0) // KEYS * KEYS
        begin = tl.where(first < context, 0, begin)
        front_end = tl.minimum((front + KEYS - 1) // KEYS * KEYS, begin)
        end = tl.where(first < context, tl.maximum(end, tl.minimum(context, length)), end)
        # Candidates see the history, then only themselves.
        past = tl.where(first > history, (history + KEYS - 1) // KEYS * KEYS, end)
        own = tl.where(first > history, tl.maximum(first // KEYS * KEYS, past), end)
        whole_begin, whole_end = tl.where(steady, whole_begin, past), tl.where(steady, whole_end, past)
        return TileRanges(begin, past, whole_begin, whole_end, (0, front_end, own, end))
    else:
        begin = 0
        if MASK == _WINDOW:
            begin = tl.maximum(first - rule.window + 1, 0) // KEYS * KEYS
        whole_begin = tl.maximum(first + QUERIES - near + KEYS - 1, 0) // KEYS * KEYS
        whole_begin = tl.minimum(whole_begin, whole_end)
        return TileRanges(begin, end, whole_begin, whole_end, (0, 0, 0, 0))


@triton.jit
def part_of_ranges(ranges, length, part, parts, KEYS: tl.constexpr):
    """Of the `key_ranges` with a rich mask, what one of several programs goes through, all of it with the
    mask: tiles of equal shares of the sequence."""
    share = ((length + KEYS - 1) // KEYS + parts - 1) // parts * KEYS
    low = part * share
    high = low + share
    begin, end, _, _, apart = ranges
    begin, end = tl.maximum(begin, low), tl.minimum(end, high)
    return TileRanges(
        begin, end, end, end,
        (
            tl.maximum(apart[0], low), tl.minimum(apart[1], high),
            tl.maximum(apart[2], low), tl.minimum(apart[3], high),
        ),
    )  # fmt: skip


@triton.jit
def query_ranges(first, length, rule, QUERIES: tl.constexpr, KEYS: tl.constexpr, MASK: tl.constexpr):
    """Like `key_ranges`, of the queries that see a tile of keys; a sequence's end needs the mask as well."""
    begin = first // QUERIES * QUERIES
    end = length
    whole_begin = first + KEYS - 1
    whole_end = length
    if MASK == _RICH:
        window, front, context, history, skip = rule
        far = first + KEYS - 1 + window
        end = tl.where((far > history) | (first < front), length, tl.minimum(far, length))
        end = tl.where((first >= history) & (first >= context), tl.minimum(first + KEYS, length), end)
        begin = tl.where(first < context, 0, begin)
        begin = tl.maximum(begin, skip // QUERIES * QUERIES)
        whole_begin = tl.maximum(whole_begin, tl.maximum(context, skip))
        whole_end = tl.minimum(whole_end, tl.minimum(history + 1, first + window))
        whole_end = tl.where(first >= context - 1, whole_end, 0)
    elif MASK == _WINDOW:
        end = tl.minimum(length, first + KEYS - 1 + rule.window)
        whole_end = tl.minimum(whole_end, first + rule.window)
    whole_end = whole_end // QUERIES * QUERIES
    whole_begin = tl.minimum((whole_begin + QUERIES - 1) // QUERIES * QUERIES, end)
    whole_begin = tl.where(whole_begin > whole_end, end, whole_begin)
    return TileRanges(begin, end, whole_begin, tl.maximum(whole_end, whole_begin), (0, 0, 0, 0))


@triton.jit
def masked_ranges(ranges, SPLIT: tl.constexpr, MASK: tl.constexpr):
    """The ranges to go through with the mask, begin and end each: with SPLIT without the whole tiles."""
    if SPLIT:
        masked = (ranges.begin, ranges.whole_begin, ranges.whole_end, ranges.end)
    else:
        masked = (ranges.begin, ranges.end)  # type: ignore[assignment]
    if MASK == _RICH:
        masked = masked + ranges.apart
    return masked


@triton.jit
def count_tiles(begin, end, SIZE: tl.constexpr):
    return (tl.maximum(end - begin, 0) + SIZE - 1) // SIZE


@triton.jit
def count_tiles_of(ranges, SIZE: tl.constexpr):
    """Tiles in all ranges, begin and end each."""
    total = count_tiles(ranges[0], ranges[1], SIZE)
    for number in tl.static_range(1, len(ranges) // 2):
        total += count_tiles(ranges[2 * number], ranges[2 * number + 1], SIZE)
    return total


@triton.jit
def place_of_tile(ranges, number, SIZE: tl.constexpr):
    """The first column of a tile, numbered through all ranges one after the other."""
    place = ranges[0] + number * SIZE
    before = count_tiles(ranges[0], ranges[1], SIZE)
    for later in tl.static_range(1, len(ranges) // 2):
        place = tl.where(number < before, place, ranges[2 * later] + (number - before) * SIZE)
        before += count_tiles(ranges[2 * later], ranges[2 * later + 1], SIZE)
    return place
