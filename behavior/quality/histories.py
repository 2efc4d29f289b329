"""Histories of a data set, a row group at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from behavior.shards.row_groups import RowGroup, RowGroupReader

Part = Literal["train", "valid", "all"]
"""Events that are measured: those of training, those and of validation, all."""


@dataclass(frozen=True)
class HistoryPart:
    """Histories of some users, end to end.

    Attributes:
        first_row: number of the first user in the whole data set.
        offsets: [users + 1] int64 where each history begins, then the number of events.
        item: [events] int32 numbers of items, from 0.
        unknown: events of unknown items, which are left out.
    """

    first_row: int
    offsets: npt.NDArray[np.int64]
    item: npt.NDArray[np.int32]
    unknown: int = 0


def read_part(reader: RowGroupReader, group: RowGroup, part: Part) -> HistoryPart:
    """The histories of a row group, of known items: events of unknown ones may be of different items.

    Raises:
        UserError: the file is damaged.
    """
    ends = [] if part == "all" else [f"{part}_end"]
    table = reader.read(group, ["item", *ends])
    column = table.column("item").combine_chunks()
    offsets = column.offsets.to_numpy().astype(np.int64)
    offsets -= offsets[0]
    lengths = np.diff(offsets)
    item = column.flatten().to_numpy()
    inside = np.ones(len(item), bool)
    if ends:
        end = table.column(ends[0]).to_numpy().astype(np.int64)
        inside = np.arange(len(item)) < np.repeat(offsets[:-1] + end, lengths)
    known = inside & (item >= reader.shards.first_item)
    kept = np.concatenate([np.zeros(1, np.int64), np.cumsum(known, dtype=np.int64)])
    return HistoryPart(
        first_row=group.first_row,
        offsets=kept[offsets],
        item=(item[known] - reader.shards.first_item).astype(np.int32),
        unknown=int(inside.sum() - kept[-1]),
    )
