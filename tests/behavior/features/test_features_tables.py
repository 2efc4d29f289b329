from __future__ import annotations

import math
from typing import Any

import pyarrow as pa
import pytest

from behavior.errors import UserError
from behavior.features import encode_features, restore
from behavior.features.vocabulary import Vocabulary
from behavior.spec.dataset_spec import Feature
from tests.behavior.features.feature_fits import encode, table_of, vocabulary_of


def column(vocabulary: Vocabulary, raw: dict[str, Any], **feature: Any) -> Any:
    encoded = encode(vocabulary, raw, Feature(name="x", **feature))
    assert encoded.table.column("id").to_pylist() == vocabulary.ids.to_pylist()
    return encoded.table.column("x").to_pylist()


def test_categories_by_falling_count_behind_padding_missing_and_unknown() -> None:
    raw = pa.table({"id": ["a", "b", "c", "d", "z"], "x": ["red", "blue", "blue", "", "green"]})
    for oov in (1, 3):
        encoded = encode(vocabulary_of(list("abcde"), oov=oov), raw, Feature(name="x"))
        blue, red = oov + 2, oov + 3
        assert encoded.table.column("x").to_pylist() == [red, blue, blue, 1, 1]
        assert encoded.vocabularies["x"].to_pydict() == {
            "index": [blue, red],
            "value": ["blue", "red"],
            "count": [2, 1],
        }
        assert encoded.entries[0].vocabulary_size == oov + 4
        assert encoded.unmatched == 1  # e; and z, which nobody knows, counts nowhere


def test_several_categories() -> None:
    vocabulary = vocabulary_of(list("abcde"))
    texts = ["x|y", " y ", "", "y||z|", None]
    lists = [["x", "y"], ["y"], [], ["y", None, "z", ""], None]
    for values in (texts, lists):
        encoded = encode(
            vocabulary, {"id": list("abcde"), "x": values}, Feature(name="x", kind="multi_categorical")
        )
        # y three times, then x and z once each
        assert encoded.table.column("x").to_pylist() == [[4, 3], [3], [], [3, 5], []]
        assert encoded.vocabularies["x"].column("value").to_pylist() == ["y", "x", "z"]
        assert encoded.entries[0].vocabulary_size == 6


def test_the_separator_is_taken_literally() -> None:
    got = column(vocabulary_of(["a"]), {"id": ["a"], "x": ["p.q"]}, kind="multi_categorical", separator=".")
    assert len(got[0]) == 2


def test_the_first_row_of_an_id_counts() -> None:
    raw = {"id": ["b", "a", "b", "a"], "x": ["1", "2", "3", "4"]}
    assert column(vocabulary_of(["a", "b"]), raw, kind="multi_categorical") == [[4], [3]]
    assert column(vocabulary_of(["a", "b"]), raw, kind="numeric") == [1.0, -1.0]


@pytest.mark.parametrize("kind", [pa.int64(), pa.string(), pa.int32()])
def test_integer_and_text_ids_find_each_other(kind: pa.DataType) -> None:
    table_ids = pa.array([7, 8, None], pa.int64()).cast(kind)
    for ids in ([8, 7, 9], ["8", "7", "9"]):
        raw = {"id": table_ids, "x": ["p", "q", "r"]}
        encoded = encode(vocabulary_of(ids), raw, Feature(name="x"))
        p, q = (encoded.vocabularies["x"].column("value").to_pylist().index(v) + 3 for v in "pq")
        assert encoded.table.column("x").to_pylist() == [q, p, 1]


def test_numbers_and_truth_values_as_categories() -> None:
    assert column(vocabulary_of(["a", "b"]), {"id": ["a", "b"], "x": [7, None]}) == [3, 1]
    assert column(vocabulary_of(["a", "b"]), {"id": ["a", "b"], "x": [True, False]}) == [4, 3]


def test_without_a_table_there_are_no_features() -> None:
    encoded = encode_features(vocabulary_of(["a"]), [])
    assert encoded.table.column_names == ["index", "id", "count", "train_count"]
    assert (encoded.vocabularies, encoded.entries, encoded.unmatched) == ({}, [], 0)


def test_a_table_that_knows_no_id() -> None:
    encoded = encode(
        vocabulary_of(["a"]),
        {name: ["1"] for name in ("x", "y", "w", "h", "t", "b", "q")} | {"id": ["z"]},
        Feature(name="x"),
        Feature(name="y", kind="multi_categorical"),
        Feature(name="w", kind="numeric"),
        Feature(name="h", kind="hashed", hash_size=5),
        Feature(name="t", kind="text", hash_size=5),
        Feature(name="b", kind="numeric", transform="buckets", boundaries=[0]),
        Feature(name="q", kind="numeric", transform="buckets", quantiles=4),
    )
    row = encoded.table.to_pylist()[0]
    assert [row[name] for name in ("x", "y", "h", "t", "b", "q")] == [1, [], 1, [], 1, 1]
    assert math.isnan(row["w"])
    assert encoded.unmatched == 1


def test_categories_stored_as_floats() -> None:
    """Whole ones are the same values as integers; no other is lost."""
    raw = {"id": ["a", "b", "c", "d"], "x": [3.0, 1.5, None, float("nan")]}
    encoded = encode(vocabulary_of(["a", "b", "c", "d"]), raw, Feature(name="x"))
    values = dict(
        zip(*(encoded.vocabularies["x"].column(n).to_pylist() for n in ("index", "value")), strict=True)
    )
    assert [values.get(index) for index in encoded.table.column("x").to_pylist()] == ["3", "1.5", None, None]


