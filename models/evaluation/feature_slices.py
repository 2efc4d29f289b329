"""Slices of the targets by a feature of their items."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pyarrow as pa

from behavior.shards.folder import ShardFolder
from behavior.shards.manifest import FeatureEntry
from models.data.catalog import MISSING
from models.data.sequences import Int64Array
from models.evaluation.rankings import Rankings
from models.evaluation.slices import Slices, of_items


def sliceable_features(shards: ShardFolder) -> dict[str, FeatureEntry]:
    """The item features that results can be broken down by, by name: those that are stored as ids."""
    return {entry.name: entry for entry in shards.manifest.item_features if entry.kind != "numeric"}


def slice_by_feature(entry: FeatureEntry, rankings: Rankings, shards: ShardFolder) -> Slices:
    """Targets by the values of their item; those of unknown items have a slice of their own."""
    starts, values = _values(shards.items()[entry.name].combine_chunks())
    size = max(entry.vocabulary_size or 0, int(values.max(initial=MISSING)) + 1)
    names = [*_value_names(entry, size, shards), "unknown item"]
    items = len(starts) - 1
    starts, values = np.append(starts, len(values) + 1), np.append(values, size)
    row = of_items(np.arange(items), rankings, unknown=items)
    lengths = np.diff(starts)[row]
    place = np.arange(int(lengths.sum())) + np.repeat(starts[row] - (np.cumsum(lengths) - lengths), lengths)
    first_of = {name: number for number, name in reversed(list(enumerate(names)))}
    merged = np.array([first_of[name] for name in names])  # ids of one name are one slice
    pairs = np.repeat(np.arange(len(row)), lengths) * len(names) + merged[values[place]]
    target, label = np.divmod(np.unique(pairs), len(names))
    return Slices(target, label, names)


def _values(column: pa.Array) -> tuple[Int64Array, Int64Array]:
    """Offsets [items + 1] and ids of each item; an item without any has `MISSING`."""
    if not pa.types.is_list(column.type):
        ids = column.fill_null(MISSING).to_numpy(zero_copy_only=False).astype(np.int64)
        return np.arange(len(ids) + 1), ids
    lengths = np.diff(column.offsets.to_numpy()).astype(np.int64)
    ids = column.flatten().to_numpy(zero_copy_only=False).astype(np.int64)
    ids = np.insert(ids, np.cumsum(lengths)[lengths == 0], MISSING)
    return np.concatenate(([0], np.cumsum(np.maximum(lengths, 1)))), ids


def _value_names(entry: FeatureEntry, size: int, shards: ShardFolder) -> list[str]:
    """[ids] what the ids of a feature mean; several unknown values have one name."""
    if entry.encoding == "hash":
        return ["", "missing", *(f"hash {number}" for number in range(size - 2))]
    if entry.encoding == "buckets":
        bounds = [f"{bound:g}" for bound in entry.boundaries or []]
        between = [f"{low} to {high}" for low, high in pairwise(bounds)]
        return [
            "",
            "missing",
            *([f"below {bounds[0]}", *between, f"from {bounds[-1]}"] if bounds else ["any"]),
        ]
    names = ["", "missing", *(["unknown"] * (size - 2))]
    for row in shards.vocabulary(entry.name).to_pylist():
        name = f"{row['domain']}: {row['value']}" if "domain" in row else str(row["value"])
        # A value that is called as a slice of no value is.
        names[row["index"]] = f"'{name}'" if name in ("", "missing", "unknown", "unknown item") else name
    return names
