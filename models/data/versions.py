"""What a run remembers of its data set, and which data sets are later versions of it.

`lrm prepare --append` keeps every index: of items, of values of features, of behaviors. A data set is a later
version of another of its name where its version is higher, and everything that the other one has an index for
has the same one here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from behavior.shards.content import content_digest
from behavior.shards.folder import ShardFolder
from behavior.shards.manifest import FeatureEntry, Manifest
from behavior.shards.names import VOCABULARY, logical
from behavior.steps.splits import evaluated_targets
from behavior.wording import number_of
from models.data.digest import dataset_digest

NEW = -1
"""In maps of rows: a row that the other data set does not have."""


def dataset_of(shards: ShardFolder) -> dict[str, Any]:
    """What checkpoints remember of their data set, as plain values.

    Returns:
        `name`, `digest`, `item_ids` and `behaviors` (how many), `version`, and `vocabulary`: the meaning of
        all ids, by which later versions are known.
    """
    manifest = shards.manifest
    return {
        "name": manifest.name,
        "digest": dataset_digest(shards),
        "item_ids": shards.num_item_ids,
        "behaviors": len(manifest.behaviors),
        "version": manifest.version,
        "vocabulary": {
            **_meanings(manifest),
            "items": content_digest(_keys(shards.items())),
            **{
                kind: [_feature(shards, key, entry, entry.vocabulary_size) for key, entry in entries.items()]
                for kind, entries in features_by_kind(shards).items()
            },
        },
    }


def differences(dataset: Mapping[str, Any], shards: ShardFolder) -> list[str]:
    """Why a data set is no later version of the one that a run remembers; empty where it is one, or the same.

    Args:
        dataset: as `dataset_of`, or by an earlier version of lrm-kit, which remembered no vocabulary: then
            only the same data set will do.
        shards: the data set.
    """
    manifest, digest = shards.manifest, dataset_digest(shards)
    sizes = {"item_ids": shards.num_item_ids, "behaviors": len(manifest.behaviors)}
    if dataset.get("digest") == digest:
        return _unlike(dataset, sizes)
    before, version = dataset.get("vocabulary"), dataset.get("version")
    is_later = (
        isinstance(version, int) and manifest.version > version and dataset.get("name") == manifest.name
    )
    if not is_later or before is None:
        now = {"digest": digest, "name": manifest.name, "item_ids": shards.num_item_ids}
        return _unlike(dataset, now | ({} if version is None else {"version": manifest.version}))
    try:
        return _vocabularies_differ(before, int(dataset["item_ids"]) - shards.first_item, shards)
    except (AttributeError, KeyError, LookupError, TypeError, ValueError):
        return ["what the run remembers of it is damaged"]


def _meanings(manifest: Manifest) -> dict[str, Any]:
    """What ids and numbers mean by the manifest alone, and which events are targets."""
    return {
        "behaviors": manifest.behaviors,
        "targets": manifest.targets,
        "timestamp_unit": manifest.timestamp_unit,
        "oov": manifest.oov,
        "split": [manifest.split["kind"], evaluated_targets(manifest.split)],
        "domains": manifest.domains,
    }


def _vocabularies_differ(before: Mapping[str, Any], known: int, shards: ShardFolder) -> list[str]:
    manifest = shards.manifest
    found = _unlike(before, _meanings(manifest))
    if shards.num_items < known:
        found.append(f"{number_of(known, 'item')}, here {shards.num_items:,}")
    elif content_digest(_keys(shards.items()).slice(0, known)) != before.get("items"):
        found.append("items with other indices")
    for kind, entries in features_by_kind(shards).items():
        if kind in before or kind == "features":  # those of users and events came later
            of = kind.removesuffix("_features") if kind != "features" else "item"
            found += _features_differ(of, before.get(kind), entries, shards)
    return found


@dataclass(frozen=True)
class RowMaps:
    """Which rows of tables for one data set become which rows of those for another, `NEW` where none does."""

    items: Tensor
    """[item ids] int64."""
    behaviors: Tensor
    """[behaviors + 1] int64."""
    features: dict[str, Tensor]
    """[vocabulary size] int64 by the name of the feature: of items its own, else `user.<name>` or
    `event.<name>`."""
    former_behaviors: int = 0
    """How many behaviors the other data set has."""
    domains: Tensor = field(default_factory=lambda: torch.zeros(1, dtype=torch.int64))
    """[domains + 1] int64."""

    @property
    def behavior_pairs(self) -> Tensor:
        """[(behaviors + 1) ** 2] int64: rows of flat tables that have one for each pair of behaviors."""
        first, second = self.behaviors[:, None], self.behaviors
        pairs = first * (self.former_behaviors + 1) + second
        return pairs.where((first != NEW) & (second != NEW), NEW).flatten()

    def known_items(self, first_item: int) -> Tensor:
        """[known items] int64: rows of tables that have one for each known item, from id `first_item` on."""
        known = self.items[first_item:]
        return torch.where(known == NEW, NEW, known - first_item)

    @property
    def new_items(self) -> int:
        """Known items that the other data set does not have."""
        return int((self.items == NEW).sum())

    @property
    def moves(self) -> bool:
        """Whether any row is new or elsewhere."""
        maps = [self.items, self.behaviors, self.domains, *self.features.values()]
        return any(not torch.equal(rows, torch.arange(len(rows))) for rows in maps)

    @classmethod
    def of_later_version(cls, dataset: Mapping[str, Any], shards: ShardFolder) -> RowMaps:
        """From the data set that a run remembers to a later version of it: what there was stays in place."""
        if dataset.get("digest") == dataset_digest(shards):
            dataset = dataset_of(shards)  # earlier versions of lrm-kit remembered less
        known, kinds = dataset.get("vocabulary", {}), features_by_kind(shards)
        sizes = {
            key: size
            for kind, entries in kinds.items()
            for key, (_, _, size, _) in zip(entries, known.get(kind, ()), strict=False)
        }
        return cls(
            _kept(int(dataset["item_ids"]), shards.num_item_ids),
            _kept(int(dataset["behaviors"]) + 1, len(shards.manifest.behaviors) + 1),
            {
                key: _kept(sizes.get(key, size), size)
                for entries in kinds.values()
                for key, entry in entries.items()
                if (size := entry.vocabulary_size) is not None
            },
            int(dataset["behaviors"]),
            torch.arange(len(shards.manifest.domains) + 1),  # no version has others
        )

    @classmethod
    def between(cls, old: ShardFolder, new: ShardFolder) -> RowMaps:
        """From any data set to any other, by ids of items, names of behaviors, values of features."""
        before = {key: entry for entries in features_by_kind(old).values() for key, entry in entries.items()}
        items = torch.cat(
            [
                _kept(old.first_item, new.first_item),
                _found(_names(old, old.items(), "id"), _names(new, new.items(), "id"), old.first_item),
            ]
        )
        return cls(
            items,
            _named(old.manifest.behaviors, new.manifest.behaviors),
            {
                key: _values(key, before[key], entry, old, new)
                for entries in features_by_kind(new).values()
                for key, entry in entries.items()
                if key in before and entry.vocabulary_size is not None
            },
            len(old.manifest.behaviors),
            _named(old.manifest.domains, new.manifest.domains),
        )


def features_by_kind(shards: ShardFolder) -> dict[str, dict[str, FeatureEntry]]:
    """Features of items (`features`), users and events, by the name that vocabularies and `RowMaps` know."""
    manifest = shards.manifest
    return {
        "features": {entry.name: entry for entry in manifest.item_features},
        "user_features": {f"user.{entry.name}": entry for entry in manifest.user_features},
        "event_features": {f"event.{entry.name}": entry for entry in manifest.event_features},
    }


def _unlike(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    return [f"{key} {before.get(key)!r}, here {it!r}" for key, it in now.items() if before.get(key) != it]


def _keys(table: pa.Table) -> pa.Table:
    return table.select([name for name in ("domain", "id") if name in table.column_names])


def _feature(shards: ShardFolder, key: str, entry: FeatureEntry, size: int | None) -> list[Any]:
    """Name, how it is stored and encoded, size, and a digest of the values that the first ids stand for."""
    meaning: Any = [entry.hash_size, entry.boundaries]
    if _has_vocabulary(shards, key) and size is not None:
        table = shards.vocabulary(key)
        names = [name for name in ("index", "domain", "value") if name in table.column_names]
        meaning = content_digest(table.select(names).filter(pc.less(table["index"], size)))
    return [entry.name, [entry.kind, entry.encoding], size, meaning]


def _has_vocabulary(shards: ShardFolder, key: str) -> bool:
    name = f"{VOCABULARY}/{key}.parquet"
    return any(logical(file.path) == name for file in shards.manifest.files)


def _features_differ(
    of: str, before: Any, entries: Mapping[str, FeatureEntry], shards: ShardFolder
) -> list[str]:
    if [entry.name for entry in entries.values()] != [record[0] for record in before or ()]:
        return [f"other {of} features"]
    return [
        f"feature '{key}' has other values"
        for (key, entry), record in zip(entries.items(), before or (), strict=True)
        if _feature(shards, key, entry, record[2]) != list(record)
        or (entry.vocabulary_size or 0) < (record[2] or 0)
    ]


def _kept(before: int, now: int) -> Tensor:
    rows = torch.arange(now)
    return torch.where(rows < before, rows, NEW)


def _named(before: list[str], now: list[str]) -> Tensor:
    """[now + 1] rows of names that have the ids 1, 2, ...; 0 stays."""
    rows = _found(pa.array(before, pa.string()), pa.array(now, pa.string()), 1)
    return torch.cat([torch.zeros(1, dtype=torch.int64), rows])


def _found(before: pa.Array, now: pa.Array, first: int) -> Tensor:
    """[now] rows, counted from `first`, of the same names before."""
    rows = pc.index_in(now, value_set=before).fill_null(NEW - first).to_numpy(zero_copy_only=False)
    return torch.from_numpy(rows.astype(np.int64) + first)


def _names(shards: ShardFolder, table: pa.Table, column: str) -> pa.Array:
    """What the rows of a table are called: text, with the name of the domain where ids are separate."""
    names = table[column].cast(pa.string()).combine_chunks()
    if "domain" not in table.column_names:
        return names
    domains = table["domain"].combine_chunks()
    if pa.types.is_integer(domains.type):
        domains = pa.array(["", *shards.manifest.domains]).take(domains.cast(pa.int64()))
    return pc.binary_join_element_wise(domains, names, "\x1f")


def _values(key: str, before: FeatureEntry, now: FeatureEntry, old: ShardFolder, new: ShardFolder) -> Tensor:
    """[vocabulary size] of a feature that both data sets have."""
    size, former = now.vocabulary_size or 0, before.vocabulary_size or 0
    if (before.kind, before.encoding) != (now.kind, now.encoding):
        return torch.full((size,), NEW)
    if not (_has_vocabulary(old, key) and _has_vocabulary(new, key)):
        same = (before.hash_size, before.boundaries) == (now.hash_size, now.boundaries)
        return _kept(former if same else 2, size)
    tables = old.vocabulary(key), new.vocabulary(key)
    rows = torch.full((size,), NEW)
    if not len(tables[1]):
        return _kept(min(former, size), size)
    first = int(pc.min(tables[1]["index"]).as_py())
    rows[:first] = _kept(min(former, first), first)  # padding, missing, unknown
    found = _found(_names(old, tables[0], "value"), _names(new, tables[1], "value"), 0)
    index = torch.from_numpy(tables[0]["index"].to_numpy().astype(np.int64))
    at = torch.from_numpy(tables[1]["index"].to_numpy().astype(np.int64))
    rows[at] = torch.where(found >= 0, index[found.clamp(min=0)] if len(index) else NEW, NEW)
    return rows
