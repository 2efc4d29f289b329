"""Sequences: one row a user, events sorted by time, ties in input order."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from behavior.arrow.coded import codes_of, encoded, looked_up
from behavior.arrow.columns import filtered, joined, taken
from behavior.runtime import scratch
from behavior.runtime.compiled import compiled
from behavior.spec.dataset_spec import DatasetSpec
from behavior.steps.order import stable_order

USER = "user"
ITEM = "item"


def build_sequences(batches: Iterable[pa.RecordBatch], spec: DatasetSpec) -> pa.Table:
    """Group events by user and sort each user's by time.

    The sort is stable: events with equal timestamps stay in input order. Users come in order of their ids.

    Args:
        batches: canonical events in input order (see `behavior.steps.events.event_schema`).
        spec: for its filters on duplicates and repeats.

    Returns:
        A row a user: `user`, and a list column for every other event column. Lists have 64-bit offsets; items
        and text are dictionary-encoded.
    """
    table = pa.Table.from_batches(batches)
    users, codes = _users_by_id(table.column(USER))
    times = _numbers(table, "timestamp") if spec.has_time else np.zeros(0, np.int64)
    order, offsets = stable_order(codes, times, len(users))
    columns = {}
    for name in table.column_names:
        if name != USER:
            column = table.column(name)
            coded = name == ITEM or pa.types.is_string(column.type) or pa.types.is_dictionary(column.type)
            columns[name] = taken(encoded(column) if coded else joined(column), order)
    sequences = nest(users, columns, offsets)
    for drop, mask in ((spec.filters.duplicates, _first_of_copies), (spec.filters.repeats, _not_as_before)):
        if drop:
            sequences = keep_events(sequences, mask(sequences))
    return sequences


def _users_by_id(column: pa.ChunkedArray) -> tuple[pa.Array, np.ndarray]:
    """Distinct users in the order of their ids, and each row's index into them."""
    codes, found = codes_of(encoded(column))
    order = pc.array_sort_indices(found)
    rank = np.empty(len(found), np.int32)
    rank[order.to_numpy()] = np.arange(len(found), dtype=np.int32)
    return found.take(order), looked_up(rank, codes)


def offsets_of(sequences: pa.Table, column: str = "item") -> np.ndarray:
    """Where each sequence begins in the flat columns of `flat`. [users + 1] int64"""
    lengths = pc.list_value_length(sequences.column(column)).to_numpy()
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


def flat(sequences: pa.Table, column: str) -> pa.Array:
    """All values of a list column, one sequence after the other."""
    return joined(pc.list_flatten(sequences.column(column)))


def keep_events(sequences: pa.Table, keep: np.ndarray) -> pa.Table:
    """Drop the events whose `keep` is false, and then the users without events.

    Args:
        sequences: as `build_sequences` gives them.
        keep: [events] bool, in the order of the flat columns.
    """
    if keep.all():
        return sequences
    offsets = offsets_of(sequences)
    kept = _kept_before(offsets, keep)
    has_events = np.diff(kept) > 0
    users = joined(sequences.column(USER)).filter(pa.array(has_events))
    columns = {
        name: filtered(flat(sequences, name), keep, int(kept[-1]))
        for name in sequences.column_names
        if name != USER
    }
    return nest(users, columns, np.concatenate((kept[:1], kept[1:][has_events])))


@compiled
def _kept_before(offsets: np.ndarray, keep: np.ndarray) -> np.ndarray:
    """How many events are kept before each sequence, and in all. [users + 1] int64"""
    kept = np.zeros(len(offsets), np.int64)
    for user in range(len(offsets) - 1):
        own = 0
        for event in range(offsets[user], offsets[user + 1]):
            own += keep[event]
        kept[user + 1] = kept[user] + own
    return kept


def newest(sequences: pa.Table, limit: int) -> np.ndarray:
    """Mask of the newest `limit` events of each user. [events] bool"""
    offsets = offsets_of(sequences)
    mask = first_events(offsets, np.maximum(np.diff(offsets) - limit, 0))
    return np.logical_not(mask, out=mask)


