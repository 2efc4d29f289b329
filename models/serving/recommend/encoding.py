"""Histories in two steps, as a job takes them: rows become events, and events of users whole histories."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import pyarrow as pa

from behavior.errors import UserError
from behavior.sources.histories import has_lists
from models.serving.recommend.features import USER_PREFIX
from models.serving.recommend.table import Asking, HistoryTable

BadRow: TypeAlias = tuple[int, str, str | None]
"""Number of a row, what is wrong with it, and what to do."""


class HistoryEncoder(HistoryTable):
    """Takes bad rows apart, and needs no row beside another."""

    def features_read(self) -> list[str]:
        """Features of events, and of users (`user.<name>`), that the model reads of histories.

        Raises:
            UserError: the model cannot do without one.
        """
        self.features.check(self.where)
        return sorted([*self.features.of_event_names, *(USER_PREFIX + name for name in self.features.users)])

    def encode(self, rows: pa.RecordBatch) -> tuple[pa.RecordBatch, list[BadRow]]:
        """Rows of events or of users with lists as events of the data set, each row for itself.

        Args:
            rows: the columns of histories but `user`.

        Returns:
            A row an event: `row`, where in `rows` it stands; `item` (0: a row without an event), `behavior`,
            `timestamp` in seconds, and what else there is. And the rows that cannot be read, of which there
            are no events: number, what is wrong, what to do.

        Raises:
            UserError: all times are in 1970, so that they seem to be in another unit.
        """
        table = pa.Table.from_batches([rows])
        found, bad = [self._of_rows(table.slice(0, 0), 0)], list[BadRow]()
        self._encode(table, 0, found, bad)
        events = pa.concat_tables(found).combine_chunks()
        for name in ("timestamp", "at") if self.has_time else ():
            if name in events.column_names:
                ticks = events[name].to_numpy()
                self._check_year(
                    ticks[events["item"].to_numpy() > 0 if name != "at" else ticks >= 0], 1, name
                )
        batches = events.to_batches()
        return batches[0] if batches else pa.RecordBatch.from_pylist([], events.schema), bad

    def _encode(self, table: pa.Table, first: int, found: list[pa.Table], bad: list[BadRow]) -> None:
        """Halves what cannot be encoded, until the rows are found that are to blame."""
        if not table.num_rows:
            return
        try:
            found.append(self._of_rows(table, first))
        except UserError as error:
            if table.num_rows == 1:
                bad.append((first, error.what, error.fix))
                return
            half = table.num_rows // 2
            self._encode(table.slice(0, half), first, found, bad)
            self._encode(table.slice(half), first + half, found, bad)

    def _of_rows(self, table: pa.Table, first: int) -> pa.Table:
        flat, number = self._flat(table), np.arange(table.num_rows)
        if has_lists(table.schema):
            values, lengths = self._values(flat, table)
            # A user without events has a row without one.
            number = np.repeat(number, np.maximum(lengths, 1))
            place = np.full(len(number), -1)
            place[np.repeat(lengths > 0, np.maximum(lengths, 1))] = np.arange(lengths.sum())
            events = pa.array(place, mask=place < 0)
            flat = {name: each.take(events) for name, each in values.items()} | {
                name: flat[name].take(pa.array(number)) for name in flat if name in self.of_rows
            }
        encoded = self._encoded(pa.array(number + first), flat, year=False)
        return encoded.rename_columns(["row" if name == "owner" else name for name in encoded.column_names])

    def numbered(self, events: pa.RecordBatch) -> Asking:
        """Whole histories of users: `number`, the user's place, ascending; `user`; and events by `encode`."""
        rows = pa.Table.from_batches([events])
        number = rows["number"].to_numpy()
        starts = np.flatnonzero(np.diff(number, prepend=-1))
        users = rows["user"].combine_chunks().take(pa.array(starts))
        return self._of_coded(number, users, rows.drop_columns(["number", "user"]))
