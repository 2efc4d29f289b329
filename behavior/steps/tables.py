"""Vocabularies of items and users, and the tables that describe them."""

from __future__ import annotations

import re
from dataclasses import dataclass

import pyarrow as pa

from behavior.arrow.values import parse_text, shown
from behavior.features import EncodedFeatures, Encoder, domain_names, encode_features
from behavior.features.coverage import check_coverage
from behavior.features.vocabulary import COUNT_COLUMNS, Vocabulary, comparable, extend
from behavior.shards.manifest import Coverage, FeatureEntry
from behavior.sources.look import keys_hint
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
        coverage: of each feature table, those of the items first.
    """

    items: pa.Table
    users: pa.Table
    vocabularies: dict[str, pa.Table]
    item_features: list[FeatureEntry]
    user_features: list[FeatureEntry]
    rejects: list[Reject]
    coverage: list[Coverage]


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
        UserError: a table cannot be read, its files do not go together, or it has too little of the log
            (`min_coverage` of the spec).
    """
    before = previous or {}
    prefix = "user."
    of_users = {name.removeprefix(prefix): e for name, e in before.items() if name.startswith(prefix)}
    item_side, item_rejects = _encode(spec, "item", base, items, spec.items, before)
    user_side, user_rejects = _encode(spec, "user", base, users, spec.users, of_users)
    words = dict(item_side.vocabularies)
    words |= {prefix + name: table for name, table in user_side.vocabularies.items()}
    rejects = item_rejects + user_rejects
    coverage = item_side.coverage + user_side.coverage
    return Tables(
        item_side.table, user_side.table, words, item_side.entries, user_side.entries, rejects, coverage
    )


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
    encoded = encode_features(with_raw_ids(spec, role, known), raws, previous, role=f"{role}s")
    for coverage, (table, raw) in zip(encoded.coverage, raws, strict=True):

        def hint(feature: str | None, table: FeatureTable = table, raw: pa.Table = raw) -> str | None:
            if feature is None:
                return _ids_apart(role, encoded.table.column("id"), raw.column("id"))
            return keys_hint(table, base) if raw.column(feature).null_count == raw.num_rows else None

        check_coverage(coverage, spec.min_coverage, ", ".join(table.files), hint)
    return encoded, rejects


def _ids_apart(role: str, log: pa.ChunkedArray, table: pa.ChunkedArray) -> str | None:
    """What ids of the log and of a table look like, for those who wonder why they do not meet."""
    wanted, found = _first_id(log), _first_id(table)
    if found is None:
        return "the table has no ids"
    said = f"ids of the log are such as {wanted}, of the table such as {found}"
    whole = re.fullmatch(r"'?\d+\.0+'?", found)  # as pandas writes integers of which some are missing
    return f"{said}; id_types: {{{role}: integer}} reads {found} as a whole number" if whole else said


def _first_id(ids: pa.ChunkedArray) -> str | None:
    for chunk in ids.chunks:
        good = parse_text(chunk)[1]
        if good.any():
            return shown(chunk, int(good.argmax()))
    return None
