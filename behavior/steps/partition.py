"""From grouped events to the rows of one sequence file: cut, count, index, pack.

A hash partition holds all events of some users (`behavior.arrow.hashing`). These steps are pure functions
of Arrow tables, of one partition each.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from behavior.arrow.coded import codes_of, looked_up
from behavior.arrow.columns import joined, lists_taken
from behavior.arrow.hashing import stable_hash
from behavior.errors import UserError
from behavior.features import Encoder
from behavior.features.vocabulary import IdCounts, Vocabulary
from behavior.packing.pack import pack_lengths
from behavior.spec.dataset_spec import TICKS_PER_SECOND, DatasetSpec, SplitSpec
from behavior.steps.event_features import States, encode_column, fit_features
from behavior.steps.filters import core_behaviors, keep_core
from behavior.steps.keys import separate, split_keys
from behavior.steps.sequences import (
    USER,
    first_events,
    flat,
    keep_events,
    nest,
    newest,
    numbers_by_first,
    offsets_of,
    session_numbers,
)
from behavior.steps.splits import random_split, split_offsets
from behavior.steps.stats import SequenceStats, sequence_stats

USER_DOMAIN = "user_domain"
_SHARD_TYPES = {
    "item": pa.int32(),
    "behavior": pa.int8(),
    "timestamp": pa.int64(),
    "value": pa.float32(),
    "domain": pa.int8(),
}


def cut_sequences(sequences: pa.Table, spec: DatasetSpec, items: pa.Array | None = None) -> pa.Table:
    """Apply the filters that look at the whole log and the cap on events, then the split.

    Args:
        sequences: from `build_sequences`.
        spec: the dataset spec.
        items: keys of the items that survive the minimum counts (`core_items`); None without such filters.

    Returns:
        The sequences that are left, with columns train_end and valid_end (int32, `behavior.steps.splits`).
    """
    if items is not None:
        sequences = keep_core(sequences, items, spec.filters.minimum_counts[0], core_behaviors(spec))
    if spec.max_events is not None:
        sequences = keep_events(sequences, newest(sequences, spec.max_events))
    if spec.split.kind == "random":
        return split_at_random(sequences, spec.split)
    offsets = offsets_of(sequences)
    times = flat(sequences, "timestamp").to_numpy() if spec.has_time else None
    behaviors = flat(sequences, "behavior").to_numpy()
    train_end, valid_end = split_offsets(offsets, behaviors, times, spec)
    return _with_cuts(sequences, train_end, valid_end)


def split_at_random(sequences: pa.Table, split: SplitSpec) -> pa.Table:
    """Events of each user in random order, with the cuts of a random split (`random_split`)."""
    offsets = offsets_of(sequences)
    users = sequences.column(USER).combine_chunks()
    order, train_end, valid_end = random_split(offsets, stable_hash(users), split.seed, *split.shares)
    columns = {
        name: flat(sequences, name).take(pa.array(order)) for name in sequences.column_names if name != USER
    }
    return _with_cuts(nest(users, columns, offsets), train_end, valid_end)


def _with_cuts(sequences: pa.Table, train_end: np.ndarray, valid_end: np.ndarray) -> pa.Table:
    sequences = sequences.append_column("train_end", pa.array(train_end, pa.int32()))
    return sequences.append_column("valid_end", pa.array(valid_end, pa.int32()))


@dataclass(frozen=True)
class PartitionCounts:
    """What the cut sequences of one partition add to the whole: mergeable.

    Attributes:
        items: id, count, train_count of its items.
        users: id, count, train_count of its users.
        stats: of its sequences.
        features: fits of the event features.
    """

    items: pa.Table
    users: pa.Table
    stats: SequenceStats
    features: States


def count_partition(cut: pa.Table, spec: DatasetSpec) -> PartitionCounts:
    """Count the items and users of cut sequences, all events and those of the training part."""
    offsets = offsets_of(cut)
    train_end = cut.column("train_end").to_numpy()
    items = flat(cut, "item")
    users = pa.table(
        {
            "id": cut.column(USER),
            "count": pa.array(np.diff(offsets)),
            "train_count": pa.array(train_end.astype(np.int64)),
        }
    )
    counter = IdCounts(codes_of(items)[1].type)
    counted = counter.count(items, first_events(offsets, train_end))
    return PartitionCounts(counted, users, sequence_stats(cut), fit_features(cut, spec))


def finish_sequences(
    cut: pa.Table, vocabulary: Vocabulary, spec: DatasetSpec, encoders: dict[str, Encoder] | None = None
) -> pa.Table:
    """Index the items, encode the features, pack, and put rows in pack order: the table of one sequence file.

    Args:
        cut: sequences with train_end and valid_end.
        vocabulary: of the items.
        spec: the dataset spec.
        encoders: of the event features, by name; needed where the spec has any.

    Returns:
        user, user_domain?, item, behavior, timestamp?, value?, domain?, session?, features, train_end,
        valid_end, pack; see docs/shards.md.

    Raises:
        UserError: the partition is too large for one file.
    """
    offsets = offsets_of(cut)
    if offsets[-1] >= 2**31:
        raise UserError(
            "a sequence file would hold more than 2^31 events", fix="set a larger 'shards' in the spec"
        )
    train_end = cut.column("train_end").to_numpy()
    packs = pack_lengths(np.minimum(train_end, spec.packing.max_length), spec.packing.tokens)
    bounds = pa.array(offsets, pa.int32())
    columns: dict[str, Any] = _users(cut, spec)
    for name, values in _event_columns(cut, vocabulary, spec, encoders or {}).items():
        columns[name] = pa.ListArray.from_arrays(bounds, values)
    columns["train_end"] = cut.column("train_end")
    columns["valid_end"] = cut.column("valid_end")
    columns["pack"] = pa.array(packs, pa.int32())
    return _rows_taken(pa.table(columns), np.argsort(packs, kind="stable"))


def _rows_taken(table: pa.Table, rows: np.ndarray) -> pa.Table:
    """The rows of a table in some order, column by column."""
    columns = []
    for column in table.columns:
        one = joined(column)
        taken = lists_taken(one, rows) if pa.types.is_list(one.type) else one.take(pa.array(rows))
        columns.append(taken)
    return pa.Table.from_arrays(columns, schema=table.schema)


def _users(cut: pa.Table, spec: DatasetSpec) -> dict[str, Any]:
    keys = cut.column(USER)
    if not separate(spec, "user"):
        return {USER: keys}
    domains, ids = split_keys(keys.combine_chunks())
    return {USER: ids, USER_DOMAIN: domains}


def _event_columns(
    cut: pa.Table, vocabulary: Vocabulary, spec: DatasetSpec, encoders: dict[str, Encoder]
) -> dict[str, pa.Array]:
    """The flat columns of the file, in its order."""
    columns: dict[str, pa.Array] = {}
    for name, kind in _SHARD_TYPES.items():
        if name not in cut.column_names:
            continue
        values = flat(cut, name)
        if name == "item":
            codes, keys = codes_of(values)
            columns[name] = pa.array(looked_up(vocabulary.indices(keys), codes))
        else:
            columns[name] = values.cast(kind)
    if spec.sessions is not None:
        gap = round(spec.sessions.gap * TICKS_PER_SECOND[spec.stored_unit])
        times = flat(cut, "timestamp").to_numpy()
        columns["session"] = pa.array(session_numbers(offsets_of(cut), times, gap))
    if spec.has_session_ids:
        codes, distinct = codes_of(flat(cut, "session"))
        columns["session"] = pa.array(numbers_by_first(offsets_of(cut), codes, len(distinct)))
    for feature in spec.event_features:
        columns[feature.name] = encode_column(cut, spec, encoders[feature.name])
    return columns
