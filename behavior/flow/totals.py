"""What needs all partitions: vocabularies, tables, statistics, and the summary for the manifest."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce
from typing import Any

import pyarrow as pa

from behavior.features import Encoder
from behavior.features.vocabulary import IdCounts, Vocabulary
from behavior.flow.partitions import PartitionReport, in_partition_order
from behavior.flow.preparation import Preparation
from behavior.flow.rejects import AllReports, ReadSummary, nothing_left
from behavior.shards.manifest import Counts, Coverage, FeatureEntry, FileEntry
from behavior.shards.names import ITEMS, PARTITION_STATS, REJECTED, STATS, USERS, VOCABULARY
from behavior.shards.write import ShardWriter
from behavior.spec.dataset_spec import DatasetSpec
from behavior.steps.event_features import States, finish_features
from behavior.steps.keys import key_type
from behavior.steps.stats import SequenceStats, to_record
from behavior.steps.tables import Tables, build_tables, fit_vocabulary


def item_counts(preparation: Preparation) -> IdCounts:
    """The mergeable count (combiner) of item keys."""
    return IdCounts(key_type(preparation.spec, preparation.plan, "item"))


def fit_items(
    preparation: Preparation, counts: pa.Table, states: list[States]
) -> tuple[Vocabulary, dict[str, Encoder]]:
    """The item vocabulary and the encoders of the event features.

    Args:
        preparation: what is prepared.
        counts: merged counts of the items of all partitions.
        states: fits of the event features, in the partitions' order: sums of floats depend on it.
    """
    previous, known, encoders = preparation.previous, None, None
    if previous is not None:
        known = previous.vocabulary("item")
        counts = IdCounts(known.table.schema.field("id").type).merge([known.counts, counts])
        encoders = previous.encoders("event")
        states = [previous.feature_counts(), *states]
    vocabulary = fit_vocabulary(preparation.spec, "item", counts, known)
    return vocabulary, finish_features(preparation.spec, states, encoders)


def fit_users(preparation: Preparation, counts: Iterable[pa.Table]) -> Vocabulary:
    """The user vocabulary.

    Args:
        preparation: what is prepared.
        counts: of the users of each partition, in the partitions' order.
    """
    spec, previous = preparation.spec, preparation.previous
    # An addition may leave every partition as it was.
    none = IdCounts(key_type(spec, preparation.plan, "user")).create()
    every = pa.concat_tables(list(counts) or [none])
    if previous is None:
        return fit_vocabulary(spec, "user", every)
    return fit_vocabulary(spec, "user", previous.user_counts(every), previous.vocabulary("user"))


def make_tables(preparation: Preparation, items: Vocabulary, user_counts: Iterable[pa.Table]) -> Tables:
    """The item and user tables.

    Args:
        preparation: what is prepared.
        items: the item vocabulary.
        user_counts: counts of the users of each partition, in the partitions' order.
    """
    return describe(preparation, items, fit_users(preparation, user_counts))


def describe(preparation: Preparation, items: Vocabulary, users: Vocabulary) -> Tables:
    """The item and user tables, from both vocabularies."""
    previous = preparation.previous
    encoders = None if previous is None else previous.encoders("table")
    return build_tables(preparation.spec, preparation.base, items, users, encoders)


@dataclass(frozen=True)
class TablesReport:
    """The tables as they were written.

    Attributes:
        files: entries for the manifest.
        features: item_features, user_features and event_features.
        coverage: of each feature table.
    """

    files: list[FileEntry]
    features: dict[str, list[FeatureEntry]]
    coverage: list[Coverage]


def write_tables(writer: ShardWriter, tables: Tables, encoders: dict[str, Encoder]) -> TablesReport:
    """Write items, users, the vocabularies of all features, and rejected rows of the feature tables."""
    files = [writer.table(ITEMS, tables.items), writer.table(USERS, tables.users)]
    vocabularies = dict(tables.vocabularies)
    vocabularies |= {f"event.{n}": e.vocabulary for n, e in encoders.items() if e.vocabulary is not None}
    files += [writer.table(f"{VOCABULARY}/{name}.parquet", table) for name, table in vocabularies.items()]
    if tables.rejects:
        lines = (reject.to_json() for reject in tables.rejects)
        files.append(writer.lines(f"{REJECTED}/tables.jsonl", lines))
    return TablesReport(files, features_of(tables, encoders), tables.coverage)


def features_of(tables: Tables, encoders: dict[str, Encoder]) -> dict[str, list[FeatureEntry]]:
    """What the manifest says of all features."""
    return {
        "item_features": tables.item_features,
        "user_features": tables.user_features,
        "event_features": [encoder.entry for encoder in encoders.values()],
    }


def count_all(
    preparation: Preparation,
    reading: ReadSummary | AllReports,
    reports: list[PartitionReport],
    items: Vocabulary,
) -> tuple[Counts, dict[str, SequenceStats]]:
    """The counts of a data set, and the statistics of its partitions by their number.

    Args:
        preparation: what is prepared.
        reading: what reading came to.
        reports: of all partitions.
        items: the item vocabulary.

    Raises:
        UserError: the filters leave nothing.
    """
    previous = preparation.previous
    partitions = previous.partition_stats() if previous is not None else {}
    partitions |= {str(report.partition): report.stats for report in in_partition_order(reports)}
    partitions = {number: partitions[number] for number in sorted(partitions, key=int)}
    stats = merge_stats(partitions.values())
    filtered = reading.filtered + sum(report.dropped for report in reports)
    if not stats.events:
        raise nothing_left(reading.read, filtered)
    added = sum(report.added for report in reports)
    counts = Counts(
        read=reading.read,
        accepted=added,
        rejected=reading.rejected,
        filtered=filtered,
        events=added,
        users=stats.users,
        items=len(items),
    )
    return counts, partitions


@dataclass(frozen=True)
class Summary:
    """What the commit works from.

    Attributes:
        counts: of the events that were read; users and items are all that the data set then has.
        features: item_features, user_features and event_features.
        files: all that was written.
        damaged: names of input files that could not be read to their end.
        coverage: of the groups of events that were read, and of the feature tables.
    """

    counts: Counts
    features: dict[str, list[FeatureEntry]]
    files: list[FileEntry]
    damaged: list[str]
    coverage: list[Coverage]

    def to_json(self) -> str:
        features = {name: [e.model_dump() for e in entries] for name, entries in self.features.items()}
        record = {
            "counts": self.counts.model_dump(),
            "features": features,
            "files": [entry.model_dump() for entry in self.files],
            "damaged": self.damaged,
            "coverage": [entry.model_dump() for entry in self.coverage],
        }
        return json.dumps(record)

    @classmethod
    def from_json(cls, text: str) -> Summary:
        data = json.loads(text)
        features = {name: [FeatureEntry(**e) for e in entries] for name, entries in data["features"].items()}
        files = [FileEntry(**entry) for entry in data["files"]]
        coverage = [Coverage(**entry) for entry in data["coverage"]]
        return cls(Counts(**data["counts"]), features, files, data["damaged"], coverage)


def summarize(
    preparation: Preparation,
    reading: ReadSummary,
    reports: list[PartitionReport],
    items: Vocabulary,
    tables: TablesReport,
    sequences: list[FileEntry],
) -> Summary:
    """Write the statistics and sum up.

    Args:
        preparation: what is prepared.
        reading: what reading came to.
        reports: of all partitions.
        items: the item vocabulary.
        tables: the tables as they were written.
        sequences: entries of the sequence files.

    Raises:
        UserError: the filters leave nothing.
    """
    counts, partitions = count_all(preparation, reading, reports, items)
    record = stats_record(preparation.spec, merge_stats(partitions.values()), items.table)
    writer = preparation.writer
    files = [
        *sequences,
        *tables.files,
        *reading.files,
        writer.text(STATS, json.dumps(record, indent=2) + "\n"),
        writer.text(PARTITION_STATS, _partition_lines(partitions)),
    ]
    coverage = reading.coverage + tables.coverage
    return Summary(counts, tables.features, files, reading.damaged, coverage)


def merge_stats(stats: Iterable[SequenceStats]) -> SequenceStats:
    """Statistics of all partitions; in a fixed order, since sums of floats depend on it."""
    return reduce(SequenceStats.merge, stats, SequenceStats())


def stats_record(spec: DatasetSpec, stats: SequenceStats, items: pa.Table) -> dict[str, Any]:
    """Contents of stats.json."""
    return to_record(stats, items.column("count").to_numpy(), spec.behavior_names, spec.stored_unit)


def _partition_lines(partitions: dict[str, SequenceStats]) -> str:
    """One partition a line."""
    lines = [f'"{number}": {json.dumps(stats.to_json())}' for number, stats in partitions.items()]
    return "{\n" + ",\n".join(lines) + "\n}\n"
