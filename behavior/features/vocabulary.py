"""Vocabularies: raw ids become indices by descending count, ties by id, whatever the order of the input.

| index | stands for |
| --- | --- |
| 0 | padding |
| 1 .. oov | OOV ids, by hash |
| oov + 1 .. | known ids, the most frequent first |
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from behavior.arrow.coded import codes_of
from behavior.arrow.columns import joined, taken
from behavior.arrow.hashing import stable_hash
from behavior.runtime.compiled import compiled

COUNT_COLUMNS = ("count", "train_count")
_INTEGER_ID = r"^(0|-?[1-9][0-9]{0,17})$"


class IdCounts:
    """A combiner that counts ids: create, add batches, merge, extract. Beam merely runs it.

    A count is an Arrow table with `id`, `count` and `train_count` (events in the training part).
    """

    def __init__(self, id_type: pa.DataType) -> None:
        self.schema = pa.schema([("id", id_type), ("count", pa.int64()), ("train_count", pa.int64())])

    def create(self) -> pa.Table:
        """A count of nothing."""
        return self.schema.empty_table()

    def count(self, ids: pa.Array, in_train: np.ndarray) -> pa.Table:
        """Count one batch of events.

        Args:
            ids: raw id of each event.
            in_train: whether each event is in the training part. [events] bool
        """
        codes, values = codes_of(ids)
        counts, train_counts = np.zeros(len(values), np.int64), np.zeros(len(values), np.int64)
        _count(codes, in_train, counts, train_counts)
        there = np.flatnonzero(counts)
        columns = [values.take(pa.array(there)), pa.array(counts[there]), pa.array(train_counts[there])]
        return pa.Table.from_arrays(columns, schema=self.schema)

    def merge(self, counts: Iterable[pa.Table]) -> pa.Table:
        """Add counts up."""
        tables = [table for table in counts if table.num_rows]
        if not tables:
            return self.create()
        merged = (
            pa.concat_tables(tables)
            .group_by("id", use_threads=False)
            .aggregate([(name, "sum") for name in COUNT_COLUMNS])
        )
        renamed = {"id": merged.column("id"), **{n: merged.column(f"{n}_sum") for n in COUNT_COLUMNS}}
        return pa.table(renamed).cast(self.schema)


@compiled
def _count(codes: np.ndarray, in_train: np.ndarray, counts: np.ndarray, train_counts: np.ndarray) -> None:
    """Add up how often each code occurs; numpy's own makes each of them 64 bits wide first."""
    for event in range(len(codes)):
        counts[codes[event]] += 1
        train_counts[codes[event]] += in_train[event]


@dataclass(frozen=True)
class Vocabulary:
    """Known ids in index order.

    Attributes:
        table: index (int32), id, count, train_count; the first index is `oov + 1`.
        oov: number of OOV indices, which unknown ids share by hash.
    """

    table: pa.Table
    oov: int

    @classmethod
    def from_counts(
        cls,
        counts: pa.Table,
        oov: int,
        *,
        by: str = "count",
        min_count: int = 1,
        max_size: int | None = None,
    ) -> Vocabulary:
        """Order ids by descending count, ties by id; ids that all look like integers compare as numbers.

        Args:
            counts: id, count, train_count, in any order.
            oov: number of OOV indices.
            by: `count`, or `train_count`, which leaves out ids that the training part does not have.
            min_count: ids that occur less often (by `by`) are left out.
            max_size: known ids at most, the first in order; None for all.
        """
        if by == "train_count" or min_count > 1:
            counts = counts.filter(pc.greater_equal(counts.column(by), min_count))
        keyed = counts.append_column("key", comparable(counts.column("id").combine_chunks()))
        order = pc.sort_indices(keyed, [(by, "descending"), ("key", "ascending")])
        del keyed
        rows = order.slice(0, max_size).to_numpy().view(np.int64)
        columns = {"index": pa.array(np.arange(oov + 1, oov + 1 + len(rows), dtype=np.int32))}
        # One after the other: there may be hundreds of millions of users.
        columns |= {name: taken(joined(counts.column(name)), rows) for name in counts.column_names}
        return cls(pa.table(columns), oov)

    def __len__(self) -> int:
        return self.table.num_rows

    @property
    def ids(self) -> pa.Array:
        """Known raw ids, in index order."""
        column = self.table.column("id")
        return column.chunk(0) if column.num_chunks else pa.array([], column.type)

    @property
    def counts(self) -> pa.Table:
        """id, count, train_count of the known ids."""
        return self.table.select(["id", *COUNT_COLUMNS])

    def indices(self, ids: pa.Array) -> np.ndarray:
        """Index of each raw id; unknown ones go to an OOV index by a stable hash. [ids] int32"""
        found = pc.index_in(ids, value_set=self.ids)
        result = pc.fill_null(found, -1).to_numpy().astype(np.int32) + np.int32(self.oov + 1)
        unknown = np.flatnonzero(result == self.oov)
        if len(unknown):
            hashed = stable_hash(ids.take(pa.array(unknown)))
            result[unknown] = 1 + (hashed % np.uint64(self.oov)).astype(np.int32)
        return result


def extend(
    previous: Vocabulary,
    counts: pa.Table,
    *,
    by: str = "count",
    min_count: int = 1,
    max_size: int | None = None,
) -> Vocabulary:
    """The vocabulary of a data set to which more was added: known ids keep their indices, new ones follow.

    New ids stand in the order of `Vocabulary.from_counts` among themselves.

    Args:
        previous: the vocabulary so far.
        counts: id, count, train_count of everything, old and new; a known id that is not among them counts 0.
        by, min_count: which new ids become known, see `Vocabulary.from_counts`; known ids stay in any case.
        max_size: known ids at most, old ones included.
    """
    known = previous.ids
    counts = counts.select(["id", *COUNT_COLUMNS])
    totals = counts.take(pc.index_in(known, value_set=counts.column("id")))
    old = pa.table(
        {
            "index": previous.table.column("index"),
            "id": known,
            **{name: pc.fill_null(totals.column(name), 0) for name in COUNT_COLUMNS},
        }
    )
    room = None if max_size is None else max(0, max_size - len(previous))
    unknown = counts.filter(pc.invert(pc.is_in(counts.column("id"), value_set=known)))
    # To `from_counts` the known ids are so many reserved indices.
    new = Vocabulary.from_counts(
        unknown, previous.oov + len(previous), by=by, min_count=min_count, max_size=room
    )
    table = pa.concat_tables([old, new.table.select(old.column_names)])
    return Vocabulary(table.combine_chunks(), previous.oov)


def comparable(ids: pa.Array) -> pa.Array:
    """A sort key: the ids themselves, as numbers where every one is written like an integer."""
    if (
        pa.types.is_string(ids.type)
        and len(ids)
        and pc.all(pc.match_substring_regex(ids, _INTEGER_ID)).as_py()
    ):
        return ids.cast(pa.int64())
    return ids
