from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from behavior.features import encode_features
from behavior.spec import Feature
from behavior.vocabulary import Vocabulary
from tests.behavior.logs import few


def vocabulary_of(ids: list[Any], train_counts: list[int] | None = None, oov: int = 1) -> Vocabulary:
    table = pa.table(
        {
            "id": ids,
            "count": pa.array(range(100, 100 - len(ids), -1), pa.int64()),
            "train_count": pa.array(train_counts or [1] * len(ids), pa.int64()),
        }
    )
    return Vocabulary.from_counts(table, oov)


def column(vocabulary: Vocabulary, raw: dict[str, Any], **feature: Any) -> Any:
    encoded = encode_features(vocabulary, pa.table(raw), [Feature(name="x", **feature)])
    assert encoded.table.column("id").to_pylist() == vocabulary.ids.to_pylist()
    return encoded.table.column("x").to_pylist()


def test_categories_by_falling_count_behind_padding_missing_and_unknown() -> None:
    raw = pa.table({"id": ["a", "b", "c", "d", "z"], "x": ["red", "blue", "blue", "", "green"]})
    for oov in (1, 3):
        encoded = encode_features(vocabulary_of(list("abcde"), oov=oov), raw, [Feature(name="x")])
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
        encoded = encode_features(
            vocabulary,
            pa.table({"id": list("abcde"), "x": values}),
            [Feature(name="x", kind="multi_categorical")],
        )
        # y three times, then x and z once each
        assert encoded.table.column("x").to_pylist() == [[4, 3], [3], [], [3, 5], []]
        assert encoded.vocabularies["x"].column("value").to_pylist() == ["y", "x", "z"]
        assert encoded.entries[0].vocabulary_size == 6


def test_the_separator_is_taken_literally() -> None:
    got = column(vocabulary_of(["a"]), {"id": ["a"], "x": ["p.q"]}, kind="multi_categorical", separator=".")
    assert len(got[0]) == 2


numbers = st.one_of(st.none(), st.integers(-50, 50).map(float))


@few
@given(st.lists(st.tuples(numbers, st.integers(0, 5)), min_size=1, max_size=8), st.booleans())
def test_numbers_are_standardized_by_training_events(
    rows: list[tuple[float | None, int]], as_text: bool
) -> None:
    ids, values = [f"i{n}" for n in range(len(rows))], [value for value, _ in rows]
    # The plain way: every training event of the item is one sample.
    samples = [value for value, times in rows if value is not None for _ in range(times)]
    mean = sum(samples) / len(samples) if samples else 0.0
    spread = math.sqrt(sum((s - mean) ** 2 for s in samples) / len(samples)) if samples else 0.0
    raw = (
        ["" if value is None else str(value) for value in values]
        if as_text
        else pa.array(values, pa.float64())
    )
    encoded = encode_features(
        vocabulary_of(ids, [times for _, times in rows]),
        pa.table({"id": ids, "x": raw}),
        [Feature(name="x", kind="numeric")],
    )
    expected = [math.nan if value is None else (value - mean) / (spread or 1) for value in values]
    np.testing.assert_allclose(encoded.table.column("x").to_numpy(), expected, rtol=1e-5, atol=1e-5)
    assert encoded.table.schema.field("x").type == pa.float32()
    assert encoded.entries[0].mean == pytest.approx(mean)
    assert encoded.entries[0].deviation == pytest.approx(spread or 1)


def test_what_is_no_finite_number_is_missing() -> None:
    values = ["1", "3", "big", "inf", "nan", ""]
    got = column(vocabulary_of(list("abcdef")), {"id": list("abcdef"), "x": values}, kind="numeric")
    np.testing.assert_allclose(got, [-1, 1, *[math.nan] * 4])


def test_equal_numbers_become_zero_in_a_log_of_billions_too() -> None:
    # Their mean is off by a rounding there; that must not count as the spread.
    ids = [f"i{n}" for n in range(30)]
    for seed in range(20):
        train_counts = np.random.default_rng(seed).integers(10**9, 10**10, 30).tolist()
        got = column(vocabulary_of(ids, train_counts), {"id": ids, "x": ["0.1"] * 30}, kind="numeric")
        np.testing.assert_allclose(got, np.zeros(30), atol=1e-6)


def test_the_first_row_of_an_id_counts() -> None:
    raw = {"id": ["b", "a", "b", "a"], "x": ["1", "2", "3", "4"]}
    assert column(vocabulary_of(["a", "b"]), raw, kind="multi_categorical") == [[4], [3]]
    assert column(vocabulary_of(["a", "b"]), raw, kind="numeric") == [1.0, -1.0]


@pytest.mark.parametrize("kind", [pa.int64(), pa.string(), pa.int32()])
def test_integer_and_text_ids_find_each_other(kind: pa.DataType) -> None:
    table_ids = pa.array([7, 8, None], pa.int64()).cast(kind)
    for ids in ([8, 7, 9], ["8", "7", "9"]):
        encoded = encode_features(
            vocabulary_of(ids), pa.table({"id": table_ids, "x": ["p", "q", "r"]}), [Feature(name="x")]
        )
        p, q = (encoded.vocabularies["x"].column("value").to_pylist().index(v) + 3 for v in "pq")
        assert encoded.table.column("x").to_pylist() == [q, p, 1]


def test_numbers_and_truth_values_as_categories() -> None:
    assert column(vocabulary_of(["a", "b"]), {"id": ["a", "b"], "x": [7, None]}) == [3, 1]
    assert column(vocabulary_of(["a", "b"]), {"id": ["a", "b"], "x": [True, False]}) == [4, 3]


def test_without_a_table_there_are_no_features() -> None:
    encoded = encode_features(vocabulary_of(["a"]), None, [])
    assert encoded.table.column_names == ["index", "id", "count", "train_count"]
    assert (encoded.vocabularies, encoded.entries, encoded.unmatched) == ({}, [], 0)


def test_a_table_that_knows_no_id() -> None:
    encoded = encode_features(
        vocabulary_of(["a"]),
        pa.table({"id": ["z"], "x": ["1"], "y": ["1"], "w": ["1"]}),
        [Feature(name="x"), Feature(name="y", kind="multi_categorical"), Feature(name="w", kind="numeric")],
    )
    row = encoded.table.to_pylist()[0]
    assert (row["x"], row["y"]) == (1, [])
    assert math.isnan(row["w"])
    assert encoded.unmatched == 1


def test_categories_stored_as_floats() -> None:
    """Whole ones are the same values as integers; no other is lost."""
    raw = {"id": ["a", "b", "c", "d"], "x": [3.0, 1.5, None, float("nan")]}
    vocabulary = vocabulary_of(["a", "b", "c", "d"])
    encoded = encode_features(vocabulary, pa.table(raw), [Feature(name="x")])
    values = dict(
        zip(*(encoded.vocabularies["x"].column(n).to_pylist() for n in ("index", "value")), strict=True)
    )
    assert [values.get(index) for index in encoded.table.column("x").to_pylist()] == ["3", "1.5", None, None]
