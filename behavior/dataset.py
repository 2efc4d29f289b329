"""From grouped events to the contents of a data set: cut, count, index, pack.

Every step is a plain function of Arrow tables; `prepare_tables` runs them all in one process, the Beam job
(`pipelines.prepare`) runs them bucket by bucket.
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from behavior.errors import UserError
from behavior.events import read_events
from behavior.features import EncodedFeatures, encode_features
from behavior.filters import core_items, keep_core
from behavior.manifest import FORMAT_VERSION, Counts, FeatureEntry, FileEntry, Manifest
from behavior.packing import pack_lengths
from behavior.sequences import USER, build_sequences, flat, keep_events, newest, offsets_of
from behavior.sources.plan import Plan, plan_input
from behavior.sources.raw import Reject
from behavior.sources.read import read_whole_table
from behavior.spec import DatasetSpec, load_spec
from behavior.splits import split_offsets
from behavior.stats import SequenceStats, sequence_stats, to_record
from behavior.vocabulary import IdCounts, Vocabulary

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
        items: raw ids of the items that survive the minimum counts (`core_items`); None without such filters.

    Returns:
        The sequences that are left, with columns train_end and valid_end (int32); see `behavior.splits`.
    """
    if items is not None:
        sequences = keep_core(sequences, items, spec.filters.minimum_counts[0])
    if spec.max_events is not None:
        sequences = keep_events(sequences, newest(sequences, spec.max_events))
    offsets = offsets_of(sequences)
    times = flat(sequences, "timestamp").to_numpy() if spec.has_time else None
    behaviors = flat(sequences, "behavior").to_numpy()
    train_end, valid_end = split_offsets(offsets, behaviors, times, spec)
    sequences = sequences.append_column("train_end", pa.array(train_end, pa.int32()))
    return sequences.append_column("valid_end", pa.array(valid_end, pa.int32()))


@dataclass(frozen=True)
class BucketCounts:
    """What one bucket of cut sequences adds to the whole: mergeable.

    Attributes:
        items: id, count, train_count of its items.
        users: id, count, train_count of its users.
        stats: of its sequences.
    """

    items: pa.Table
    users: pa.Table
    stats: SequenceStats


def count_bucket(cut: pa.Table) -> BucketCounts:
    """Count the items and users of cut sequences, all events and those of the training part."""
    offsets = offsets_of(cut)
    lengths = np.diff(offsets)
    train_end = cut.column("train_end").to_numpy()
    place = np.arange(offsets[-1]) - np.repeat(offsets[:-1], lengths)
    items = flat(cut, "item")
    users = pa.table(
        {
            "id": cut.column(USER),
            "count": pa.array(lengths),
            "train_count": pa.array(train_end.astype(np.int64)),
        }
    )
    counted = IdCounts(items.type).count(items, place < np.repeat(train_end, lengths))
    return BucketCounts(counted, users, sequence_stats(cut))


def finish_sequences(cut: pa.Table, vocabulary: Vocabulary, spec: DatasetSpec) -> pa.Table:
    """Index the items, pack, and put rows in pack order: the table of one sequence file.

    Args:
        cut: sequences with train_end and valid_end.
        vocabulary: of the items.
        spec: for its packing.

    Returns:
        user, item, behavior, timestamp?, value?, domain?, train_end, valid_end, pack; see docs/shards.md.
    """
    offsets = offsets_of(cut)
    if offsets[-1] >= 2**31:
        raise UserError(
            "a sequence file would hold more than 2^31 events", fix="set a larger 'shards' in the spec"
        )
    train_end = cut.column("train_end").to_numpy()
    packs = pack_lengths(np.minimum(train_end, spec.packing.max_length), spec.packing.tokens)
    bounds = pa.array(offsets, pa.int32())
    columns: dict[str, Any] = {USER: cut.column(USER)}
    for name, kind in _SHARD_TYPES.items():
        if name in cut.column_names:
            values = flat(cut, name)
            values = pa.array(vocabulary.indices(values)) if name == "item" else values.cast(kind)
            columns[name] = pa.ListArray.from_arrays(bounds, values)
    columns["train_end"] = cut.column("train_end")
    columns["valid_end"] = cut.column("valid_end")
    columns["pack"] = pa.array(packs, pa.int32())
    return pa.table(columns).take(pa.array(np.argsort(packs, kind="stable"))).combine_chunks()


