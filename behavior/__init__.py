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
    from behavior.arrow.partition import split_by_hash, stable_hash
    from behavior.config import parse_config
    from behavior.errors import UserError
    from behavior.features import Encoder, Fitter, fitter_of
    from behavior.features.vocabulary import IdCounts, Vocabulary
    from behavior.packing.balance import RankedPacks, deal_packs, fill_packs, spread
    from behavior.packing.cost import Cost
    from behavior.packing.pack import NextFit, pack_in_order, pack_lengths, pack_sequences
    from behavior.packing.packs import Packs
    from behavior.sampling.config import SamplingConfig, StochasticLength
    from behavior.sampling.sampler import Sampler, Units
    from behavior.sampling.stochastic_length import LengthRule, balance_lengths
    from behavior.shards.folder import ShardFolder, open_shards, write_table
    from behavior.shards.manifest import Manifest, load_manifest
    from behavior.shards.storage import Folder
    from behavior.sources import Plan, Reject, UnreadableFileError, plan_input
    from behavior.sources.guess import guess_file
    from behavior.spec.dataset_spec import DatasetSpec, Feature, load_spec
    from behavior.steps.bucket import BucketCounts, count_bucket, cut_sequences, finish_sequences
    from behavior.steps.dataset import (
        PreparedTables,
        build_manifest,
        check_rejects,
        merge_stats,
        prepare_tables,
        stats_record,
    )
    from behavior.steps.event_features import finish_features
    from behavior.steps.events import EventBatch, read_events
    from behavior.steps.filters import core_items
    from behavior.steps.sequences import build_sequences
    from behavior.steps.splits import split_offsets
    from behavior.steps.stats import SequenceStats, approximate_entropy, sequence_stats
    from behavior.steps.tables import Tables, build_tables, fit_vocabulary

_HOMES = {
    "BucketCounts": "steps.bucket",
    "Cost": "packing.cost",
    "DatasetSpec": "spec.dataset_spec",
    "Encoder": "features",
    "EventBatch": "steps.events",
    "Feature": "spec.dataset_spec",
    "Fitter": "features",
    "Folder": "shards.storage",
    "IdCounts": "features.vocabulary",
    "LengthRule": "sampling.stochastic_length",
    "Manifest": "shards.manifest",
    "NextFit": "packing.pack",
    "Packs": "packing.packs",
    "Plan": "sources",
    "PreparedTables": "steps.dataset",
    "RankedPacks": "packing.balance",
    "Reject": "sources",
    "Sampler": "sampling.sampler",
    "SamplingConfig": "sampling.config",
    "SequenceStats": "steps.stats",
    "ShardFolder": "shards.folder",
    "StochasticLength": "sampling.config",
    "Tables": "steps.tables",
    "Units": "sampling.sampler",
    "UnreadableFileError": "sources",
    "UserError": "errors",
    "Vocabulary": "features.vocabulary",
    "approximate_entropy": "steps.stats",
    "balance_lengths": "sampling.stochastic_length",
    "build_manifest": "steps.dataset",
    "build_sequences": "steps.sequences",
    "build_tables": "steps.tables",
    "check_rejects": "steps.dataset",
    "core_items": "steps.filters",
    "count_bucket": "steps.bucket",
    "cut_sequences": "steps.bucket",
    "deal_packs": "packing.balance",
    "fill_packs": "packing.balance",
    "finish_features": "steps.event_features",
    "finish_sequences": "steps.bucket",
    "fit_vocabulary": "steps.tables",
    "fitter_of": "features",
    "guess_file": "sources.guess",
    "load_manifest": "shards.manifest",
    "load_spec": "spec.dataset_spec",
    "merge_stats": "steps.dataset",
    "open_shards": "shards.folder",
    "pack_in_order": "packing.pack",
    "pack_lengths": "packing.pack",
    "pack_sequences": "packing.pack",
    "parse_config": "config",
    "plan_input": "sources",
    "prepare_tables": "steps.dataset",
    "read_events": "steps.events",
    "sequence_stats": "steps.stats",
    "split_by_hash": "arrow.partition",
    "split_offsets": "steps.splits",
    "spread": "packing.balance",
    "stable_hash": "arrow.partition",
    "stats_record": "steps.dataset",
    "write_table": "shards.folder",
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
