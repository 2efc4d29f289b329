"""Conditions of a spec on columns, against plain Python; and text that is trimmed."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from behavior.arrow.conditions import holding, trimmed
from behavior.spec.dataset_spec import Condition
from tests.behavior.logs import many

texts = st.lists(st.none() | st.sampled_from(["", " ", "a", "7", "7.5", "-1", "x y", "nan"]), max_size=8)
conditions = st.sampled_from(
    [
        {"one_of": ["a", 7]},
        {"none_of": "a"},
        {"missing": False},
        {"missing": True},
        {"min": 0},
        {"max": 7.5},
        {"min": -1, "max": 7},
    ]
)


def by_hand(condition: dict[str, Any], text: str | None) -> bool:
    there = text is not None and text.strip() != ""
    if "one_of" in condition:
        return text in ("a", "7")
    if "none_of" in condition:
        return text != "a"
    if "missing" in condition:
        return there != condition["missing"]
    try:
        number = float(text or "nan")
    except ValueError:
        return False
    return condition.get("min", number) <= number <= condition.get("max", number)


@many
@given(texts, conditions, st.sampled_from(["string", "binary", "dictionary"]))
def test_conditions_against_plain_python(
    values: list[str | None], settings: dict[str, Any], kind: str
) -> None:
    column = pa.array(values, pa.string())
    column = column.dictionary_encode() if kind == "dictionary" else column.cast(kind)
    condition = Condition(column="c", **settings)
    found = holding([condition], {"c": column}, len(values)).tolist()
    assert found == [by_hand(settings, value) for value in values]


def test_numbers_and_truth_values_are_compared_as_they_are_written() -> None:
    assert holding([Condition(column="c", one_of=[2, True])], {"c": pa.array([1, 2])}, 2).tolist() == [
        False,
        True,
    ]
    flags = pa.array([True, None, False])
    assert holding([Condition(column="c", one_of=True)], {"c": flags}, 3).tolist() == [True, False, False]
    with_gaps = pa.array([3.0, None])
    assert holding([Condition(column="c", one_of=3)], {"c": with_gaps}, 2).tolist() == [True, False]


def test_all_conditions_must_hold() -> None:
    both = [Condition(column="c", min=2), Condition(column="d", none_of=["x"])]
    columns = {"c": pa.array([1, 2, 3]), "d": pa.array(["y", "x", "y"])}
    assert holding(both, columns, 3).tolist() == [False, False, True]


@pytest.mark.parametrize(
    "settings", [{}, {"one_of": ["a"], "missing": False}, {"min": 3, "max": 2}, {"one_of": ["a"], "min": 1}]
)
def test_a_condition_is_one_question(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Condition(column="c", **settings)


def test_text_is_trimmed_and_all_else_stays() -> None:
    assert trimmed(pa.array([" a\t", "b", None, "\u00a0c "])).to_pylist() == ["a", "b", None, "c"]
    assert trimmed(pa.array([b" a ", None])).to_pylist() == ["a", None]
    assert trimmed(pa.array([b" \xff ", b" b"])).to_pylist() == [b"\xff", b"b"]
    assert trimmed(pa.array([" a", "a"]).dictionary_encode()).to_pylist() == ["a", "a"]
    assert trimmed(pa.array([1, 2])).equals(pa.array([1, 2]))