@dataclass(frozen=True)
class Tables:
    """items.parquet, users.parquet and the feature vocabularies.

    Attributes:
        items, users: index, id, count, train_count and a column a feature.
        vocabularies: by feature name (`user.<name>` for users): index, value, count.
        rejects: rows of the feature tables that could not be read.
    """

    items: pa.Table
    users: pa.Table
    vocabularies: dict[str, pa.Table]
    item_features: list[FeatureEntry]
    user_features: list[FeatureEntry]
    rejects: list[Reject]


def item_vocabulary(spec: DatasetSpec, counts: pa.Table) -> Vocabulary:
    """The item vocabulary from the counts of all buckets."""
    by = "train_count" if spec.vocabulary.fit_on == "train" else "count"
    return Vocabulary.from_counts(counts, spec.vocabulary.oov, by=by)


def build_tables(spec: DatasetSpec, base: str, items: Vocabulary, users: pa.Table) -> Tables:
    """Join and encode the item and user tables of a spec.

    Args:
        spec: the dataset spec.
        base: folder its paths are relative to.
        items: vocabulary of the items.
        users: id, count, train_count of all users.
    """
    rejects: list[Reject] = []
    encoded: list[EncodedFeatures] = []
    for vocabulary, table in (
        (items, spec.items[0] if spec.items else None),
        (Vocabulary.from_counts(users, spec.vocabulary.oov), spec.users[0] if spec.users else None),
    ):
        raw = None
        if table is not None:
            raw, bad = read_whole_table(table, base)
            rejects += bad
        encoded.append(encode_features(vocabulary, raw, [] if table is None else table.features))
    item_side, user_side = encoded
    words = dict(item_side.vocabularies)
    words |= {f"user.{name}": table for name, table in user_side.vocabularies.items()}
    return Tables(item_side.table, user_side.table, words, item_side.entries, user_side.entries, rejects)


@dataclass(frozen=True)
class PreparedTables:
    """A data set in memory.

    Attributes:
        sequences: the rows of the sequence files; see `finish_sequences`.
        tables: items, users and feature vocabularies.
        counts: read, accepted, rejected, filtered, events, users, items.
        stats: contents of stats.json.
        rejects: rows that could not be read.
    """

    sequences: pa.Table
    tables: Tables
    counts: Counts
    stats: dict[str, Any]
    rejects: list[Reject]


def prepare_tables(spec: str | Path | DatasetSpec, input_folder: str | Path | None = None) -> PreparedTables:
    """Prepare a data set in this process and keep it in memory: a spec in, Arrow tables out.

    Args:
        spec: a spec, the path of its YAML file, or the name of a ready one.
        input_folder: folder that the spec's paths are relative to; default: the spec file's own.

    Raises:
        UserError: whatever is wrong with the spec or the input.
    """
    if isinstance(spec, DatasetSpec):
        base = str(input_folder or ".")
    else:
        spec, base = load_spec(spec, input_folder=input_folder)
    plan = plan_input(spec, base)
    batches, rejects, read, filtered = _read_all(spec, plan)
    check_rejects(spec, read, len(rejects), rejects[:3])
    if not batches:
        raise nothing_left(read, filtered)
    sequences = build_sequences(batches, spec)
    items = None
    if spec.filters.minimum_counts != (1, 1):
        items = core_items([sequences], *spec.filters.minimum_counts)
    cut = cut_sequences(sequences, spec, items)
    counted = count_bucket(cut)
    if not counted.stats.events:
        raise nothing_left(read, read - len(rejects))
    vocabulary = item_vocabulary(spec, counted.items)
    counts = Counts(
        read=read,
        accepted=counted.stats.events,
        rejected=len(rejects),
        filtered=read - len(rejects) - counted.stats.events,
        events=counted.stats.events,
        users=counted.stats.users,
        items=len(vocabulary),
    )
    return PreparedTables(
        finish_sequences(cut, vocabulary, spec),
        build_tables(spec, base, vocabulary, counted.users),
        counts,
        stats_record(spec, counted.stats, vocabulary.table),
        rejects,
    )


