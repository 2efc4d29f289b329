"""Item and user features: raw columns of a table become ids and standardized numbers, in vocabulary order."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from behavior.manifest import FeatureEntry
from behavior.spec import Feature
from behavior.values import parse_floats, parse_integers, parse_text
from behavior.vocabulary import IdCounts, Vocabulary

MISSING = 1
"""Id of a missing categorical value; then come the OOV ids, then the known values."""


@dataclass(frozen=True)
class EncodedFeatures:
    """Features of all known ids.

    Attributes:
        table: the vocabulary's index, id, count, train_count, then one column a feature.
        vocabularies: per categorical feature: index, value, count.
        entries: what the manifest says of each feature.
        unmatched: known ids that the feature table does not have.
    """

    table: pa.Table
    vocabularies: dict[str, pa.Table]
    entries: list[FeatureEntry]
    unmatched: int


def encode_features(vocabulary: Vocabulary, raw: pa.Table | None, features: list[Feature]) -> EncodedFeatures:
    """Join a feature table to a vocabulary and encode its columns.

    Where the table has an id twice, its first row counts.

    Args:
        vocabulary: the known ids; ids of the table that are not among them are left out.
        raw: `id` and a column a feature, as `read_whole_table` gives it; None for no features.
        features: their kinds.
    """
    if raw is None:
        return EncodedFeatures(vocabulary.table, {}, [], 0)
    rows, found = _rows_of(vocabulary.ids, raw.column("id").combine_chunks())
    table, vocabularies, entries = vocabulary.table, {}, []
    weights = vocabulary.table.column("train_count").to_numpy()
    for feature in features:
        values = raw.column(feature.name).combine_chunks().take(pa.array(rows, mask=~found))
        if feature.kind == "numeric":
            column, entry = _standardized(feature, values, weights)
        else:
            column, entry, words = _categorical(feature, values, vocabulary.oov)
            vocabularies[feature.name] = words
        table = table.append_column(feature.name, column)
        entries.append(entry)
    return EncodedFeatures(table, vocabularies, entries, int((~found).sum()))


def _rows_of(ids: pa.Array, table_ids: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """Row of the table for each id, and whether there is one."""
    if pa.types.is_integer(ids.type):
        keys, good = parse_integers(table_ids)
    else:
        keys, good = parse_text(table_ids)
    kept = np.flatnonzero(good)
    # index_in gives the first match, so the first row of an id counts.
    found = pc.index_in(ids, value_set=keys.take(pa.array(kept)))
    has_row = found.is_valid().to_numpy(zero_copy_only=False)
    rows = np.zeros(len(ids), np.int64)
    rows[has_row] = kept[found.drop_null().to_numpy()]
    return rows, has_row


def _standardized(feature: Feature, values: pa.Array, weights: np.ndarray) -> tuple[pa.Array, FeatureEntry]:
    """Zero mean and unit variance over the training events, so that test events leak into nothing."""
    parsed, good = parse_floats(values)
    numbers = pc.fill_null(parsed, float("nan")).to_numpy(zero_copy_only=False).astype(np.float64)
    numbers[~good] = np.nan
    used = np.where(np.isfinite(numbers), weights, 0)
    total = max(used.sum(), 1)
    mean = float(np.nansum(used * np.nan_to_num(numbers)) / total)
    variance = float(np.sum(used * np.nan_to_num(numbers - mean) ** 2) / total)
    deviation = float(np.sqrt(variance))
    if deviation <= 1e-7 * abs(mean):  # equal values: what is left is the rounding of float32
        deviation = 1.0
    scaled = pa.array(((numbers - mean) / deviation).astype(np.float32))
    return scaled, FeatureEntry(name=feature.name, kind="numeric", mean=mean, deviation=deviation)


def _categorical(feature: Feature, values: pa.Array, oov: int) -> tuple[pa.Array, FeatureEntry, pa.Table]:
    several = feature.kind == "multi_categorical"
    lists = _as_lists(values, feature.separator) if several else None
    text = pc.list_flatten(lists) if lists is not None else _blank_to_null(_as_text(values))
    present = text.drop_null()
    counter = IdCounts(pa.string())
    counts = counter.count(present, np.ones(len(present), bool))
    # The reserved ids are 0 padding, 1 missing, then `oov` ids: one more than in an item vocabulary.
    vocabulary = Vocabulary.from_counts(counts, oov + 1)
    column: pa.Array
    if lists is not None:
        indices = pa.array(vocabulary.indices(text))
        column = pa.ListArray.from_arrays(lists.offsets, indices)
    else:
        ids = np.full(len(text), MISSING, np.int32)
        ids[text.is_valid().to_numpy(zero_copy_only=False)] = vocabulary.indices(present)
        column = pa.array(ids)
    words = vocabulary.table.select(["index", "id", "count"]).rename_columns(["index", "value", "count"])
    size = oov + 2 + len(vocabulary)
    return column, FeatureEntry(name=feature.name, kind=feature.kind, vocabulary_size=size), words


def _as_text(values: pa.Array) -> pa.Array:
    if not pa.types.is_floating(values.type):
        return parse_text(values)[0]
    # A column of whole numbers with gaps often comes as floats: 3.0 and 3 are the same value.
    whole, is_whole = parse_integers(values)
    text = pc.if_else(pa.array(is_whole), whole.cast(pa.string()), values.cast(pa.string()))
    return pc.if_else(pc.is_nan(values), pa.scalar(None, pa.string()), text)


def _blank_to_null(text: pa.Array) -> pa.Array:
    return pc.if_else(pc.equal(pc.utf8_length(text), 0), pa.scalar(None, pa.string()), text)


def _as_lists(values: pa.Array, separator: str) -> pa.Array:
    """Lists of text without nulls and blanks; nothing known is an empty list."""
    if pa.types.is_list(values.type) or pa.types.is_large_list(values.type):
        lists = values.cast(pa.list_(pa.string()))
    else:
        lists = pc.split_pattern(_as_text(values), separator)
    parents = pc.list_parent_indices(lists).to_numpy()
    words = pc.utf8_trim_whitespace(pc.list_flatten(lists))
    good = pc.fill_null(pc.greater(pc.utf8_length(words), 0), False)
    counts = np.bincount(parents[good.to_numpy(zero_copy_only=False)], minlength=len(values))
    offsets = np.zeros(len(values) + 1, np.int32)
    np.cumsum(counts, out=offsets[1:])
    return pa.ListArray.from_arrays(pa.array(offsets), words.filter(good))
