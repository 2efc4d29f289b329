"""Times as the kernels want them, computed once a batch: 32-bit seconds and their minimum and maximum a block
of 64 tokens; and, when first asked for, the buckets of pairs near the diagonal, and how many tokens lie
beyond each boundary.

Seconds count from 17 years after the first event of the sequence and are clamped to +-2^30, 34 years. Where
that happens the bounds show it, and the kernels go back to the 64-bit times.
"""
# mypy: allow-untyped-defs
# ruff: noqa: N803

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache

import torch
import triton
import triton.language as tl
from torch import Tensor

from models.attention.bias import BUCKET_STARTS, RelativeTime
from models.attention.silu.boundary_counts import count_keys_beyond, count_queries_before
from models.attention.silu.bucket_table import make_bucket_table
from models.attention.silu.buckets import CELLS_BEGIN, MOST, bucket_cells
from models.attention.silu.tile_io import load_tile_entry
from models.attention.silu.tiles import BLOCK, LARGEST_TILE, tile_list
from models.attention.weak_cache import weakly_cached
from models.gpu.launcher import is_deferring, launch
from models.gpu.tile_shape import TileShape

LIMIT = 2**30
_ONE_WARP = TileShape(BLOCK, BLOCK, warps=1, stages=1)


@dataclass(frozen=True, eq=False)
class Times:
    """What the kernels need to know about the times of a batch."""

    query_time: Tensor
    """[tokens] int64"""
    timestamp: Tensor
    """[tokens] int64"""
    seconds: Tensor
    """[2, tokens] int32, of queries and keys."""
    bounds: Tensor
    """[4, blocks] int32: least and greatest second of a block's queries, then of its keys."""
    boundaries: Tensor
    """int32: 129, the least difference of each bucket, 2^31 - 1 for those that int32 cannot reach; and cells,
    see `buckets`."""
    wide_boundaries: Tensor
    """[129] int64: the same, all of them."""
    in_order: Tensor
    """[blocks] int32: bit 0 where `timestamp` does not fall in a block, nor from the block before to it, and
    no query of the block asks before its own token; bit 1 where `query_time` does not fall."""
    blocks: Tensor
    """List of 64-token tiles."""
    _found: dict[Callable[..., Tensor], Tensor] = field(default_factory=dict)

    def bucket_table(self) -> Tensor:
        """[tokens + 128, 2, 48] int32: buckets of pairs of near tokens, see `bucket_table`; a decay needs
        none."""
        return self._once(make_bucket_table)

    def keys_beyond(self) -> Tensor:
        """[tokens + 128, 128] float32, see `crossings.count_keys_beyond`."""
        return self._once(count_keys_beyond, self.in_order)

    def queries_before(self) -> Tensor:
        """[tokens + 128, 128] float32, see `crossings.count_queries_before`."""
        return self._once(count_queries_before, self.in_order)

    def _once(self, find: Callable[..., Tensor], *more: Tensor) -> Tensor:
        found = self._found.get(find)
        if found is None:
            found = find(self.query_time, self.timestamp, self.blocks, self.wide_boundaries, *more)
            # A deferred launch is only compiled, and finds nothing.
            if not is_deferring():
                self._found[find] = found
        return found


@weakly_cached
def times_of(relative_time: RelativeTime) -> Times:
    """Found once a batch and shared by all layers."""
    blocks = tile_list(relative_time.sequences, BLOCK)
    return find_times(_at_places(relative_time), relative_time.timestamp, blocks)


def _at_places(relative_time: RelativeTime) -> Tensor:
    """[tokens] the query time of each token; of those that do not ask, their timestamp."""
    queries = relative_time.queries
    if queries is None:
        return relative_time.query_time
    offsets, kept, times = relative_time.sequences.offsets, queries.offsets, relative_time.timestamp
    if queries.room is not None:
        # Queries that belong to no sequence go behind all tokens.
        number = torch.arange(queries.num_tokens, device=kept.device)
        row = torch.searchsorted(kept[1:], number, right=True).clamp(max=max(queries.num_sequences - 1, 0))
        place = torch.where(number < kept[-1], number + (offsets[1:] - kept[1:])[row], len(times))
        behind = torch.cat([times, times.new_zeros(1)])
        return behind.index_copy(0, place, relative_time.query_time)[: len(times)]
    behind = torch.repeat_interleave(offsets[1:] - kept[1:], kept.diff(), output_size=queries.num_tokens)
    token = torch.arange(queries.num_tokens, device=kept.device) + behind
    return relative_time.timestamp.index_copy(0, token, relative_time.query_time)


