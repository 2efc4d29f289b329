"""Minimum counts of users and items, together, to their fixed point (a k-core where both are k)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from behavior.arrow.coded import codes_of, looked_up
from behavior.runtime import scratch
from behavior.runtime.compiled import compiled
from behavior.spec.dataset_spec import DatasetSpec
from behavior.steps.sequences import flat, keep_events, offsets_of


def core_behaviors(spec: DatasetSpec) -> list[int] | None:
    """Ids of the behaviors that count for minimum counts; None: all."""
    names = spec.filters.core_behaviors
    return None if names is None else [spec.behavior_names.index(name) + 1 for name in names]


def core_items(
    partitions: Iterable[pa.Table],
    min_user_events: int,
    min_item_events: int,
    behaviors: Sequence[int] | None = None,
) -> pa.Array:
    """Items of the core: what is left when users and items with too few events are dropped to a fixed point.

    The core does not depend on the order of removal. Users need no list of their own: a user survives
    where enough of their events are on surviving items.

    Args:
        partitions: sequences (see `behavior.steps.sequences.build_sequences`); each user in one of them only.
            Of each event four bytes are kept, in a file.
        min_user_events: events a user needs.
        min_item_events: events an item needs.
        behaviors: ids of the behaviors whose events count; None: all.

    Returns:
        Raw ids of the surviving items.
    """
    known: pa.Array | None = None
    bounds, edges = scratch.Aside(), scratch.Aside()
    for sequences in partitions:
        codes, distinct = codes_of(flat(sequences, "item"))
        if known is None:
            known = distinct
        else:
            known = pa.concat_arrays([known, distinct.filter(pc.invert(pc.is_in(distinct, value_set=known)))])
        places = pc.index_in(distinct, value_set=known).to_numpy().astype(np.int32)
        counting = _counting(sequences, behaviors)
        bounds.append(np.concatenate(([0], np.cumsum(counting)))[offsets_of(sequences)])
        edges.append(looked_up(places, codes)[counting])
    if known is None:
        raise ValueError("there are no sequences to filter")
    alive = np.ones(len(known), bool)
    while True:
        counts = np.zeros(len(known), np.int64)
        for offsets, codes in zip(bounds, edges, strict=True):
            _count_alive(offsets, codes, alive, min_user_events, counts)
        still = alive & (counts >= min_item_events)
        if (still == alive).all():
            return known.filter(pa.array(alive))
        alive = still


def keep_core(
    sequences: pa.Table, items: pa.Array, min_user_events: int, behaviors: Sequence[int] | None = None
) -> pa.Table:
    """Drop events on items that did not survive, then users with too few events that count."""
    codes, distinct = codes_of(flat(sequences, "item"))
    alive = pc.is_in(distinct, value_set=items).to_numpy(zero_copy_only=False)
    kept = keep_events(sequences, looked_up(alive, codes))
    counted = np.concatenate(([0], np.cumsum(_counting(kept, behaviors))))
    lengths = np.diff(counted[offsets_of(kept)])
    return kept.filter(pa.array(lengths >= min_user_events)).combine_chunks()


def _counting(sequences: pa.Table, behaviors: Sequence[int] | None) -> np.ndarray:
    """Whether an event counts. [events] bool"""
    if behaviors is None:
        return np.ones(int(offsets_of(sequences)[-1]), np.bool_)
    return np.isin(flat(sequences, "behavior").to_numpy(), np.array(behaviors, np.int8))


@compiled
def _count_alive(
    offsets: np.ndarray,
    codes: np.ndarray,
    alive: np.ndarray,
    min_user_events: int,
    counts: np.ndarray,
) -> None:
    """Add to `counts` the events on living items of the users who have enough of them."""
    for user in range(len(offsets) - 1):
        events = 0
        for place in range(offsets[user], offsets[user + 1]):
            events += alive[codes[place]]
        if events >= min_user_events:
            for place in range(offsets[user], offsets[user + 1]):
                if alive[codes[place]]:
                    counts[codes[place]] += 1