def _read_all(spec: DatasetSpec, plan: Plan) -> tuple[list[pa.RecordBatch], list[Reject], int, int]:
    lines: dict[tuple[int, int], int] = defaultdict(int)  # a file may stand in two groups of the spec
    batches: list[pa.RecordBatch] = []
    rejects: list[Reject] = []
    read = filtered = 0
    for chunk in plan.chunks:
        file = (chunk.source, chunk.file)
        before = lines[file]
        for batch in read_events(spec, plan, chunk, plan.names[chunk.path]):
            lines[file] = before + batch.lines
            rejects += [replace(reject, place=reject.place + before) for reject in batch.rejects]
            read, filtered = read + batch.read, filtered + batch.filtered
            if batch.events.num_rows:
                batches.append(batch.events)
    return batches, rejects, read, filtered


def stats_record(spec: DatasetSpec, stats: SequenceStats, items: pa.Table) -> dict[str, Any]:
    """Contents of stats.json."""
    return to_record(stats, items.column("count").to_numpy(), spec.behavior_names, spec.stored_unit)


def check_rejects(spec: DatasetSpec, read: int, rejected: int, examples: list[Reject]) -> None:
    """Fail where too many rows are bad.

    Raises:
        UserError: every row, or more than the share `max_rejects` of the spec, was rejected.
    """
    if read == 0:
        raise UserError("the log is empty: its files hold no events", fix="check 'files' in the spec")
    limit = spec.max_rejects if isinstance(spec.max_rejects, int) else spec.max_rejects * read
    if rejected <= limit and rejected < read:
        return
    shown = "; ".join(f"{reject.where}: {reject.reason}" for reject in examples)
    if rejected == read:
        raise UserError(
            f"every one of the {read:,} rows was rejected",
            where=shown,
            fix="correct the spec: it does not fit the files",
        )
    raise UserError(
        f"{rejected:,} of {read:,} rows were rejected, more than max_rejects = {spec.max_rejects:g} allows",
        where=shown,
        fix="correct the spec or the files, or set a larger max_rejects in the spec",
    )


def nothing_left(read: int, filtered: int) -> UserError:
    """The error for a log of which the filters leave nothing."""
    return UserError(
        f"no event is left: of {read:,} read, {filtered:,} were filtered out",
        fix="loosen 'filters' in the spec",
    )


def build_manifest(
    spec: DatasetSpec,
    plan: Plan,
    counts: Counts,
    tables: tuple[list[FeatureEntry], list[FeatureEntry]],
    files: list[FileEntry],
) -> Manifest:
    """The manifest of a data set; it depends on the spec and the input alone."""
    return Manifest(
        format_version=FORMAT_VERSION,
        name=spec.name,
        spec=json.loads(spec.model_dump_json()),
        spec_digest=spec.digest(),
        input_digest=plan.digest,
        counts=counts,
        behaviors=spec.behavior_names,
        targets=spec.target_names,
        domains=spec.domain_names,
        timestamp_unit=spec.stored_unit,
        split=spec.split.model_dump(exclude_none=True),
        oov=spec.vocabulary.oov,
        packing=spec.packing.model_dump(),
        item_features=tables[0],
        user_features=tables[1],
        files=sorted(files, key=lambda entry: entry.path),
    )


def merge_stats(stats: list[SequenceStats]) -> SequenceStats:
    """Statistics of all buckets."""
    return reduce(SequenceStats.merge, stats, SequenceStats())
