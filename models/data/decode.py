"""Rows of a sequence file, which its reader has checked, become sequences in memory."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from behavior.shards.folder import ShardFolder
from models.data.about import about_sequences
from models.data.columns import Columns
from models.data.origins import Next, Own
from models.data.sequences import Int64Array, SequenceData
from models.data.stored import StoredColumn, stored_column

_UNITS_A_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000}
_ALWAYS = ("item", "behavior", "timestamp")


class SequenceDecoder:
    """Decodes what some columns of a batch need, and nothing else.

    Args:
        shards: the data set.
        columns: of the batches that are to be made.

    Attributes:
        stored: columns that the sequences have.
        read: names of the columns of the sequence files that must be read.

    Raises:
        UserError: the data set lacks a column, or a column's values are not of a kind that batches hold.
        ValueError: a column that is a plain copy has a dtype that does not hold what is stored.
    """

    def __init__(self, shards: ShardFolder, columns: Columns) -> None:
        self.shards, self.columns = shards, columns
        self.about = about_sequences(shards)
        names = dict.fromkeys((*_ALWAYS, *columns.reads))
        self.stored: list[StoredColumn] = [stored_column(shards, name) for name in names]
        self.read = [column.name for column in self.stored if column.constant is None]
        self.read += ["train_end", "valid_end"]
        self._check_dtypes()

    def decode(self, table: pa.Table, first_row: int) -> SequenceData:
        """The sequences of some rows, without a copy where types and units agree.

        Args:
            table: columns `read`, in one chunk each, checked (`behavior.shards.checks`).
            first_row: number of the first row in the data set.
        """
        offsets = _offsets(table, "item")
        return SequenceData(
            events={column.name: self._events(table, column, offsets) for column in self.stored},
            offsets=offsets,
            train_end=_numbers(table, "train_end"),
            valid_end=_numbers(table, "valid_end"),
            row=np.arange(first_row, first_row + table.num_rows),
            about=self.about,
            columns=self.columns,
        )

    def _check_dtypes(self) -> None:
        kinds = {column.name: column.dtype for column in self.stored}
        for column in self.columns:
            if isinstance(column.origin, Own | Next):
                stored = column.origin.stored
                if not np.can_cast(kinds[stored], column.dtype):
                    raise ValueError(f"column '{column.name}': {column.dtype} does not hold {kinds[stored]}")

    def _events(self, table: pa.Table, column: StoredColumn, offsets: Int64Array) -> npt.NDArray:
        if column.constant is not None:
            return np.full(int(offsets[-1]), column.constant, column.dtype)
        values = _list(table, column.name).flatten().to_numpy(zero_copy_only=False)  # missing: NaN
        values = values.astype(column.dtype, copy=False)
        return self._in_seconds(values) if column.name == "timestamp" else values

    def _in_seconds(self, ticks: Int64Array) -> Int64Array:
        a_second = _UNITS_A_SECOND[self.shards.manifest.timestamp_unit]
        # Floor, so that two events never swap places.
        return ticks if a_second == 1 else ticks // a_second


def _list(table: pa.Table, column: str) -> pa.ListArray:
    chunks: Sequence[pa.ListArray] = table.column(column).chunks
    return chunks[0] if len(chunks) == 1 else pa.concat_arrays(chunks)


def _offsets(table: pa.Table, column: str) -> Int64Array:
    offsets = _list(table, column).offsets.to_numpy().astype(np.int64)
    return offsets - offsets[0]


def _numbers(table: pa.Table, column: str) -> Int64Array:
    return table.column(column).to_numpy().astype(np.int64)