def test_several_tables_give_different_features() -> None:
    brands = pa.table({"id": ["b", "a"], "brand": ["x", "y"], "price": ["1", "3"]})
    texts = pa.table({"id": [None, "c", "b"], "title": ["?", "hello, hello", "world"]})
    encoded = encode_features(
        vocabulary_of(list("abcd")),
        [
            (
                table_of(Feature(name="brand"), Feature(name="price", kind="numeric", transform="none")),
                brands,
            ),
            (table_of(Feature(name="title", kind="text", hash_size=1)), texts),
        ],
    )
    assert encoded.table.column_names[4:] == ["brand", "price", "title"]
    assert [entry.name for entry in encoded.entries] == ["brand", "price", "title"]
    assert encoded.table.column("brand").to_pylist() == [4, 3, 1, 1]
    assert encoded.table.column("price").to_pylist()[:2] == [3, 1]
    assert encoded.table.column("title").to_pylist() == [[], [2], [2, 2], []]
    assert set(encoded.vocabularies) == {"brand"}
    assert encoded.unmatched == 1  # only d is in neither table


# Separate ids: item 7 of books is not item 7 of films.
SEPARATE = Vocabulary(
    pa.table(
        {
            "index": pa.array([2, 3, 4, 5], pa.int32()),
            "domain": ["books", "films", "films", "books"],
            "id": ["7", "7", "8", "9"],
            "count": pa.array([9, 8, 7, 6], pa.int64()),
            "train_count": pa.array([3, 1, 0, 0], pa.int64()),
        }
    ),
    oov=1,
)


def separate_tables(**settings: Any) -> list[Any]:
    """Both tables have genres; their columns, separators and types differ."""
    books = Feature(name="genre", kind="multi_categorical", separator="|", column="shelf", **settings)
    films = Feature(name="genre", kind="multi_categorical", separator=",", **settings)
    return [
        (table_of(books, domain="books"), pa.table({"id": [8, 7], "genre": ["crime", "war|love"]})),
        (
            table_of(films, Feature(name="year", kind="numeric"), domain="films"),
            pa.table({"id": ["7", "8", "9"], "genre": ["war", "war,a|b", "x"], "year": [1990, 2000, 2010]}),
        ),
    ]


def test_a_table_with_a_domain_matches_that_domain_alone() -> None:
    encoded = encode_features(SEPARATE, separate_tables())
    assert encoded.table.column_names == [*SEPARATE.table.column_names, "genre", "year"]
    words = encoded.vocabularies["genre"].to_pydict()
    assert words == {"index": [3, 4, 5], "value": ["war", "a|b", "love"], "count": [3, 1, 1]}
    assert encoded.table.column("genre").to_pylist() == [[3, 5], [3], [3, 4], []]
    # The one training event with a year is that of film 7; equal values have deviation 1.
    year = encoded.table.column("year").to_pylist()
    assert year[1:3] == [0, 10]
    assert math.isnan(year[0])
    assert math.isnan(year[3])
    assert encoded.unmatched == 1  # book 9: the 9 of films is another one


def test_values_of_two_domains_are_told_apart_on_request() -> None:
    encoded = encode_features(SEPARATE, separate_tables(per_domain=True))
    assert encoded.vocabularies["genre"].to_pydict() == {
        "index": [3, 4, 5, 6],
        "domain": ["films", "books", "books", "films"],
        "value": ["war", "love", "war", "a|b"],
        "count": [2, 1, 1, 1],
    }
    assert encoded.table.column("genre").to_pylist() == [[5, 4], [3], [3, 6], []]


def test_per_domain_without_domains_is_an_error() -> None:
    with pytest.raises(UserError, match="'x' is per_domain"):
        encode(vocabulary_of(["a"]), {"id": ["a"], "x": ["1"]}, Feature(name="x", per_domain=True))


def test_adding_to_a_data_set_keeps_what_is_encoded() -> None:
    features = [
        Feature(name="brand"),
        Feature(name="price", kind="numeric"),
        Feature(name="year", kind="numeric", transform="buckets", quantiles=2),
    ]
    old = pa.table({"id": ["a", "b"], "brand": ["x", "y"], "price": ["1", "3"], "year": ["1", "2"]})
    new = pa.table({"id": ["c", "d"], "brand": ["z", "y"], "price": ["5", None], "year": ["9", "0"]})
    first = encode(vocabulary_of(["a", "b"]), old, *features)
    previous = {
        feature.name: restore(feature, entry, first.vocabularies.get(feature.name))
        for feature, entry in zip(features, first.entries, strict=True)
    }
    vocabulary = vocabulary_of(["a", "b", "c", "d"])
    table = table_of(*features)
    second = encode_features(vocabulary, [(table, pa.concat_tables([old, new]))], previous)
    assert second.vocabularies["brand"].to_pydict() == {
        "index": [3, 4, 5],
        "value": ["x", "y", "z"],
        "count": [1, 2, 1],
    }
    assert second.table.column("brand").to_pylist() == [3, 4, 5, 4]
    assert second.table.column("price").to_pylist()[:3] == [-1, 1, 3]
    assert second.table.column("year").to_pylist() == [2, 3, 3, 2]
    assert second.entries[1:] == first.entries[1:]
