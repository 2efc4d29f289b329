"""Tables in long form: several rows an id become one."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from behavior.arrow.coded import codes_of
from behavior.features.columns import canonical, matched, parents
from behavior.features.coverage import is_known
from behavior.spec.dataset_spec import FeatureTable


def one_row_an_id(table: FeatureTable, raw: pa.Table, keys: pa.Array) -> pa.Table:
    """Put the rows of each id together, in their order.

    Lists are joined; of other features the first value that is there counts.

    Args:
        table: with its features.
        raw: `id` and a column a feature.
        keys: the id of each row, all in one form; null where it is none. [rows]

    Returns:
        The same columns, a row an id.
    """
    codes, ids = codes_of(keys)
    columns = {"id": ids}
    for feature in table.features:
        column = raw.column(feature.name).combine_chunks()
        values = canonical(feature, matched(feature, column))
        if pa.types.is_list(values.type):
            columns[feature.name] = _joined(values, codes, len(ids))
        else:
            columns[feature.name] = column.take(pa.array(_first_rows(codes, is_known(values), len(ids))))
    return pa.table(columns)


def _joined(lists: pa.Array, codes: np.ndarray, ids: int) -> pa.Array:
    """The lists of each id as one. [ids]"""
    owner = codes[parents(lists)]
    order = np.argsort(owner, kind="stable")
    order = order[owner[order] >= 0]
    offsets = np.zeros(ids + 1, np.int32)
    np.cumsum(np.bincount(owner[order], minlength=ids), out=offsets[1:])
    return pa.ListArray.from_arrays(pa.array(offsets), lists.flatten().take(pa.array(order)))


def _first_rows(codes: np.ndarray, known: np.ndarray, ids: int) -> np.ndarray:
    """The first row of each id that has a value, else its first. [ids] int64"""
    first = np.zeros(ids, np.int64)
    for rows in (np.flatnonzero(codes >= 0), np.flatnonzero((codes >= 0) & known)):
        backwards = rows[::-1]
        first[codes[backwards]] = backwards
    return first
