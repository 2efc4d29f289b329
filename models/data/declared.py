"""Columns declared ready-made: the core columns of every batch, and those of events by their name."""

from __future__ import annotations

import numpy as np

from behavior.shards.folder import ShardFolder
from models.data.columns import Column, Columns
from models.data.origins import Next, Own, Position, QueryTimestamp, TargetItem
from models.data.stored import stored_column

CORE = Columns(
    (
        Column("item", origin=Own("item")),
        Column("behavior", origin=Own("behavior")),
        Column("timestamp", origin=Own("timestamp")),
        Column("query_time", origin=QueryTimestamp()),
        Column("position", origin=Position()),
        Column("target", origin=TargetItem()),
        Column("target_behavior", origin=Next("behavior")),
    )
)
"""What retrieval needs; see `models.data.batch.PackedBatch` for their meaning."""


def event_column(shards: ShardFolder, stored: str, *, of_target: bool = False, name: str = "") -> Column:
    """The column of a batch that has one value an event of the data set.

    | column of the sequence files | dtype | values |
    | --- | --- | --- |
    | `domain` | int32 | ids from 1; 0 is padding |
    | `value` | float32 | NaN where an event has none |
    | `session` | int32 | from 0 in each sequence of the data set |
    | categorical, hashed and bucketed features | int32 | ids, 1 is missing; 0 is padding |
    | numeric features | float32 | NaN is missing |
    | `item`, `behavior`, `timestamp` | int64 | as in the core columns |

    Args:
        shards: the data set.
        stored: name of the column in its sequence files.
        of_target: the value of the event to predict (the label), instead of the event's own.
        name: in the batch; default: `stored`, and `target_<stored>` with `of_target`.

    Raises:
        UserError: the data set has no such column, or an event may have several values in it.
    """
    kind = stored_column(shards, stored).dtype
    if kind == np.float32:
        dtype = "float32"
    else:
        dtype = "int64" if stored in ("item", "behavior", "timestamp") else "int32"
    name = name or (f"target_{stored}" if of_target else stored)
    return Column(name, dtype, origin=Next(stored) if of_target else Own(stored))
