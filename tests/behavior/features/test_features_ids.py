"""Features that become ids: vocabularies and hashes."""

from __future__ import annotations

import pickle
import random
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from behavior.errors import UserError
from behavior.features import domain_names, fitter_of, restore
from behavior.features.fit import VocabularyFitter
from behavior.shards.manifest import FeatureEntry
from behavior.spec.dataset_spec import Feature
from tests.behavior.arrow.test_hashing import finalized, fnv1a
from tests.behavior.features.feature_fits import fit, merged_at_random
from tests.behavior.logs import few

values = st.none() | st.sampled_from(["", "1", "2", "10", "9", "-3"]) | st.sampled_from("123")
rows = st.lists(values, max_size=12)
settings = st.fixed_dictionaries(
    {"min_count": st.integers(1, 3), "max_size": st.none() | st.integers(1, 4), "per_domain": st.booleans()}
)


def hashed(text: str) -> int:
    return finalized(fnv1a(text.encode()))


def known_values(counts: Counter[str], feature: Feature) -> list[str]:
    """The vocabulary the plain way: by falling count, ties as numbers where all are numbers."""
    kept = [value for value, count in counts.items() if count >= feature.min_count]
    numeric = all(value.lstrip("-").isdigit() for value in kept)
    kept.sort(key=lambda value: (-counts[value], int(value) if numeric else 0, value))
    return kept[: feature.max_size]


def expected_id(value: str | None, known: list[str], oov: int) -> int:
    if not value:
        return 1
    return 2 + oov + known.index(value) if value in known else 2 + hashed(value) % oov


@few
@given(st.lists(rows, max_size=4), settings, st.integers(1, 3), st.randoms())
def test_categories_against_plain_python(
    parts: list[list[str | None]], setting: dict, oov: int, shuffle: random.Random
) -> None:
    feature = Feature(name="x", **setting)
    fitter = fitter_of(feature, oov)
    columns = [pa.array(part, pa.string()) for part in parts]
    # In pairs of domains: every other value belongs to the first one.
    domains = [domain_names(pa.array(np.arange(len(part)) % 2 + 1), ["a", "b"]) for part in parts]
    states = [
        fitter.add(fitter.create(), column, domains=domain)
        for column, domain in zip(columns, domains, strict=True)
    ]
    encoder = pickle.loads(pickle.dumps(fitter.finish(merged_at_random(fitter, states, shuffle))))
    assert encoder.vocabulary == fitter.finish(fitter.merge(states)).vocabulary

    keys = [
        [
            value and (f"{'ab'[n % 2]}\x1f{value}" if feature.per_domain else value)
            for n, value in enumerate(p)
        ]
        for p in parts
    ]
    counts = Counter(key for part in keys for key in part if key)
    known = known_values(counts, feature)
    for part, column, domain in zip(keys, columns, domains, strict=True):
        ids = encoder.encode(column, domain)
        assert ids.type == pa.int32()
        assert ids.to_pylist() == [expected_id(key, known, oov) for key in part]
        assert encoder.encode(column.dictionary_encode(), domain) == ids
    assert encoder.entry == FeatureEntry(
        name="x", kind="categorical", encoding="vocabulary", vocabulary_size=2 + oov + len(known)
    )
    table = encoder.vocabulary
    assert table.column("index").to_pylist() == list(range(2 + oov, 2 + oov + len(known)))
    assert table.column("count").to_pylist() == [counts[key] for key in known]
    assert table.column("value").to_pylist() == [key.rpartition("\x1f")[2] for key in known]
    if feature.per_domain:
        assert table.column("domain").to_pylist() == [key.partition("\x1f")[0] for key in known]
    again = restore(feature, encoder.entry, table)
    assert (again.entry, again.vocabulary) == (encoder.entry, table)
    for column, domain in zip(columns, domains, strict=True):
        assert again.encode(column, domain) == encoder.encode(column, domain)


@few
@given(st.lists(st.lists(values, max_size=4), max_size=8), settings, st.integers(1, 2))
def test_several_categories_against_plain_python(
    lists: list[list[str | None]], setting: dict, oov: int
) -> None:
    feature = Feature(name="x", kind="multi_categorical", **setting | {"per_domain": False})
    column = pa.array(lists, pa.list_(pa.string()))
    encoder = fit(fitter_of(feature, oov), column.slice(0, 2), column.slice(2))
    known = known_values(Counter(value for row in lists for value in set(row) if value), feature)
    ids = encoder.encode(column)
    assert ids.type == pa.list_(pa.int32())
    assert ids.to_pylist() == [[expected_id(value, known, oov) for value in row if value] for row in lists]
    assert encoder.entry.kind == "multi_categorical"
    assert encoder.entry.vocabulary_size == 2 + oov + len(known)


def test_a_vocabulary_of_the_training_part() -> None:
    column = pa.array([["a", "b"], ["b"], [], ["c"]])
    weights = np.array([0, 2, 5, 1])
    feature = Feature(name="x", kind="multi_categorical")
    for by, known in (("count", ["b", "a", "c"]), ("train_count", ["b", "c"])):
        fitter = fitter_of(feature, 1, by=by)
        encoder = fitter.finish(fitter.add(fitter.create(), column, weights))
        assert encoder.vocabulary is not None
        assert encoder.vocabulary.column("value").to_pylist() == known


