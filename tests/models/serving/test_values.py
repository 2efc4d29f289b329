"""Python's values and those of columns."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from behavior.errors import UserError
from models.serving.recommend.values import rows_of, text_of_ids

HALF_DIGITS = [0.1, 1 / 3, 16777217.0, 1e-45, -3.4e38, 0.0]


def test_float32_have_the_fewest_digits_that_are_read_as_the_same() -> None:
    values = np.array(HALF_DIGITS, np.float32)
    listed = pa.array([[value] for value in values], pa.list_(pa.float32()))
    nested = pa.array([{"a": value} for value in values], pa.struct([("a", pa.float32())]))
    wide = pa.array([0.1] * len(values), pa.float64())
    columns = {"plain": pa.array(values), "listed": listed, "nested": nested, "wide": wide}
    columns["name"] = pa.array(["x"] * len(values))
    rows = rows_of(pa.RecordBatch.from_pydict(columns))
    for row, value in zip(rows, values, strict=True):
        shown = json.dumps(row["plain"])
        assert np.float32(shown) == value
        assert float(shown) == float(str(value))  # as numpy shows float32: the shortest that is unique
        assert row["listed"] == [row["plain"]]
        assert row["nested"] == {"a": row["plain"]}
        assert row["wide"] == 0.1
        assert row["name"] == "x"
    assert json.dumps(rows[0]["plain"]) == "0.1"


def test_what_is_not_there_stays_so() -> None:
    batch = pa.RecordBatch.from_pydict({"a": pa.array([None, 0.5], pa.float32())})
    assert rows_of(batch) == [{"a": None}, {"a": 0.5}]


def test_floats_that_are_whole_numbers_are_ids() -> None:
    assert text_of_ids(pa.array([1.0, 20.0]), "user", "users").to_pylist() == ["1", "20"]


@pytest.mark.parametrize(
    ("ids", "shown", "row"), [([1.0, 1.5], "1.5", 2), (["a", ""], "(empty)", 2), ([None, 2], "(empty)", 1)]
)
def test_what_is_no_id_is_said_with_its_row(ids: list[Any], shown: str, row: int) -> None:
    with pytest.raises(UserError) as error:
        text_of_ids(pa.array(ids), "user", "u.parquet")
    assert error.value.what == f"user {shown} is not an id"
    assert error.value.where == f"u.parquet, row {row}"
    assert "as they are in the log" in (error.value.fix or "")
