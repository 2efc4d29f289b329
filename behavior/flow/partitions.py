"""One hash partition of users: its events become sequences, are cut, counted, and written."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import pyarrow as pa

from behavior.features import Encoder
from behavior.features.vocabulary import Vocabulary
from behavior.flow.preparation import Preparation
from behavior.flow.previous import less
from behavior.shards.manifest import FileEntry
from behavior.steps.event_features import States
from behavior.steps.partition import count_partition, cut_sequences, finish_sequences
from behavior.steps.sequences import build_sequences, offsets_of
from behavior.steps.stats import SequenceStats

_READ = b"events"


def sort_partition(preparation: Preparation, partition: int, batches: list[pa.RecordBatch]) -> pa.Table:
    """Group the events of a partition by user and sort each user's by time.

    Args:
        preparation: what is prepared.
        partition: its number.
        batches: its new events, in the input's order.

    Returns:
        See `build_sequences`. Its metadata says how many events went in, for `count_sequences`.
    """
    if preparation.previous is not None:
        # What is there came before: where times tie, it stays before.
        batches = [*preparation.previous.events(partition, batches[0].schema), *batches]
    read = sum(batch.num_rows for batch in batches)
    sequences = build_sequences(batches, preparation.spec)
    return sequences.replace_schema_metadata({_READ: str(read)})


@dataclass(frozen=True)
class PartitionReport:
    """What one partition holds after the filters.

    Attributes:
        partition: its number.
        stats: of its sequences.
        dropped: events that filters and the cap left out.
        added: events more than it had before; for a new data set, all.
    """

    partition: int
    stats: SequenceStats
    dropped: int
    added: int


@dataclass(frozen=True)
class Counted:
    """What a partition adds to the data set: where it was there before, what it has now less what it had.

    Attributes:
        cut: its sequences after all filters, with train_end and valid_end.
        report: what the summary needs.
        users: id, count, train_count of its users, old ones included.
        items: id, count, train_count of its items: what was added.
        features: fits of the event features: what was added.
    """

    cut: pa.Table
    report: PartitionReport
    users: pa.Table
    items: pa.Table
    features: States


def count_sequences(
    preparation: Preparation, partition: int, sequences: pa.Table, core: pa.Array | None
) -> Counted:
    """Cut the sequences of a partition and count what is left.

    Args:
        preparation: what is prepared.
        partition: its number.
        sequences: from `sort_partition`.
        core: items that survive the minimum counts; None without such filters.
    """
    spec, previous = preparation.spec, preparation.previous
    # Copies and repeats are gone by the time that a partition is sorted.
    events = int(sequences.schema.metadata[_READ])
    cut = cut_sequences(sequences, spec, core)
    counts = count_partition(cut, spec)
    added = counts.stats.events
    items, features = counts.items, counts.features
    before = previous.cut(partition) if previous is not None else None
    if before is not None:
        old = count_partition(before, spec)
        added -= old.stats.events
        items = less(items, old.items)
        features = {name: less(features[name], old.features[name]) for name in features}
    report = PartitionReport(partition, counts.stats, events - counts.stats.events, added)
    return Counted(cut, report, counts.users, items, features)


def write_sequences(
    preparation: Preparation,
    partition: int,
    cut: pa.Table,
    vocabulary: Vocabulary,
    encoders: dict[str, Encoder],
) -> FileEntry | None:
    """Write the sequence file of a partition; None where nothing of it is left.

    Args:
        preparation: what is prepared.
        partition: its number.
        cut: its sequences, from `cut_sequences`.
        vocabulary: of the items.
        encoders: of the event features.
    """
    if not cut.num_rows:
        return None
    table = finish_sequences(cut, vocabulary, preparation.spec, encoders)
    return preparation.writer.sequences(partition, table, events=int(offsets_of(cut)[-1]))


def in_partition_order(reports: Iterable[PartitionReport]) -> list[PartitionReport]:
    """Reports come in any order; floating point sums and files must not depend on it."""
    return sorted(reports, key=lambda report: report.partition)