@few
@given(rows, st.sampled_from([1, 7, 2**31 - 8]), st.booleans())
def test_hashed_values_against_plain_python(texts: list[str | None], size: int, per_domain: bool) -> None:
    feature = Feature(name="x", kind="hashed", hash_size=size, per_domain=per_domain)
    encoder = pickle.loads(pickle.dumps(fit(fitter_of(feature, 1))))
    prefix = "d\x1f" if per_domain else ""
    expected = [2 + hashed(prefix + text) % size if text else 1 for text in texts]
    column = pa.array(texts, pa.string())
    assert encoder.encode(column, "d").to_pylist() == expected
    assert encoder.encode(column.dictionary_encode(), "d").to_pylist() == expected
    assert encoder.encode(column, "d").type == pa.int32()
    entry = FeatureEntry(
        name="x", kind="categorical", encoding="hash", vocabulary_size=2 + size, hash_size=size
    )
    assert encoder.entry == entry
    assert encoder.vocabulary is None
    assert restore(feature, entry) == encoder


def test_words_of_a_text_are_hashed() -> None:
    feature = Feature(name="x", kind="text", hash_size=1000)
    encoder = fit(fitter_of(feature, 1))
    got = encoder.encode(pa.array(["Red shoes, RED socks", None, "!"]))
    assert got.type == pa.list_(pa.int32())
    assert got.to_pylist() == [[2 + hashed(w) % 1000 for w in ("red", "shoes", "red", "socks")], [], []]
    assert encoder.entry == FeatureEntry(
        name="x", kind="multi_categorical", encoding="hash", vocabulary_size=1002, hash_size=1000
    )


def test_domains_are_needed_where_values_are_told_apart_by_them() -> None:
    fitter = fitter_of(Feature(name="x", per_domain=True), 1)
    with pytest.raises(UserError, match="'x' is per_domain, but its rows have no domain"):
        fitter.add(fitter.create(), pa.array(["a"]))
    with pytest.raises(UserError):
        fit(fitter).encode(pa.array(["a"]))


def test_adding_data_keeps_the_ids_of_known_values() -> None:
    feature = Feature(name="x", min_count=2, max_size=4)
    fitter = fitter_of(feature, 2)
    old = fitter.add(fitter.create(), pa.array(list("bbbaac")))
    first = fitter.finish(old)
    assert first.vocabulary is not None
    assert first.encode(pa.array(["b", "a"])).to_pylist() == [4, 5]
    # c has become frequent enough; of d and e, the more frequent one finds room; f is rare.
    new = fitter.add(fitter.create(), pa.array(list("aaaaccddeeef")))
    previous = restore(feature, first.entry, first.vocabulary)
    second = fitter.extend(previous, fitter.merge([old, new]))
    assert second.vocabulary is not None
    assert second.vocabulary.to_pydict() == {
        "index": [4, 5, 6, 7],
        "value": ["b", "a", "c", "e"],
        "count": [3, 6, 3, 3],
    }
    ids = second.encode(pa.array(["b", "a", "c", "e", "d", "f"])).to_pylist()
    assert ids == [4, 5, 6, 7, 2 + hashed("d") % 2, 2 + hashed("f") % 2]
    assert second.entry.vocabulary_size == 8


def test_without_a_vocabulary_an_encoder_stays() -> None:
    for feature in (
        Feature(name="x", kind="hashed", hash_size=3),
        Feature(name="x", kind="numeric"),
        Feature(name="x", kind="numeric", transform="buckets", quantiles=2),
    ):
        fitter = fitter_of(feature, 1)
        previous = fit(fitter, pa.array(["1", "2"]))
        assert fitter.extend(previous, fitter.add(fitter.create(), pa.array(["7", "9"]))) == previous


def test_what_a_group_of_files_lacks_is_missing() -> None:
    fitter = fitter_of(Feature(name="x"), 1)
    assert isinstance(fitter, VocabularyFitter)
    encoder = fit(fitter, pa.nulls(3), pa.array(["a"]))
    assert encoder.encode(pa.nulls(2)).to_pylist() == [1, 1]
    empty = fit(fitter)
    assert empty.encode(pa.array(["a", None, ""])).to_pylist() == [2, 1, 1]
    assert empty.vocabulary is not None
    assert empty.vocabulary.schema.names == ["index", "value", "count"]
    assert restore(fitter.feature, empty.entry, empty.vocabulary).entry == empty.entry


def test_entries_of_older_data_sets() -> None:
    for kind, encoding in (
        ("categorical", "vocabulary"),
        ("multi_categorical", "vocabulary"),
        ("numeric", "standardize"),
    ):
        assert FeatureEntry.model_validate({"name": "x", "kind": kind}).encoding == encoding


def test_a_value_that_a_row_repeats_counts_once() -> None:
    feature = Feature(name="x", kind="multi_categorical", max_size=1)
    raw = pa.array(["rare|rare|rare", "common", "common", "once"])
    encoder = fit(fitter_of(feature, 1), raw)
    assert encoder.vocabulary is not None
    assert encoder.vocabulary.select(["value", "count"]).to_pylist() == [{"value": "common", "count": 2}]
    assert encoder.encode(raw).to_pylist() == [[2, 2, 2], [3], [3], [2]]
