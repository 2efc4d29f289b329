"""Conditions of a spec on whole columns, and text without blanks around it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from behavior.arrow.values import mask, parse_floats, parse_text
from behavior.spec.conditions import Condition


def holding(conditions: Sequence[Condition], columns: Mapping[str, pa.Array], rows: int) -> np.ndarray:
    """Rows for which all conditions are true. [rows] bool

    Args:
        conditions: on some of the columns.
        columns: raw columns, by name.
        rows: of each.
    """
    kept = np.ones(rows, bool)
    for condition in conditions:
        kept &= _holds(condition, columns[condition.column])
    return kept


def _holds(condition: Condition, column: pa.Array) -> np.ndarray:
    if condition.min is not None or condition.max is not None:
        numbers = parse_floats(column, pa.float64())[0].to_numpy(zero_copy_only=False)
        low = -np.inf if condition.min is None else condition.min
        high = np.inf if condition.max is None else condition.max
        return (numbers >= low) & (numbers <= high)
    text, there = parse_text(_decoded(column))
    there &= mask(pc.greater(pc.binary_length(pc.utf8_trim_whitespace(text)), 0))
    if condition.missing is not None:
        return ~there if condition.missing else there
    wanted = condition.one_of if condition.one_of is not None else condition.none_of
    found = there & mask(pc.is_in(text, value_set=pa.array(wanted, pa.string())))
    return found if condition.one_of is not None else ~found


def trimmed(column: pa.Array) -> pa.Array:
    """Text without white space around it; what is no text stays as it is."""
    column = _decoded(column)
    kind = column.type
    if pa.types.is_binary(kind):
        try:
            column = column.cast(pa.string())
        except pa.ArrowInvalid:  # not UTF-8: for whoever reads the column to judge
            return pa.array([None if v is None else v.strip() for v in column.to_pylist()], kind)
    return pc.utf8_trim_whitespace(column) if pa.types.is_string(column.type) else column


def _decoded(column: pa.Array) -> pa.Array:
    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column