def first_events(offsets: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Mask of the first `counts` events of each sequence. [events] bool

    Args:
        offsets: [users + 1] int64
        counts: [users], no more than each sequence has.
    """
    return _mark_first(offsets, counts, scratch.empty(int(offsets[-1]), np.bool_))


@compiled
def _mark_first(offsets: np.ndarray, counts: np.ndarray, mask: np.ndarray) -> np.ndarray:
    for user in range(len(counts)):
        mask[offsets[user] : offsets[user] + counts[user]] = True
        mask[offsets[user] + counts[user] : offsets[user + 1]] = False
    return mask


@compiled
def session_numbers(offsets: np.ndarray, times: np.ndarray, gap: int) -> np.ndarray:
    """Number of the session each event belongs to, from 0 in each sequence. [events] int32

    A session ends where the next event comes more than `gap` ticks later.

    Args:
        offsets: [users + 1] int64
        times: ascending within each sequence. [events] int64
        gap: in the unit of `times`.
    """
    numbers = np.zeros(len(times), np.int32)
    for user in range(len(offsets) - 1):
        for event in range(offsets[user] + 1, offsets[user + 1]):
            numbers[event] = numbers[event - 1] + (times[event] - times[event - 1] > gap)
    return numbers


@compiled
def numbers_by_first(offsets: np.ndarray, codes: np.ndarray, distinct: int) -> np.ndarray:
    """Numbers of the values of each sequence, from 0, in the order in which they first come. [events] int32

    Args:
        offsets: [users + 1] int64
        codes: of the values. [events] int32
        distinct: number of codes.
    """
    result = np.zeros(len(codes), np.int32)
    owner, number = np.full(distinct, -1, np.int64), np.zeros(distinct, np.int32)
    for user in range(len(offsets) - 1):
        found = 0
        for event in range(offsets[user], offsets[user + 1]):
            code = codes[event]
            if owner[code] != user:
                owner[code], number[code] = user, found
                found += 1
            result[event] = number[code]
    return result


def nest(users: pa.Array, columns: dict[str, pa.Array], offsets: np.ndarray) -> pa.Table:
    """Flat columns as lists, one a user; the inverse of `flat` and `offsets_of`."""
    bounds = pa.array(offsets, pa.int64())
    lists = {name: pa.LargeListArray.from_arrays(bounds, values) for name, values in columns.items()}
    return pa.table({USER: users, **lists})


def _first_of_copies(sequences: pa.Table) -> np.ndarray:
    """Mask without exact duplicates: the first of each stays. [events] bool"""
    offsets = offsets_of(sequences)
    names = [name for name in sequences.column_names if name != USER]
    rows = np.arange(int(offsets[-1]))
    if "timestamp" in names:
        # Copies are of one time, and thus neighbors: all others are spared the sort.
        rows = np.flatnonzero(_among_equals(offsets, flat(sequences, "timestamp").to_numpy()))
    keys = [np.searchsorted(offsets, rows, side="right")]
    keys += [_codes(flat(sequences, name).take(pa.array(rows))) for name in names]
    order = np.lexsort(keys[::-1])
    copies = np.ones(max(len(order) - 1, 0), bool)
    for key in keys:
        copies &= key[order][1:] == key[order][:-1]
    keep = np.ones(int(offsets[-1]), bool)
    keep[rows[order[1:][copies]]] = False
    return keep


@compiled
def _among_equals(offsets: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Whether an event's value is that of the sequence's event before or after. [events] bool"""
    found = np.zeros(len(values), np.bool_)
    for user in range(len(offsets) - 1):
        for event in range(offsets[user] + 1, offsets[user + 1]):
            if values[event] == values[event - 1]:
                found[event - 1 : event + 1] = True
    return found


def _not_as_before(sequences: pa.Table) -> np.ndarray:
    """Mask without events on the item of the user's event before. [events] bool"""
    items = _codes(flat(sequences, "item"))
    keep = np.ones(len(items), bool)
    keep[1:] = items[1:] != items[:-1]
    begins = offsets_of(sequences)[:-1]
    keep[begins[begins < len(keep)]] = True
    return keep


def _codes(values: pa.Array) -> np.ndarray:
    return codes_of(values)[0]


def _numbers(table: pa.Table, name: str) -> np.ndarray:
    return joined(table.column(name)).to_numpy()
