"""The steps of `prepare`, each a pure function of Arrow tables: no files are written, no engine is known.

In: chunks of raw files (`behavior.sources`). Out: the rows of the shards, mergeable counts and statistics.
May import: `spec`, `arrow`, `shards` (records of the manifest), `sources`, `features`, `packing`.

    read    read_events                       a chunk -> batches of events, rejected rows
    group   build_sequences                   the events of a hash partition -> a row a user, sorted by time
    core    core_items                        sequences of all partitions -> the items of the k-core
    cut     cut_sequences, split_offsets      filters, cap, split
    count   count_bucket, sequence_stats      mergeable counts, statistics, fits of features
    fit     fit_vocabulary, finish_features   merged counts -> vocabularies and encoders
    finish  finish_sequences, build_tables    the rows of the shards
"""

from typing import TYPE_CHECKING

from behavior.lazy import lazy_exports

if TYPE_CHECKING:
    from behavior.steps.bucket import BucketCounts, count_bucket, cut_sequences, finish_sequences
    from behavior.steps.dataset import build_manifest, merge_stats, stats_record
    from behavior.steps.event_features import finish_features
    from behavior.steps.events import EventBatch, read_events
    from behavior.steps.filters import core_items
    from behavior.steps.sequences import build_sequences
    from behavior.steps.splits import split_offsets
    from behavior.steps.stats import SequenceStats, approximate_entropy, sequence_stats
    from behavior.steps.tables import Tables, build_tables, fit_vocabulary

__all__ = [
    "BucketCounts",
    "EventBatch",
    "SequenceStats",
    "Tables",
    "approximate_entropy",
    "build_manifest",
    "build_sequences",
    "build_tables",
    "core_items",
    "count_bucket",
    "cut_sequences",
    "finish_features",
    "finish_sequences",
    "fit_vocabulary",
    "merge_stats",
    "read_events",
    "sequence_stats",
    "split_offsets",
    "stats_record",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "BucketCounts": "bucket",
        "EventBatch": "events",
        "SequenceStats": "stats",
        "Tables": "tables",
        "approximate_entropy": "stats",
        "build_manifest": "dataset",
        "build_sequences": "sequences",
        "build_tables": "tables",
        "core_items": "filters",
        "count_bucket": "bucket",
        "cut_sequences": "bucket",
        "finish_features": "event_features",
        "finish_sequences": "bucket",
        "fit_vocabulary": "tables",
        "merge_stats": "dataset",
        "read_events": "events",
        "sequence_stats": "stats",
        "split_offsets": "splits",
        "stats_record": "dataset",
    },
)
