"""Preprocessing of behavior logs as a library: Arrow in, Arrow out.

The names below are loaded when they are first used, so that `import behavior` costs nothing:

    from behavior import prepare_tables

    data = prepare_tables("spec.yaml")          # or the name of a ready spec and the folder of its files
    data.sequences                              # a row a user: item[], behavior[], timestamp[], ...
    data.tables.items                           # index, id, count, train_count, features

Every step stands alone, too; docs/library.md shows them at work.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from behavior.balance import RankedPacks, deal_packs, fill_packs, spread
    from behavior.bucket import BucketCounts, count_bucket, cut_sequences, finish_sequences
    from behavior.config import parse_config
    from behavior.cost import Cost
    from behavior.dataset import (
        PreparedTables,
        build_manifest,
        check_rejects,
        merge_stats,
        prepare_tables,
        stats_record,
    )
    from behavior.errors import UserError
    from behavior.event_features import finish_features
    from behavior.events import EventBatch, read_events
    from behavior.features import Encoder, Fitter, fitter_of
    from behavior.filters import core_items
    from behavior.guess import guess_file
    from behavior.manifest import Manifest, load_manifest
    from behavior.packing import NextFit, pack_in_order, pack_lengths, pack_sequences
    from behavior.packs import Packs
    from behavior.partition import split_by_hash, stable_hash
    from behavior.sampling import Sampler, Units
    from behavior.sampling_config import SamplingConfig, StochasticLength
    from behavior.sampling_length import LengthRule, balance_lengths
    from behavior.sequences import build_sequences
    from behavior.shards import ShardFolder, open_shards, write_table
    from behavior.sources import Plan, Reject, UnreadableFileError, plan_input
    from behavior.spec import DatasetSpec, Feature, load_spec
    from behavior.splits import split_offsets
    from behavior.stats import SequenceStats, approximate_entropy, sequence_stats
    from behavior.storage import Folder
    from behavior.tables import Tables, build_tables, fit_vocabulary
    from behavior.vocabulary import IdCounts, Vocabulary

_HOMES = {
    "BucketCounts": "bucket",
    "Cost": "cost",
    "DatasetSpec": "spec",
    "Encoder": "features",
    "EventBatch": "events",
    "Feature": "spec",
    "Fitter": "features",
    "Folder": "storage",
    "IdCounts": "vocabulary",
    "LengthRule": "sampling_length",
    "Manifest": "manifest",
    "NextFit": "packing",
    "Packs": "packs",
    "Plan": "sources",
    "PreparedTables": "dataset",
    "RankedPacks": "balance",
    "Reject": "sources",
    "Sampler": "sampling",
    "SamplingConfig": "sampling_config",
    "SequenceStats": "stats",
    "ShardFolder": "shards",
    "StochasticLength": "sampling_config",
    "Tables": "tables",
    "Units": "sampling",
    "UnreadableFileError": "sources",
    "UserError": "errors",
    "Vocabulary": "vocabulary",
    "approximate_entropy": "stats",
    "balance_lengths": "sampling_length",
    "build_manifest": "dataset",
    "build_sequences": "sequences",
    "build_tables": "tables",
    "check_rejects": "dataset",
    "core_items": "filters",
    "count_bucket": "bucket",
    "cut_sequences": "bucket",
    "deal_packs": "balance",
    "fill_packs": "balance",
    "finish_features": "event_features",
    "finish_sequences": "bucket",
    "fit_vocabulary": "tables",
    "fitter_of": "features",
    "guess_file": "guess",
    "load_manifest": "manifest",
    "load_spec": "spec",
    "merge_stats": "dataset",
    "open_shards": "shards",
    "pack_in_order": "packing",
    "pack_lengths": "packing",
    "pack_sequences": "packing",
    "parse_config": "config",
    "plan_input": "sources",
    "prepare_tables": "dataset",
    "read_events": "events",
    "sequence_stats": "stats",
    "split_by_hash": "partition",
    "split_offsets": "splits",
    "spread": "balance",
    "stable_hash": "partition",
    "stats_record": "dataset",
    "write_table": "shards",
}

__all__ = [
    "BucketCounts",
    "Cost",
    "DatasetSpec",
    "Encoder",
    "EventBatch",
    "Feature",
    "Fitter",
    "Folder",
    "IdCounts",
    "LengthRule",
    "Manifest",
    "NextFit",
    "Packs",
    "Plan",
    "PreparedTables",
    "RankedPacks",
    "Reject",
    "Sampler",
    "SamplingConfig",
    "SequenceStats",
    "ShardFolder",
    "StochasticLength",
    "Tables",
    "Units",
    "UnreadableFileError",
    "UserError",
    "Vocabulary",
    "approximate_entropy",
    "balance_lengths",
    "build_manifest",
    "build_sequences",
    "build_tables",
    "check_rejects",
    "core_items",
    "count_bucket",
    "cut_sequences",
    "deal_packs",
    "fill_packs",
    "finish_features",
    "finish_sequences",
    "fit_vocabulary",
    "fitter_of",
    "guess_file",
    "load_manifest",
    "load_spec",
    "merge_stats",
    "open_shards",
    "pack_in_order",
    "pack_lengths",
    "pack_sequences",
    "parse_config",
    "plan_input",
    "prepare_tables",
    "read_events",
    "sequence_stats",
    "split_by_hash",
    "split_offsets",
    "spread",
    "stable_hash",
    "stats_record",
    "write_table",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'behavior' has no attribute '{name}'")
    return getattr(import_module(f"behavior.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(_HOMES)
