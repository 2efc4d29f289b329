"""Rows that hold a list of events: each value of the list becomes a row."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from behavior.arrow.values import mask, parse_text
from behavior.arrow.written import split_lists
from behavior.sources.raw import RawBatch
from behavior.spec.events import Explode


def exploded(batch: RawBatch, explode: Explode) -> RawBatch:
    """A batch with a row a value of the list column.

    A row without values counts as filtered; one whose text is no list is rejected.

    Args:
        batch: as a reader gives it.
        explode: which column, and what its values are.
    """
    column = batch.columns[explode.column]
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    there = mask(column.is_valid())
    if not (pa.types.is_list(column.type) or pa.types.is_large_list(column.type)):
        text, filled = parse_text(column)
        there &= filled
        column = split_lists(text, explode.list_separator)
    bad = np.flatnonzero(there & mask(column.is_null()))
    rows, values = pc.list_parent_indices(column).to_numpy(), column.flatten()
    kept = mask(pc.greater(pc.binary_length(pc.utf8_trim_whitespace(values.cast(pa.string()))), 0))
    rows, values = rows[kept], values.filter(pa.array(kept))
    others = {name: each for name, each in batch.columns.items() if name != explode.column}
    columns = {name: each.take(pa.array(rows)) for name, each in others.items()}
    text_of = batch.text_of
    empty = batch.num_rows - len(np.unique(rows)) - len(bad)
    reason = f"'{explode.column}' is no list of values"
    return replace(
        batch,
        columns=columns | _fields(values, explode),
        places=batch.places[rows],
        text_of=lambda index: text_of(int(rows[index])),
        rejects=batch.rejects + [(int(batch.places[row]), reason, text_of(int(row))) for row in bad],
        filtered=batch.filtered + empty,
    )


def _fields(values: pa.Array, explode: Explode) -> dict[str, pa.Array]:
    """The columns that the values give: themselves, or their parts."""
    names = explode.fields or [explode.column]
    if len(names) == 1:
        return {names[0]: values}
    assert explode.field_separator is not None
    text = values.cast(pa.string())
    parts = pc.split_pattern(text, explode.field_separator, max_splits=len(names) - 1, reverse=True)
    lengths = pc.list_value_length(parts).to_numpy(zero_copy_only=False)
    whole = lengths == len(names)
    starts, flat = np.cumsum(lengths) - lengths, parts.flatten()
    columns = {
        name: flat.take(pa.array(np.where(whole, starts + number, 0), mask=~whole))
        for number, name in enumerate(names)
    }
    columns[names[0]] = pc.if_else(pa.array(whole), columns[names[0]], text)
    return columns