def find_times(query_time: Tensor, timestamp: Tensor, blocks: Tensor) -> Times:
    """The same from a list of 64-token tiles."""
    query_time, timestamp = query_time.contiguous(), timestamp.contiguous()
    tokens, count = timestamp.shape[0], blocks.shape[1]
    # Tiles of queries are read whole, though the last one may end past the last token.
    room = torch.empty(2 * tokens + LARGEST_TILE, dtype=torch.int32, device=timestamp.device)
    seconds = room[: 2 * tokens].view(2, tokens)
    bounds = torch.empty((4, count), dtype=torch.int32, device=timestamp.device)
    in_order = torch.empty(count, dtype=torch.int32, device=timestamp.device)
    if count:
        launch(_find_times, (count, 1), _ONE_WARP, {
            "query_time": query_time, "timestamp": timestamp, "seconds": seconds, "bounds": bounds,
            "in_order": in_order, "blocks": blocks, "tokens": tokens, "num_blocks": count, "BLOCK": BLOCK,
            "LIMIT": LIMIT,
        })  # fmt: skip
    boundaries, wide_boundaries = bucket_boundaries(timestamp.device)
    return Times(query_time, timestamp, seconds, bounds, boundaries, wide_boundaries, in_order, blocks)


@lru_cache(maxsize=8)
def bucket_boundaries(device: torch.device) -> tuple[Tensor, Tensor]:
    """int32, with cells behind, and [129] int64, see `Times`."""
    wide = torch.tensor(BUCKET_STARTS, dtype=torch.int64)
    narrow = torch.full((CELLS_BEGIN,), MOST, dtype=torch.int64)
    narrow[: len(wide)] = wide.clamp(max=MOST)
    cells = torch.tensor(bucket_cells(), dtype=torch.int64).flatten()
    return torch.cat([narrow, cells]).to(torch.int32).to(device), wide.to(device)


@triton.jit(do_not_specialize=("tokens", "num_blocks"))
def _find_times(
    query_time,
    timestamp,
    seconds,
    bounds,
    in_order,
    blocks,
    tokens,
    num_blocks,
    BLOCK: tl.constexpr,
    LIMIT: tl.constexpr,
):
    start, length, number, before, _ = load_tile_entry(blocks, num_blocks, tl.program_id(0))
    if length == 0:
        return
    origin = tl.load(timestamp + start) + LIMIT // 2
    # Past the end stands the last event again: it changes no bound.
    place = tl.minimum(number * BLOCK + tl.arange(0, BLOCK), length - 1)
    asked, happened = tl.load(query_time + start + place), tl.load(timestamp + start + place)
    before_it = start + tl.maximum(place - 1, 0)
    keys_ordered = (asked >= happened) & (happened >= tl.load(timestamp + before_it))
    queries_ordered = asked >= tl.load(query_time + before_it)
    bits = tl.min(keys_ordered.to(tl.int32)) + 2 * tl.min(queries_ordered.to(tl.int32))
    tl.store(in_order + before + number, bits)
    queries = _relative(asked, origin, LIMIT)
    keys = _relative(happened, origin, LIMIT)
    tl.store(seconds + start + place, queries)
    tl.store(seconds + tokens + start + place, keys)
    found = bounds + before + number
    tl.store(found, tl.min(queries))
    tl.store(found + num_blocks, tl.max(queries))
    tl.store(found + 2 * num_blocks, tl.min(keys))
    tl.store(found + 3 * num_blocks, tl.max(keys))


@triton.jit
def _relative(time, origin, LIMIT: tl.constexpr):
    return tl.minimum(tl.maximum(time - origin, -LIMIT), LIMIT).to(tl.int32)
