"""The steps of `prepare`, each a pure function of Arrow tables: no files are written, no engine is known.

In: chunks of raw files (`behavior.sources`). Out: the rows of the shards, mergeable counts and statistics.
May import: `spec`, `arrow`, `shards` (records of the manifest), `sources`, `features`, `packing`.

    read    read_events                         a chunk -> batches of events, rejected rows
    group   build_sequences                     the events of a hash partition -> a row a user, sorted by time
    core    core_items                          sequences of all partitions -> the items of the k-core
    cut     cut_sequences, split_offsets        filters, cap, split
    count   count_partition, sequence_stats     mergeable counts, statistics, fits of features
    fit     fit_vocabulary, finish_features     merged counts -> vocabularies and encoders
    finish  finish_sequences, build_tables      the rows of the shards
"""

from typing import TYPE_CHECKING

from behavior.lazy import lazy_exports

if TYPE_CHECKING:
    from behavior.quality.approximate import approximate_entropy
    from behavior.steps.event_features import finish_features
    from behavior.steps.events import EventBatch, read_events
    from behavior.steps.filters import core_items
    from behavior.steps.partition import PartitionCounts, count_partition, cut_sequences, finish_sequences
    from behavior.steps.sequences import build_sequences
    from behavior.steps.splits import split_offsets
    from behavior.steps.stats import SequenceStats, sequence_stats
    from behavior.steps.tables import Tables, build_tables, fit_vocabulary
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "EventBatch": "events",
            "PartitionCounts": "partition",
            "SequenceStats": "stats",
            "Tables": "tables",
            "approximate_entropy": "stats",
            "build_sequences": "sequences",
            "build_tables": "tables",
            "core_items": "filters",
            "count_partition": "partition",
            "cut_sequences": "partition",
            "finish_features": "event_features",
            "finish_sequences": "partition",
            "fit_vocabulary": "tables",
            "read_events": "events",
            "sequence_stats": "stats",
            "split_offsets": "splits",
        },
    )

__all__ = [
    "EventBatch",
    "PartitionCounts",
    "SequenceStats",
    "Tables",
    "approximate_entropy",
    "build_sequences",
    "build_tables",
    "core_items",
    "count_partition",
    "cut_sequences",
    "finish_features",
    "finish_sequences",
    "fit_vocabulary",
    "read_events",
    "sequence_stats",
    "split_offsets",
]
