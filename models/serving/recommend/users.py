"""The users of a data set, with their whole histories."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from behavior.arrow.values import parse_text
from behavior.errors import UserError
from behavior.shards.folder import ShardFolder
from behavior.shards.row_groups import RowGroupReader
from behavior.wording import number_of
from models.data.loading import SequenceSource
from models.serving.recommend.asked import take_sequences
from models.serving.recommend.table import USER, Asking
from models.serving.recommend.values import text_of_ids

_DOMAIN = "user_domain"


class DataSetUsers:
    """All users of a data set, or some.

    Args:
        shards: the data set.
        source: its sequences.
        chosen: ids of the users, as in the log; None: all. In a data set where domains number their users
            apart, all users of an id.
        counted: whether they are looked up first, so that `count` is right and all are known to be there.

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
        if self.chosen is not None and counted:
            self._find()

    @property
    def parts(self) -> int:
        """Parts in which they are read: row groups of the data set."""
        return len(self.reader.groups)

    def __iter__(self) -> Iterator[Asking]:
        for number in range(self.parts):
            part = self.part(number)
            if part is not None:
                yield part

    def part(self, number: int) -> Asking | None:
        """Those of one part; None where there is none of them."""
        users = self.reader.read(self.reader.groups[number], self.names)
        rows = None if self.chosen is None else self._rows(users)
        if rows is not None and not len(rows):
            return None
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

    def _find(self) -> None:
        """Count the users that are there; all must be."""
        assert self.chosen is not None
        found = np.zeros(len(self.chosen), np.int64)
        for group in self.reader.groups:
            text = parse_text(self.reader.read(group, [USER])[USER].combine_chunks())[0]
            places = pc.index_in(text, value_set=self.chosen).drop_null().to_numpy()
            found += np.bincount(places, minlength=len(found))
        self.count = int(found.sum())
        missing = self.chosen.filter(pa.array(found == 0))
        if len(missing):
            some = ", ".join(f"'{one}'" for one in missing.slice(0, 3).to_pylist())
            raise UserError(
                f"{len(missing):,} of {number_of(len(self.chosen), 'user is', 'users are')} not in the "
                f"data set: {some}"
                f"{', ...' if len(missing) > 3 else ''}",
                where="users",
                fix="leave them out, or give their histories: --histories FILE",
            )
