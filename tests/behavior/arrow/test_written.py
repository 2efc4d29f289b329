"""Lists and numbers as they are written."""

from __future__ import annotations

import ast
import json

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from behavior.arrow.written import LITERAL, literal_list, plain_numbers, split_lists
from tests.behavior.logs import many

words = st.lists(st.text("ab,'\" []{}\\ü", max_size=5), max_size=4)


@many
@given(words)
def test_lists_of_python_and_json(values: list[str]) -> None:
    assert ast.literal_eval(repr(values)) == values
    assert literal_list(repr(values)) == values
    assert literal_list(json.dumps(values, ensure_ascii=False)) == values


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[6285, 194]", ["6285", "194"]),
        (" ( a, b c ) ", ["a", "b c"]),
        ("{'x'}", ["x"]),
        ("[]", []),
        ("[1,]", ["1"]),
        ("[None, null, 2]", ["2"]),
        ("a|b", None),
        ("[1", None),
        ("[[1], 2]", None),
        ("['a' 'b']", None),
        ("", None),
    ],
)
def test_lists_by_hand(text: str, expected: list[str] | None) -> None:
    assert literal_list(text) == expected
    assert split_lists(pa.array([text, None]), LITERAL).to_pylist() == [expected, None]


@pytest.mark.parametrize(
    ("form", "text", "expected"),
    [
        ("us", "1,341", "1341"),
        ("us", "-$1,000.50", "-1000.50"),
        ("us", "$ 12.99", "12.99"),
        ("us", "US$5", "5"),
        ("us", "12.99 EUR", "12.99"),
        ("us", " 7% ", "7"),
        ("us", "1,34", "1,34"),
        ("us", "1e5", "1e5"),
        ("us", None, None),
        ("eu", "1.341", "1341"),
        ("eu", "12,99 \u20ac", "12.99"),
        ("eu", "1.5", "1,5"),
        ("plain", "1,341", "1,341"),
    ],
)
def test_numbers_by_hand(form: str, text: str | None, expected: str | None) -> None:
    column = pa.array([text], pa.string())
    assert plain_numbers(column, form).to_pylist() == [expected]
    assert plain_numbers(column.dictionary_encode(), form).to_pylist() == [expected]


def test_columns_of_numbers_stay() -> None:
    assert plain_numbers(pa.array([1.5]), "eu").to_pylist() == [1.5]
