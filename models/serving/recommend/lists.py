"""Rows of users with lists: all values one after the other."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from behavior.arrow.values import shown
from behavior.errors import UserError
from behavior.wording import number_of
from models.data.sequences import Int64Array


def flat_lists(
    lists: Mapping[str, pa.Array], needed: Collection[str], users: pa.Array | None, where: str
) -> tuple[dict[str, pa.Array], Int64Array]:
    """Values of lists without the lists, and how many each row has.

    Args:
        lists: [rows] each; `item`, and others of the same lengths.
        needed: names of those that all rows must have. Of the others null stands for as many nulls.
        users: [rows] whose they are, for messages.
        where: what messages name.

    Returns:
        [events] each, in order of rows; and [rows] events of each row.

    Raises:
        UserError: a column has no lists, or they are not of one length; says whose.
    """
    lengths = _lengths(lists["item"])
    owner = np.repeat(np.arange(len(lengths)), lengths)
    found = {}
    for name, values in lists.items():
        kind = values.type
        if pa.types.is_null(kind) and name not in needed:
            found[name] = pa.nulls(len(owner))
            continue
        if not (pa.types.is_list(kind) or pa.types.is_large_list(kind)):
            raise UserError(f"'item' has lists and '{name}' has not", where=where, fix="one an event")
        absent = values.is_null().to_numpy(zero_copy_only=False) & (name not in needed)
        own = _lengths(values)
        for row in np.flatnonzero((own != lengths) & ~absent)[:1]:
            whose = "a user" if users is None else f"user {shown(users, int(row))}"
            raise UserError(
                f"{whose} has {number_of(int(lengths[row]), 'item')} and {int(own[row])} of '{name}'",
                where=f"{where}, row {int(row) + 1}",
                fix="one an event",
            )
        found[name] = pc.list_flatten(values)
        if absent.any():
            gap = absent[owner]
            found[name] = found[name].take(pa.array(np.cumsum(~gap) - 1, mask=gap))
    return found, lengths


def _lengths(values: pa.Array) -> Int64Array:
    """[rows]; 0 where there is no list."""
    return pc.fill_null(pc.list_value_length(values), 0).to_numpy(zero_copy_only=False).astype(np.int64)
