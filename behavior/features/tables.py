"""Item and user features: raw tables become columns of ids and numbers, in vocabulary order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from behavior.arrow.values import parse_integers, parse_text
from behavior.features.columns import canonical, matched
from behavior.features.coverage import feature_coverage
from behavior.features.encode import Encoder
from behavior.features.fitters import fitter_of
from behavior.features.long_form import one_row_an_id
from behavior.features.vocabulary import Vocabulary
from behavior.shards.manifest import Coverage, FeatureEntry
from behavior.spec.dataset_spec import Feature, FeatureTable


@dataclass(frozen=True)
class EncodedFeatures:
    """Features of all known ids.

    Attributes:
        table: the vocabulary's index, domain (where ids are separate), id, count and train_count, then a
            column a feature.
        vocabularies: per feature with a vocabulary: index, domain (where it is `per_domain`), value, count.
        entries: what the manifest says of each feature.
        coverage: of each feature table.
        unmatched: known ids that no feature table has.
    """

    table: pa.Table
    vocabularies: dict[str, pa.Table]
    entries: list[FeatureEntry]
    coverage: list[Coverage]
    unmatched: int


@dataclass(frozen=True)
class _Joined:
    """A raw table, which known ids are its domain's, and which have which of its rows. [ids] int64, bool"""

    table: FeatureTable
    raw: pa.Table
    own: np.ndarray
    rows: np.ndarray
    found: np.ndarray

    def column(self, name: str) -> pa.Array:
        """Raw values of the ids that are found, in vocabulary order."""
        return self.raw.column(name).combine_chunks().take(pa.array(self.rows[self.found]))

    def coverage(self, role: str, number: int) -> Coverage:
        """How many ids have a row, and how many of those a value of each feature."""
        features = []
        for feature in self.table.features:
            values = self.values(feature.name)
            assert values is not None
            features.append(feature_coverage(feature.name, self.column(feature.name), values))
        return Coverage(
            table=role, number=number, of=int(self.own.sum()), found=int(self.found.sum()), features=features
        )

    def values(self, name: str) -> pa.Array | None:
        """Canonical values of the ids that are found, in vocabulary order; None if it lacks the feature."""
        for feature in self.table.features:
            if feature.name == name:
                return canonical(feature, matched(feature, self.column(name)))
        return None


def encode_features(
    vocabulary: Vocabulary,
    raws: Sequence[tuple[FeatureTable, pa.Table]],
    previous: Mapping[str, Encoder] | None = None,
    *,
    role: str = "items",
) -> EncodedFeatures:
    """Join feature tables to a vocabulary, fit their features to the known ids, and encode them.

    Where a table has an id twice, its first row counts, or all of them (`rows_per_id`). Several tables give
    different features, or the same features for different domains.

    Args:
        vocabulary: the known ids; ids of a table that are not among them are left out. Where the ids of
            domains are separate its table has a column `domain` with their names, and a table with a domain
            matches only rows of that domain.
        raws: tables of the spec, each with `id` and a column a feature, as `read_whole_table` gives it.
        previous: encoders of the data set that is added to, by feature: what they encode keeps its ids.
        role: whose tables these are, items or users.

    Raises:
        UserError: a feature is `per_domain`, but the vocabulary has no domains.
    """
    joined = [_join(vocabulary, table, raw) for table, raw in raws]
    result, vocabularies, entries = vocabulary.table, {}, []
    domains = None
    if "domain" in result.column_names:
        domains = result.column("domain").combine_chunks()
    weights = result.column("train_count").to_numpy()
    features = {feature.name: feature for table, _ in raws for feature in table.features}
    for name, feature in features.items():
        values = _assemble(joined, feature, len(vocabulary))
        fitter = fitter_of(feature, vocabulary.oov)
        state = fitter.add(fitter.create(), values, weights, domains=domains)
        encoder = fitter.extend(previous[name], state) if previous else fitter.finish(state)
        result = result.append_column(name, encoder.encode(values, domains))
        entries.append(encoder.entry)
        if encoder.vocabulary is not None:
            vocabularies[name] = encoder.vocabulary
    unmatched = np.full(len(vocabulary), bool(joined))
    for part in joined:
        unmatched &= ~part.found
    coverage = [part.coverage(role, number) for number, part in enumerate(joined, start=1)]
    return EncodedFeatures(result, vocabularies, entries, coverage, int(unmatched.sum()))


def _join(vocabulary: Vocabulary, table: FeatureTable, raw: pa.Table) -> _Joined:
    """Find a row for each known id of the table's domain."""
    rows, found = np.zeros(len(vocabulary), np.int64), np.zeros(len(vocabulary), bool)
    own = np.ones(len(vocabulary), bool)
    if table.domain is not None:
        own = pc.equal(vocabulary.table.column("domain"), table.domain).to_numpy()
    ids = vocabulary.ids.filter(pa.array(own))
    if table.rows_per_id == "all":
        raw = one_row_an_id(table, raw, _keys(ids, raw.column("id").combine_chunks())[0])
    rows[own], found[own] = _rows_of(ids, raw.column("id").combine_chunks())
    return _Joined(table, raw, own, rows, found)


def _keys(ids: pa.Array, table_ids: pa.Array) -> tuple[pa.Array, np.ndarray]:
    """Ids of a table in the type of those of the log, and which of them are ids."""
    return parse_integers(table_ids) if pa.types.is_integer(ids.type) else parse_text(table_ids)


def _rows_of(ids: pa.Array, table_ids: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """Row of the table for each id, and whether there is one."""
    keys, good = _keys(ids, table_ids)
    kept = np.flatnonzero(good)
    # index_in gives the first match, so the first row of an id counts.
    found = pc.index_in(ids, value_set=keys.take(pa.array(kept)))
    has_row = found.is_valid().to_numpy(zero_copy_only=False)
    rows = np.zeros(len(ids), np.int64)
    rows[has_row] = kept[found.drop_null().to_numpy()]
    return rows, has_row


def _assemble(joined: list[_Joined], feature: Feature, size: int) -> pa.Array:
    """The canonical column of one feature from all tables that give it. [ids]"""
    pieces: list[pa.Array] = []
    place, found = np.zeros(size, np.int64), np.zeros(size, bool)
    length = 0
    for part in joined:
        values = part.values(feature.name)
        if values is None:
            continue
        pieces.append(values)
        place[part.found] = length + np.arange(len(values))
        found |= part.found
        length += len(values)
    return pa.concat_arrays(pieces).take(pa.array(place, mask=~found))
