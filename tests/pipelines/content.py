"""What a data set says, in raw values: to be compared with what was written, or with another data set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from behavior.shards.content import content_digest
from behavior.shards.folder import ShardFolder, open_shards
from behavior.shards.manifest import FeatureEntry
from behavior.shards.storage import Folder


def decoder(shards: ShardFolder, entry: FeatureEntry, prefix: str = "") -> Any:
    """A function from stored values of a feature to raw ones; codes without a vocabulary stay."""
    if entry.encoding != "vocabulary":
        return _same
    words: dict[int, Any] = {0: "(padding)", 1: None}
    words |= {
        row["index"]: (row["domain"], row["value"]) if "domain" in row else row["value"]
        for row in shards.vocabulary(prefix + entry.name).to_pylist()
    }

    def decode(value: Any) -> Any:
        if isinstance(value, list):
            return sorted((words.get(one, "(oov)") for one in value), key=str)
        return words.get(value, "(oov)")

    return decode


def _same(value: Any) -> Any:
    # NaN, a missing number, equals nothing, not even itself.
    return "missing" if value != value else value


def read_items(shards: ShardFolder) -> dict[int, tuple]:
    """Index -> (domain,) id of each known item."""
    return {
        row["index"]: (row["domain"], row["id"]) if "domain" in row else row["id"]
        for row in shards.items().to_pylist()
    }


def rows_of(table: Any, shards: ShardFolder, entries: list[FeatureEntry], prefix: str) -> dict[Any, dict]:
    """Rows of items or users by id, features decoded, indices left out."""
    decoders = {entry.name: decoder(shards, entry, prefix) for entry in entries}
    rows = {}
    for row in table.to_pylist():
        row.pop("index")
        key = (row.pop("domain", None), row.pop("id"))
        rows[key] = {name: decoders.get(name, _same)(value) for name, value in row.items()}
    return rows


def content(folder: Path | Folder | str) -> dict[str, Any]:
    """Everything in a data set but indices and packs."""
    shards = open_shards(folder)
    shards.verify()
    manifest = shards.manifest
    for entry in manifest.files:
        if entry.path.endswith(".parquet"):
            with shards.folder.input_file(entry.path) as file:
                assert entry.content == content_digest(pq.read_table(file))
    items = read_items(shards)
    decoders = {entry.name: decoder(shards, entry, "event.") for entry in manifest.event_features}
    decoders["item"] = lambda index: items.get(index, "(oov)")
    sequences = {}
    for table in shards.iter_sequences():
        for row in table.to_pylist():
            user = (manifest.domains[row["user_domain"] - 1] if "user_domain" in row else None, row["user"])
            lists = {name: values for name, values in row.items() if isinstance(values, list)}
            events = []
            for event in zip(*lists.values(), strict=True):
                named = zip(lists, event, strict=True)
                events.append({name: decoders.get(name, _same)(value) for name, value in named})
            assert user not in sequences
            sequences[user] = (events, row["train_end"], row["valid_end"])
    return {
        "sequences": sequences,
        "items": rows_of(shards.items(), shards, manifest.item_features, ""),
        "users": rows_of(shards.users(), shards, manifest.user_features, "user."),
        "counts": manifest.counts.model_dump(),
        "stats": shards.stats(),
        "sizes": {e.name: e.vocabulary_size for e in (*manifest.item_features, *manifest.event_features)},
    }
