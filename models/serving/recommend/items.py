"""Which items may be recommended, and what is told about those that are."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from behavior.arrow.values import parse_text, shown
from behavior.config import did_you_mean
from behavior.errors import UsageError, UserError
from behavior.shards.folder import ShardFolder
from behavior.shards.manifest import FeatureEntry
from models.data.sequences import BoolArray
from models.serving.recommend.ids import Ids

Floats = np.ndarray
_COUNTS = ("count", "train_count")
_TAKEN = ("user", "user_domain", "rank", "item", "item_domain", "score", "answer")
"""Columns of what is given out, whatever items have."""


def having(ids: Ids, shards: ShardFolder, conditions: Sequence[str]) -> BoolArray:
    """[known items] whether an item has all values, each condition being `feature=value`.

    Of a feature with several values an item has each. Numbers cannot be asked for, nor hashed values, of
    which a data set keeps no names.

    Raises:
        UserError: there is no such feature, or none of its values is that one.
    """
    chosen = np.ones(shards.num_items, bool)
    for condition in conditions:
        name, mark, value = condition.partition("=")
        if not mark:
            raise UsageError(f"'{condition}' is no condition", where="--where", fix="--where feature=value")
        chosen &= _has(ids, shards, name.strip(), value.strip())
    return chosen


def _has(ids: Ids, shards: ShardFolder, name: str, value: str) -> BoolArray:
    where = f"--where {name}={value}"
    entry = _entry(shards, name, where)
    if entry.encoding != "vocabulary":
        raise UserError(
            f"items cannot be chosen by '{name}': the data set keeps no values of it, but {_kept(entry)}",
            where=where,
            fix="choose by a categorical feature, or list the items: --candidates FILE",
        )
    vocabulary = shards.vocabulary(name)
    values = parse_text(vocabulary["value"].combine_chunks())[0]
    known = pc.equal(values, pa.scalar(value))
    if not pc.any(known).as_py():
        raise UserError(
            f"no item has the {name} '{value}'",
            where=where,
            fix=did_you_mean(value, values.to_pylist()[:1000]),
        )
    wanted = vocabulary["index"].combine_chunks().filter(known)
    column = ids.items[name].combine_chunks()
    if entry.kind == "categorical":
        return pc.fill_null(pc.is_in(column, value_set=wanted), False).to_numpy(zero_copy_only=False)
    owner = pc.list_parent_indices(column).to_numpy()
    found = np.zeros(len(column), bool)
    found[owner[pc.is_in(pc.list_flatten(column), value_set=wanted).to_numpy(zero_copy_only=False)]] = True
    return found


class ItemColumns:
    """Columns that tell about items: features, by the values of the log, and how often items occur.

    One that is called like another column of what is given out gets `item_` before its name.

    Args:
        ids: of the data set.
        shards: the data set.
        names: of the columns.
        more: a table of items from elsewhere, with `item` and further columns; it comes first.

    Raises:
        UserError: there is no such column, the data set keeps no values of it, or the table has other items.
    """

    def __init__(
        self, ids: Ids, shards: ShardFolder, names: Sequence[str], more: pa.Table | None = None
    ) -> None:
        self.columns: dict[str, pa.Array] = {}
        given = () if more is None else [name for name in names if name in more.column_names]
        rows = _rows_of(ids, more) if more is not None and given else None
        self.without = 0 if rows is None else rows.null_count
        """Known items that the table does not have."""
        for name in names:
            if more is not None and name in given:
                column = more[name].combine_chunks().take(rows)
            elif name in _COUNTS:
                column = ids.items[name].combine_chunks()
            else:
                entry = _entry(shards, name, f"--columns {name}", () if more is None else more.column_names)
                column = _values(entry, ids.items[name].combine_chunks(), shards)
            self.columns[f"item_{name}" if name in _TAKEN else name] = column

    def of(self, ranks: pa.Array) -> dict[str, pa.Array]:
        """Of items, numbered from the first known one."""
        return {name: values.take(ranks) for name, values in self.columns.items()}


def _rows_of(ids: Ids, more: pa.Table) -> pa.Array:
    """The row of every known item in a foreign table; null where it has none.

    Raises:
        UserError: it has none of them.
    """
    own = parse_text(ids.items["id"].combine_chunks())[0]
    given = parse_text(more["item"].combine_chunks())[0]
    rows = pc.index_in(own, value_set=given)
    if rows.null_count == len(own) and len(own):
        such = f", of the table such as {shown(given, 0)}" if len(given) else ""
        raise UserError(
            f"the table has none of the {len(own):,} items: ids of the log are such as {shown(own, 0)}{such}",
            where="--items",
            fix="name the table of these items; its ids are those of the log",
        )
    return rows


def _values(entry: FeatureEntry, column: pa.Array, shards: ShardFolder) -> pa.Array:
    if entry.kind == "numeric":
        return _number(entry, column)
    if entry.encoding != "vocabulary":
        raise UserError(
            f"'{entry.name}' cannot be shown: the data set keeps no values of it, but {_kept(entry)}",
            where=f"--columns {entry.name}",
            fix="give a table of items that has it: --items FILE",
        )
    vocabulary = shards.vocabulary(entry.name)
    index, values = vocabulary["index"].combine_chunks(), vocabulary["value"].combine_chunks()
    if entry.kind == "categorical":
        return values.take(pc.index_in(column, value_set=index))
    flat = values.take(pc.index_in(pc.list_flatten(column), value_set=index))
    lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False)
    offsets = np.concatenate(([0], np.cumsum(lengths))).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), flat)


def _number(entry: FeatureEntry, column: pa.Array) -> pa.Array:
    """The numbers of the log: of all that are stored as these are, those of the fewest digits."""
    stored = column.to_numpy(zero_copy_only=False).astype(np.float64)
    if entry.encoding == "standardize" and entry.mean is not None:
        mean, deviation = entry.mean, entry.deviation or 1.0
        numbers = _shortest(stored * deviation + mean, stored, lambda numbers: (numbers - mean) / deviation)
    elif entry.encoding == "log":
        found = np.sign(stored) * np.expm1(np.abs(stored))
        numbers = _shortest(found, stored, lambda numbers: np.sign(numbers) * np.log1p(np.abs(numbers)))
    else:
        numbers = stored
    return pa.array(numbers.astype(np.float32), mask=np.isnan(numbers))


def _shortest(numbers: Floats, stored: Floats, encode: Callable[[Floats], Floats]) -> Floats:
    """Numbers rounded to as few digits as are encoded as the same float32."""
    found, left = numbers.copy(), np.isfinite(numbers) & (numbers != 0.0)
    scale = np.floor(np.log10(np.abs(numbers, where=left, out=np.ones_like(numbers))))
    for digits in range(10):
        unit = 10.0 ** (scale - digits + 1)
        rounded = np.round(numbers / unit) * unit if digits else np.zeros_like(numbers)
        good = left & (encode(rounded).astype(np.float32) == stored.astype(np.float32))
        found[good], left = rounded[good], left & ~good
    return found


def _entry(shards: ShardFolder, name: str, where: str, others: Sequence[str] = ()) -> FeatureEntry:
    features = {entry.name: entry for entry in shards.manifest.item_features}
    if name not in features:
        known = dict.fromkeys((*features, *(other for other in others if other != "item")))
        raise UserError(
            f"items of the data set have no '{name}'",
            where=where,
            fix=did_you_mean(name, known) if known else "it has no features of items",
        )
    return features[name]


def _kept(entry: FeatureEntry) -> str:
    kinds = {"hash": "hashes", "buckets": "numbers of ranges"}
    return kinds.get(entry.encoding, "numbers")
