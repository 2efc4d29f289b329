"""Columns of the sequence files that have one value an event: their types."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from behavior.config import nearest
from behavior.errors import UserError
from behavior.shards.folder import ShardFolder
from behavior.shards.manifest import FeatureEntry

_KINDS = {"categorical": np.dtype(np.int32), "numeric": np.dtype(np.float32)}


@dataclass(frozen=True)
class StoredColumn:
    """What is known of a column before it is read."""

    name: str
    dtype: np.dtype
    constant: int | None = None
    """The value of all events, where that is known: the column is not read then, and may be absent."""


def stored_column(shards: ShardFolder, name: str) -> StoredColumn:
    """A column of a data set's sequence files that has one value an event.

    Every data set has `item`, `behavior` and `timestamp` (zeros where there is no time). What else there is
    depends on its spec: `value`, `domain`, `session`, and one column an event feature.

    Raises:
        UserError: there is no such column, or an event may have several values in it.
    """
    manifest = shards.manifest
    features = {entry.name: entry for entry in manifest.event_features}
    if name in features:
        return _feature(features[name], shards)
    kinds, domains = len(manifest.behaviors), len(manifest.domains)
    known = {
        "item": StoredColumn("item", np.dtype(np.int32)),
        # A column that holds one value throughout is not worth reading.
        "behavior": StoredColumn("behavior", np.dtype(np.int8), constant=1 if kinds == 1 else None),
        "timestamp": StoredColumn(
            "timestamp", np.dtype(np.int64), constant=0 if manifest.timestamp_unit == "none" else None
        ),
        "value": StoredColumn("value", np.dtype(np.float32)),
        "session": StoredColumn("session", np.dtype(np.int32)),
    }
    if domains:
        known["domain"] = StoredColumn("domain", np.dtype(np.int8))
    if name not in known:
        # Whether there are values and sessions only the files tell.
        raise no_such_column(name, [*features, *(set(known) - {"value", "session"})], shards)
    return known[name]


def check_there(columns: list[StoredColumn], there: list[str], shards: ShardFolder) -> None:
    """Raise UserError for a column that is to be read and is not there.

    Args:
        columns: what is to be read.
        there: names of the columns of the sequence files.
        shards: the data set.
    """
    for column in columns:
        if column.constant is None and column.name not in there:
            others = set(there) - {"user", "user_domain", "train_end", "valid_end", "pack"}
            raise no_such_column(column.name, list(others), shards)


def no_such_column(name: str, known: list[str], shards: ShardFolder) -> UserError:
    """The error that names the nearest column, and all there are."""
    close, listed = nearest(name, known), ", ".join(sorted(known))
    return UserError(
        f"the events of the data set have no column '{name}'",
        where=shards.where(),
        fix=f"did you mean '{close}'? there are: {listed}" if close else f"there are: {listed}",
    )


def _feature(entry: FeatureEntry, shards: ShardFolder) -> StoredColumn:
    if entry.kind not in _KINDS:
        raise UserError(
            f"event feature '{entry.name}' is {entry.kind}: batches hold one value an event",
            where=shards.where(),
            fix="use a feature of kind categorical, hashed or numeric, with any transform",
        )
    return StoredColumn(entry.name, _KINDS[entry.kind])
