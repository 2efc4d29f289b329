"""What the columns of a data set's tables may hold, as its manifest tells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa

from behavior.shards.manifest import FeatureEntry, Manifest

_ROWS = range(2**31)


@dataclass(frozen=True)
class ColumnRule:
    """What a column may hold.

    Attributes:
        type: of its values; wider ones are read where every value fits. None: integers or text.
        shape: one value a row, or lists: of one value an event, or of any length.
        values: the integers that it may hold; None for all that fit the type.
        missing: whether values may be missing.
    """

    type: pa.DataType | None
    shape: Literal["value", "events", "list"] = "value"
    values: range | None = None
    missing: bool = False


def sequence_rules(manifest: Manifest) -> dict[str, ColumnRule]:
    """Of the sequence files, by name; what is not listed may hold anything.

    Args:
        manifest: of the data set.
    """
    ids = range(1, 1 + manifest.oov + manifest.counts.items)
    behaviors, domains = _ids_of(manifest.behaviors), _ids_of(manifest.domains)
    rules = {
        "user": ColumnRule(None),
        "item": ColumnRule(pa.int32(), "events", ids),
        "behavior": ColumnRule(_small(behaviors), "events", behaviors),
        "timestamp": ColumnRule(pa.int64(), "events"),
        "value": ColumnRule(pa.float32(), "events", missing=True),
        "session": ColumnRule(pa.int32(), "events", _ROWS),
        "train_end": ColumnRule(pa.int32(), values=_ROWS),
        "valid_end": ColumnRule(pa.int32(), values=_ROWS),
        "pack": ColumnRule(pa.int32(), values=_ROWS),
    }
    if domains:
        rules["domain"] = ColumnRule(_small(domains), "events", domains)
        rules["user_domain"] = ColumnRule(_small(domains), values=domains)
    rules |= {e.name: rule for e in manifest.event_features if (rule := _feature(e, "events")) is not None}
    return rules


def table_rules(manifest: Manifest, features: list[FeatureEntry]) -> dict[str, ColumnRule]:
    """Of the table of items or users, by name.

    Args:
        manifest: of the data set.
        features: the columns of its features.
    """
    count = ColumnRule(pa.int64(), values=range(2**63 - 1))
    rules = {"index": ColumnRule(pa.int32(), values=_ROWS), "id": ColumnRule(None)}
    rules |= {"count": count, "train_count": count}
    rules |= {entry.name: rule for entry in features if (rule := _feature(entry, "value")) is not None}
    return rules


VOCABULARY_RULES = {
    "index": ColumnRule(pa.int32(), values=_ROWS),
    "value": ColumnRule(pa.string()),
    "count": ColumnRule(pa.int64(), values=range(2**63 - 1)),
}
"""Of the vocabulary of a feature."""


def _ids_of(names: list[str]) -> range:
    return range(1, len(names) + 1)


def _small(ids: range) -> pa.DataType:
    return pa.int8() if len(ids) <= np.iinfo(np.int8).max else pa.int16()


def _feature(entry: FeatureEntry, shape: Literal["value", "events"]) -> ColumnRule | None:
    if entry.kind == "numeric":
        return ColumnRule(pa.float32(), shape, missing=True)
    ids = None if entry.vocabulary_size is None else range(1, entry.vocabulary_size)
    if entry.kind == "categorical":
        return ColumnRule(pa.int32(), shape, ids, missing=shape == "value")
    if entry.kind == "multi_categorical" and shape == "value":
        return ColumnRule(pa.int32(), "list", ids, missing=True)
    return None  # of a later version
