"""The users of a data set, with their whole histories."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from behavior.arrow.values import parse_text
from behavior.errors import UserError
from behavior.shards.folder import ShardFolder
from behavior.shards.row_groups import RowGroupReader
from behavior.wording import number_of
from models.data.loading import SequenceSource
from models.data.sequences import concat_sequences
from models.serving.recommend.asked import take_sequences
from models.serving.recommend.table import USER, Asking
from models.serving.recommend.values import text_of_ids

_DOMAIN = "user_domain"
_EVENTS_AT_ONCE = 1 << 23
_FEWEST = 1024
"""Users that are in memory together at least, however long their histories."""


class DataSetUsers:
    """All users of a data set, in its order, or some, in the order of their ids.

    Args:
        shards: the data set.
        source: its sequences.
        chosen: ids of the users, as in the log; None: all. In a data set where domains number their users
            apart, all users of an id. One that comes again counts once.
        counted: whether they are looked up first, so that `count` is right and all are known to be there;
            else they are there to be read part by part.

    Raises:
        UserError: the data set does not have one of them.
    """

    def __init__(
        self,
        shards: ShardFolder,
        source: SequenceSource,
        chosen: pa.Array | None = None,
        *,
        counted: bool = True,
    ) -> None:
        self.shards, self.source = shards, source
        self.reader = RowGroupReader(shards)
        self.names = [name for name in (USER, _DOMAIN) if name in self.reader.columns]
        self.chosen = None if chosen is None else pc.unique(text_of_ids(chosen, "user", "users"))
        self.count = shards.manifest.counts.users
        self._places: npt.NDArray[np.int64] | None = None
        """[users, 2] part, and row in it, of the users that were looked up, in their order."""
        if self.chosen is not None and counted:
            self._places = self._find(self.chosen)
            self.count = len(self._places)

    @property
    def parts(self) -> int:
        """Parts in which they are read: row groups of the data set."""
        return len(self.reader.groups)

    def __iter__(self) -> Iterator[Asking]:
        if self._places is not None:
            step = self._at_once()
            for first in range(0, self.count, step):
                yield self._of_several_parts(self._places[first : first + step])
            return
        for number in range(self.parts):
            part = self.part(number)
            if part is not None:
                yield part

    def part(self, number: int) -> Asking | None:
        """Those of one part; None where there is none of them."""
        users = self.reader.read(self.reader.groups[number], self.names)
        rows = None if self.chosen is None else self._rows(users)
        return None if rows is not None and not len(rows) else self._read(number, users, rows)

    def _at_once(self) -> int:
        """Users that are in memory together: each block of them reads the parts that it is in anew."""
        counts = self.shards.manifest.counts
        return max(_FEWEST, _EVENTS_AT_ONCE * counts.users // max(1, counts.events))

    def _of_several_parts(self, places: npt.NDArray[np.int64]) -> Asking:
        """Users by their places, in this order."""
        parts, order = [], np.argsort(places[:, 0], kind="stable")
        for number in np.unique(places[:, 0]).tolist():
            users = self.reader.read(self.reader.groups[number], self.names)
            parts.append(self._read(number, users, places[places[:, 0] == number, 1]))
        back = np.argsort(order)
        users = pa.concat_tables([part.users for part in parts]).combine_chunks()
        data = concat_sequences([part.data for part in parts])
        return Asking(take_sequences(data, back), users.take(pa.array(back)))

    def _read(self, number: int, users: pa.Table, rows: npt.NDArray[np.int64] | None) -> Asking:
        """Rows of a part, in this order; None: all."""
        data = self.source.read(number)
        if rows is not None:
            data, users = take_sequences(data, rows), users.take(pa.array(rows))
        if _DOMAIN in self.names:
            place = pc.subtract(users[_DOMAIN].cast(pa.int64()), 1)
            names = pa.array(self.shards.manifest.domains).take(place.combine_chunks())
            users = users.set_column(users.column_names.index(_DOMAIN), _DOMAIN, names)
        return Asking(data, users)

    def _rows(self, users: pa.Table) -> np.ndarray:
        text = parse_text(users[USER].combine_chunks())[0]
        return np.flatnonzero(pc.is_in(text, value_set=self.chosen).to_numpy(zero_copy_only=False))

    def _find(self, chosen: pa.Array) -> npt.NDArray[np.int64]:
        """Where the users are, in their order; all must be there."""
        found: list[npt.NDArray[np.int64]] = []
        for part, group in enumerate(self.reader.groups):
            text = parse_text(self.reader.read(group, [USER])[USER].combine_chunks())[0]
            places = pc.fill_null(pc.index_in(text, value_set=chosen), -1).to_numpy(zero_copy_only=False)
            rows = np.flatnonzero(places >= 0)
            found.append(np.stack([places[rows], np.full(len(rows), part), rows], axis=1).astype(np.int64))
        known = np.concatenate([np.empty((0, 3), np.int64), *found])
        missing = chosen.filter(pa.array(~np.isin(np.arange(len(chosen)), known[:, 0])))
        if len(missing):
            some = ", ".join(f"'{one}'" for one in missing.slice(0, 3).to_pylist())
            raise UserError(
                f"{len(missing):,} of {number_of(len(chosen), 'user is', 'users are')} not in the "
                f"data set: {some}"
                f"{', ...' if len(missing) > 3 else ''}",
                where="users",
                fix="leave them out, or give their histories: --histories FILE",
            )
        return known[np.argsort(known[:, 0], kind="stable"), 1:]
