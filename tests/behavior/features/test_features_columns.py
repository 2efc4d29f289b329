from __future__ import annotations

import math
import unicodedata
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from behavior.features import canonical, domain_names
from behavior.features.columns import keyed, parents
from behavior.spec.dataset_spec import Feature
from tests.behavior.logs import many

CATEGORY = Feature(name="x")
SEVERAL = Feature(name="x", kind="multi_categorical", separator=", ")
TEXT = Feature(name="x", kind="text", hash_size=10)
NUMBER = Feature(name="x", kind="numeric")


def words_of(text: str | None) -> list[str]:
    """Letters, marks and digits that stand together, one character after the other."""
    words = [""]
    for character in (text or "").lower():
        if unicodedata.category(character)[0] in "LMN":
            words[-1] += character
        else:
            words.append("")
    return [word for word in words if word]


# Characters whose lower case is one character, in blocks that no version of Unicode changes any more.
characters = st.characters(min_codepoint=1, max_codepoint=0x24F, exclude_characters="İ") | st.sampled_from(
    "ΩωЖж日本語हिन्दी٣²½_-'\u2019\u0301"
)


@many
@given(st.lists(st.none() | st.text(characters)))
def test_words_against_plain_python(texts: list[str | None]) -> None:
    got = canonical(TEXT, pa.array(texts, pa.string()))
    assert got.to_pylist() == [words_of(text) for text in texts]


def test_words_of_titles() -> None:
    titles = ["The Lord of the Rings: 2nd Part (2002)", "L'Été n°5", "a_b", "…", "\U0001f600 smile"]
    assert canonical(TEXT, pa.array(titles)).to_pylist() == [
        ["the", "lord", "of", "the", "rings", "2nd", "part", "2002"],
        ["l", "été", "n", "5"],
        ["a", "b"],
        [],
        ["smile"],
    ]


@pytest.mark.parametrize(
    ("feature", "values", "expected"),
    [
        (CATEGORY, pa.array(["a", "", None, " b"]), ["a", None, None, " b"]),
        (CATEGORY, pa.array([b"a", b"\xff", None]), ["a", None, None]),
        (CATEGORY, pa.array([1, None, -7]), ["1", None, "-7"]),
        (CATEGORY, pa.array([1.0, 1.5, None, math.nan]), ["1", "1.5", None, None]),
        (CATEGORY, pa.array([True, None]), ["true", None]),
        (CATEGORY, pa.array(["a", None, "b", "a"]).dictionary_encode(), ["a", None, "b", "a"]),
        (CATEGORY, pa.nulls(2), [None, None]),
        (SEVERAL, pa.array(["b, a,c, ", "", None, ", "]), [["b", "a,c"], [], [], []]),
        (SEVERAL, pa.array([[1, None], None, []]), [["1"], [], []]),
        (SEVERAL, pa.array([["p", ""], None], pa.large_list(pa.string())), [["p"], []]),
        (SEVERAL, pa.nulls(1), [[]]),
        (TEXT, pa.array([12, None]), [["12"], []]),
        (TEXT, pa.nulls(1), [[]]),
        (NUMBER, pa.array(["1", " 2.5 ", "x", "inf", None, ""]), [1, 2.5, None, None, None, None]),
        (NUMBER, pa.array([1, None]), [1, None]),
        (NUMBER, pa.array([True, False]), [1, 0]),
        (NUMBER, pa.nulls(1), [None]),
    ],
)
def test_raw_columns_of_any_type(feature: Feature, values: pa.Array, expected: list[Any]) -> None:
    once = canonical(feature, values)
    assert once.to_pylist() == expected
    assert canonical(feature, once).equals(once)
    for start in range(1, len(values)):
        assert canonical(feature, values.slice(start)).to_pylist() == expected[start:]


def test_a_null_list_may_lie_over_values() -> None:
    """As Arrow allows."""
    offsets, values = pa.array([0, 2, 3], pa.int32()), pa.array(["a", "b", "c"])
    lists = pa.ListArray.from_arrays(offsets, values, mask=pa.array([True, False]))
    assert canonical(SEVERAL, lists).to_pylist() == [[], ["c"]]
    assert parents(lists).tolist() == [1]


def test_domains_stand_before_values() -> None:
    feature = CATEGORY.model_copy(update={"per_domain": True})
    domains = domain_names(pa.array([2, 1, 1], pa.int8()), ["books", "films"])
    assert keyed(feature, pa.array(["a", "a", None]), domains).to_pylist() == [
        "films\x1fa",
        "books\x1fa",
        None,
    ]
    several = SEVERAL.model_copy(update={"per_domain": True})
    lists = keyed(several, pa.array(["a, b", "", "c"]), domains)
    assert lists.to_pylist() == [["films\x1fa", "films\x1fb"], [], ["books\x1fc"]]
    assert keyed(several, pa.array(["a, b"]), "films").to_pylist() == lists.to_pylist()[:1]
    assert keyed(CATEGORY, pa.array(["a"]), domains.slice(0, 1)).to_pylist() == ["a"]
    assert np.array_equal(parents(lists), [0, 0, 2])
