"""Preprocessing of behavior logs as a library: Arrow in, Arrow out.

The names below are loaded when they are first used, so that `import behavior` costs nothing:

    from behavior import prepare_tables

    data = prepare_tables("spec.yaml")          # or the name of a ready spec and the folder of its files
    data.sequences                              # a row a user: item[], behavior[], timestamp[], ...
    data.tables.items                           # index, id, count, train_count, features
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from behavior.bucket import count_bucket, cut_sequences, finish_sequences
    from behavior.dataset import PreparedTables, prepare_tables
    from behavior.errors import UserError
    from behavior.events import EventBatch, read_events
    from behavior.filters import core_items
    from behavior.guess import guess_file
    from behavior.manifest import Manifest, load_manifest
    from behavior.packing import pack_lengths
    from behavior.sequences import build_sequences
    from behavior.shards import ShardFolder, open_shards
    from behavior.sources import plan_input
    from behavior.spec import DatasetSpec, load_spec
    from behavior.splits import split_offsets
    from behavior.tables import Tables, build_tables, fit_vocabulary
    from behavior.vocabulary import IdCounts, Vocabulary

_HOMES = {
    "DatasetSpec": "spec",
    "EventBatch": "events",
    "IdCounts": "vocabulary",
    "Manifest": "manifest",
    "PreparedTables": "dataset",
    "ShardFolder": "shards",
    "Tables": "tables",
    "UserError": "errors",
    "Vocabulary": "vocabulary",
    "build_sequences": "sequences",
    "build_tables": "tables",
    "core_items": "filters",
    "count_bucket": "bucket",
    "cut_sequences": "bucket",
    "finish_sequences": "bucket",
    "fit_vocabulary": "tables",
    "guess_file": "guess",
    "load_manifest": "manifest",
    "load_spec": "spec",
    "open_shards": "shards",
    "pack_lengths": "packing",
    "plan_input": "sources",
    "prepare_tables": "dataset",
    "read_events": "events",
    "split_offsets": "splits",
}

__all__ = [
    "DatasetSpec",
    "EventBatch",
    "IdCounts",
    "Manifest",
    "PreparedTables",
    "ShardFolder",
    "Tables",
    "UserError",
    "Vocabulary",
    "build_sequences",
    "build_tables",
    "core_items",
    "count_bucket",
    "cut_sequences",
    "finish_sequences",
    "fit_vocabulary",
    "guess_file",
    "load_manifest",
    "load_spec",
    "open_shards",
    "pack_lengths",
    "plan_input",
    "prepare_tables",
    "read_events",
    "split_offsets",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'behavior' has no attribute '{name}'")
    return getattr(import_module(f"behavior.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(_HOMES)
