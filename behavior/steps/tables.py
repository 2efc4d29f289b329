"""Vocabularies of items and users, and the tables that describe them."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from behavior.features import EncodedFeatures, Encoder, domain_names, encode_features
from behavior.features.vocabulary import COUNT_COLUMNS, Vocabulary, comparable, extend
from behavior.shards.manifest import FeatureEntry
from behavior.sources.raw import Reject
from behavior.sources.read import read_whole_table
from behavior.spec.dataset_spec import DatasetSpec, FeatureTable
from behavior.steps.keys import separate, split_keys


@dataclass(frozen=True)
class Tables:
    """items.parquet, users.parquet and the feature vocabularies.

    Attributes:
        items, users: index, id, count, train_count and a column a feature.
        vocabularies: by feature name (`user.<name>` for users): index, value, count.
        rejects: rows of the feature tables that could not be read.
    """

    items: pa.Table
    users: pa.Table
    vocabularies: dict[str, pa.Table]
    item_features: list[FeatureEntry]
    user_features: list[FeatureEntry]
    rejects: list[Reject]


def fit_vocabulary(
    spec: DatasetSpec, role: str, counts: pa.Table, previous: Vocabulary | None = None
) -> Vocabulary:
    """The vocabulary of items or users from the counts of all partitions.

    Where the ids of domains are separate, the indices of a domain follow each other, in the domains' order.

    Args:
        spec: the dataset spec.
        role: item or user; only items have limits.
        counts: id (a key, see `behavior.steps.keys`), count, train_count.
        previous: the vocabulary of the data set that is added to: its ids keep
            their indices, new ones follow.
    """
    if previous is not None:
        return extend(previous, counts)
    limits = spec.vocabulary
    if role == "user":
        return _by_domain(spec, role, Vocabulary.from_counts(counts, limits.oov))
    by = "train_count" if limits.fit_on == "train" else "count"
    known = Vocabulary.from_counts(
        counts, limits.oov, by=by, min_count=limits.min_count, max_size=limits.max_size
    )
    return _by_domain(spec, role, known, by)


def _by_domain(spec: DatasetSpec, role: str, known: Vocabulary, by: str = "count") -> Vocabulary:
    if not separate(spec, role):
        return known
    domains, ids = split_keys(known.ids)
    order = [
        ("domain", "ascending"),
        (by, "descending"),
        ("key", "ascending"),
    ]
    keyed = known.table.append_column("domain", domains).append_column("key", comparable(ids))
    table = keyed.sort_by(order).select(["id", *COUNT_COLUMNS])
    return Vocabulary(table.add_column(0, "index", known.table.column("index")).combine_chunks(), known.oov)


def with_raw_ids(spec: DatasetSpec, role: str, known: Vocabulary) -> Vocabulary:
    """A vocabulary as it is stored: raw ids, with the name of the domain where ids are separate."""
    if not separate(spec, role):
        return known
    domains, ids = split_keys(known.ids)
    columns = {
        "index": known.table.column("index"),
        "domain": domain_names(domains, spec.domain_names),
        "id": ids,
        **{name: known.table.column(name) for name in COUNT_COLUMNS},
    }
    return Vocabulary(pa.table(columns), known.oov)


def build_tables(
    spec: DatasetSpec,
    base: str,
    items: Vocabulary,
    users: Vocabulary,
    previous: dict[str, Encoder] | None = None,
) -> Tables:
    """Join and encode the item and user tables of a spec.

    Args:
        spec: the dataset spec.
        base: folder its paths are relative to.
        items, users: from `fit_vocabulary`.
        previous: encoders of the data set that is added to, by feature name (`user.<name>` for users).

    Raises:
        UserError: a table cannot be read, or its files do not go together.
    """
    before = previous or {}
    prefix = "user."
    of_users = {name.removeprefix(prefix): e for name, e in before.items() if name.startswith(prefix)}
    item_side, item_rejects = _encode(spec, "item", base, items, spec.items, before)
    user_side, user_rejects = _encode(spec, "user", base, users, spec.users, of_users)
    words = dict(item_side.vocabularies)
    words |= {prefix + name: table for name, table in user_side.vocabularies.items()}
    rejects = item_rejects + user_rejects
    return Tables(item_side.table, user_side.table, words, item_side.entries, user_side.entries, rejects)


def _encode(
    spec: DatasetSpec,
    role: str,
    base: str,
    known: Vocabulary,
    tables: list[FeatureTable],
    previous: dict[str, Encoder],
) -> tuple[EncodedFeatures, list[Reject]]:
    raws: list[tuple[FeatureTable, pa.Table]] = []
    rejects: list[Reject] = []
    for table in tables:
        raw, bad = read_whole_table(table, base)
        raws.append((table, raw))
        rejects += bad
    return encode_features(with_raw_ids(spec, role, known), raws, previous), rejects
