"""Columns of items that people can read, out of a data set's tables."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from behavior.config import did_you_mean
from behavior.errors import UserError
from behavior.shards.folder import ShardFolder
from behavior.shards.manifest import FeatureEntry


def item_columns(shards: ShardFolder, names: Sequence[str], places: np.ndarray) -> dict[str, list[object]]:
    """Features and counts of some items, as the log had them.

    Args:
        shards: the data set.
        names: of features of items, or `count` and `train_count`.
        places: [n] of known items, from 0.

    Returns:
        [n] values by name: text for a vocabulary's values (a list where an item has several), numbers as the
        data set has them, None where missing or unknown.

    Raises:
        UserError: there is no such column (names the nearest).
    """
    if not names:
        return {}
    entries = {entry.name: entry for entry in shards.manifest.item_features}
    table = shards.items().take(pa.array(places))
    found: dict[str, list[object]] = {}
    for name in names:
        if name in entries:
            found[name] = _decoded(shards, entries[name], table.column(name).to_pylist())
        elif name in ("count", "train_count"):
            found[name] = table.column(name).to_pylist()
        else:
            known = [*entries, "count", "train_count"]
            raise UserError(
                f"items have no column '{name}'", where="--columns", fix=did_you_mean(name, known)
            )
    return found


def _decoded(shards: ShardFolder, entry: FeatureEntry, values: list[object]) -> list[object]:
    if entry.kind == "numeric" or entry.encoding != "vocabulary":
        return values
    table = shards.vocabulary(entry.name)
    words = dict(zip(table.column("index").to_pylist(), table.column("value").to_pylist(), strict=True))
    return [
        [words.get(one) for one in value] if isinstance(value, list) else words.get(value) for value in values
    ]
