"""Histories in a table, with the ids of the log, become sequences of the data set."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from behavior.arrow.times import parse_times, time_problem
from behavior.arrow.values import shown
from behavior.config import parse_config
from behavior.errors import UserError
from behavior.shards.folder import ShardFolder
from behavior.shards.manifest import Manifest
from behavior.sources.histories import NO_USER, HistoryColumns, has_lists
from behavior.spec.dataset_spec import DatasetSpec
from behavior.spec.timestamps import TimeFormat
from models.data.columns import Columns
from models.data.decode import SequenceDecoder
from models.data.sequences import Int64Array, SequenceData
from models.serving.recommend.features import USER_PREFIX, HistoryFeatures, first_there
from models.serving.recommend.ids import A_SECOND, A_YEAR, Ids, time_span
from models.serving.recommend.lists import flat_lists
from models.serving.recommend.spill import Gathered

MADE_APART = ("item", "behavior", "timestamp", "domain")
USER = "user"
MOST_EVENTS = 20_000_000
"""Single events held in memory at once, by default: half a gigabyte."""
_TEXT = (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary)


@dataclass(frozen=True)
class Asking:
    """Some users and their whole histories, which may be empty."""

    data: SequenceData
    users: pa.Table
    """`user`, as in the log; of users in the data set with separate ids `user_domain`, too."""
    at: Int64Array | None = None
    """[users] time of asking of each, in seconds; -1 where the question's is meant."""
    unsorted: int = 0
    """Users whose events were not in order of time."""
    unknown_items: int = 0
    """Events with an item that the data set does not know."""
    missing: Mapping[str, int] = field(default_factory=dict)
    """Events without a value of a feature that the model reads; users, of their features (`user.<name>`)."""
    people: pa.Table | None = None
    """[users] features of these users, encoded; None: the model reads none, or knows them by their rows."""
    known: Callable[[pa.Table], AbstractContextManager[None]] | None = None
    """Of such features: while it is entered, the model knows them of the sequences `FIRST_VISITOR`,
    `FIRST_VISITOR - 1`, .."""


class HistoryTable:
    """Reads tables of histories: rows of one event each, or rows of a user with lists.

    Args:
        shards: the data set.
        columns: that the model reads.
        ids: of the data set.
        where: what messages name.
        limit: single events held in memory at once.
        layout: that of the model, which says what it reads of users.
    """

    def __init__(
        self,
        shards: ShardFolder,
        columns: Columns,
        ids: Ids,
        where: str = "histories",
        limit: int = MOST_EVENTS,
        *,
        layout: object = None,
    ) -> None:
        self.shards, self.ids, self.where, self.limit = shards, ids, where, limit
        self.decoder = SequenceDecoder(shards, columns)
        manifest = shards.manifest
        self.has_time = manifest.timestamp_unit != "none"
        self.unit = (manifest.spec.get("timestamp_unit") or manifest.timestamp_unit) if self.has_time else "s"
        self.form = _time_format(manifest)
        reads_domain = any(column.name == "domain" for column in self.decoder.stored)
        self.features = HistoryFeatures(shards, self.decoder, layout)
        reads_domain |= self.features.per_domain
        self.wants_domain = bool(manifest.domains) and (ids.separate_items or reads_domain)
        self.span = time_span(shards) if self.has_time else None
        self.names = self._names()

    def read(self, batches: Iterable[pa.RecordBatch]) -> Iterator[Asking]:
        """The users of a table, in order of their first rows.

        Rows with lists are taken batch by batch. Single events may stand in any order: they are held, in a
        compact form, until the last one is there, and where they are many in temporary files: then the order
        of users is another.

        Raises:
            UserError: a column is missing, or a value cannot be read; says which, where.
        """
        some = False
        with Gathered(self.limit) as rows:
            for batch in batches:
                table = pa.Table.from_batches([batch])
                self.names.check(table.column_names, self.where)
                some |= table.num_rows > 0
                if has_lists(table.schema):
                    yield from self._of_lists(table)
                else:
                    rows.add(self._encoded(table["user"].combine_chunks(), self._flat(table)))
            if not some:
                raise UserError("there are no histories", where=self.where, fix="name a file that has rows")
            for gathered in rows:
                yield self._of_events(gathered)

    def _names(self) -> HistoryColumns:
        needed = [USER, "item"]
        needed += ["timestamp"] if self.has_time else []
        needed += ["behavior"] if len(self.shards.manifest.behaviors) > 1 else []
        needed += ["domain"] if self.wants_domain else []
        optional = [] if "behavior" in needed else ["behavior"]
        optional += ["at"] if self.has_time else []
        features = self.features
        names = (*optional, *features.of_event_names, *features.columns_of_users)
        return HistoryColumns(tuple(needed), names, tuple(features.of_event_names), features.several)

    def _flat(self, table: pa.Table) -> dict[str, pa.Array]:
        features = self.features
        names = ("item", "behavior", "timestamp", "domain", "at", *features.of_event_names)
        found = {name: table[name].combine_chunks() for name in names if name in table.column_names}
        columns = {name: features.column_of_user(name, table.column_names) for name in features.users}
        return found | {
            USER_PREFIX + name: table[column].combine_chunks()
            for name, column in columns.items()
            if column is not None
        }

    @property
    def of_rows(self) -> list[str]:
        """What rows with lists have once each, of `_flat`."""
        return ["at", *(USER_PREFIX + name for name in self.features.users)]

    def _values(
        self, flat: Mapping[str, pa.Array], table: pa.Table
    ) -> tuple[dict[str, pa.Array], Int64Array]:
        """[events] of lists, and [rows] how many each has."""
        lists = {name: values for name, values in flat.items() if name not in self.of_rows}
        users = table[USER].combine_chunks() if USER in table.column_names else None
        return flat_lists(lists, self.names.needed, users, self.where)

    def _of_lists(self, table: pa.Table) -> Iterator[Asking]:
        flat = self._flat(table)
        values, lengths = self._values(flat, table)
        events = self._encoded(pa.array(np.repeat(np.arange(table.num_rows), lengths)), values)
        at = None
        if "at" in table.column_names:
            at = self._seconds(table["at"].combine_chunks(), "at", missing=-1)
        users = pa.table({USER: table["user"]})
        there = events["item"].to_numpy() != 0  # one without an item is no event
        lengths = np.bincount(events["owner"].to_numpy()[there], minlength=table.num_rows)
        offsets = np.concatenate(([0], np.cumsum(lengths))).astype(np.int64)
        people = self._people(flat, table.num_rows)
        yield self._asking(events.filter(pa.array(there)), users, offsets, at, people)

    def _people(self, flat: Mapping[str, pa.Array], size: int) -> dict[str, pa.Array]:
        """[rows] features of users, encoded; missing where they are not there."""
        features = self.features
        return {
            name: features.of_users(name, flat[USER_PREFIX + name])
            if USER_PREFIX + name in flat
            else features.nobody(name, size)
            for name in features.users
        }

    def _of_events(self, rows: pa.Table) -> Asking:
        coded = rows["owner"].combine_chunks().dictionary_encode()
        codes = coded.indices.to_numpy(zero_copy_only=False)
        order = np.argsort(codes, kind="stable")
        return self._of_coded(
            codes[order], coded.dictionary, rows.drop_columns(["owner"]).take(pa.array(order))
        )

    def _of_coded(self, codes: np.ndarray, users: pa.Array, rows: pa.Table) -> Asking:
        """Of events by user: `codes` are the users' places, ascending."""
        there = rows["item"].to_numpy() != 0
        lengths = np.bincount(codes[there], minlength=len(users))
        at = None
        if "at" in rows.column_names:
            at = np.full(len(users), -1, np.int64)
            given = rows["at"].to_numpy()
            at[codes[given >= 0]] = given[given >= 0]
        people = {
            name: first_there(
                rows[USER_PREFIX + name].combine_chunks(),
                codes.astype(np.int64),
                self.features.nobody(name, len(users)),
            )
            for name in self.features.users
        }
        return self._asking(
            rows.filter(pa.array(there)),
            pa.table({USER: users}),
            np.concatenate(([0], np.cumsum(lengths))).astype(np.int64),
            at,
            people,
        )

    def _encoded(self, owner: pa.Array, flat: dict[str, pa.Array], *, year: bool = True) -> pa.Table:
        """owner, item (0: a row without an event), behavior, timestamp in seconds, and what else there is."""
        if owner.null_count:
            raise UserError(NO_USER, where=self.where, fix="give every row a user")
        item = flat["item"]
        there = ~_is_missing(item)
        pick = pa.array(there)
        size = len(item)
        found = {"owner": owner, "item": np.zeros(size, np.int32), "behavior": np.ones(size, np.int8)}
        found["timestamp"] = np.zeros(size, np.int64)
        domains = None
        if self.wants_domain:
            found["domain"] = np.zeros(size, np.int8)
            domains = found["domain"][there] = self.ids.numbers(
                flat["domain"].filter(pick), "domain", self.where
            )
        found["item"][there] = self.ids.item_indices(item.filter(pick), domains, self.where)
        if "behavior" in flat:
            told = there
            if "behavior" not in self.names.needed:  # who says none means the only one
                told = there & ~_is_missing(flat["behavior"])
            names = flat["behavior"].filter(pa.array(told))
            found["behavior"][told] = self.ids.numbers(names, "behavior", self.where)
        if self.has_time:
            times = self._seconds(flat["timestamp"].filter(pick), "timestamp", year=year)
            found["timestamp"][there] = times
        if self.has_time:  # of all files alike, though not all may have it
            found["at"] = np.full(size, -1, np.int64)
        if "at" in flat:
            found["at"] = self._seconds(flat["at"], "at", missing=-1, year=year)
        for name in self.features.of_event_names:
            found[name] = self.features.absent(name, size)
            if name in flat:
                found[name][there] = self.features.of_events(name, flat[name].filter(pick), domains)
        people = self._people(flat, size)
        return pa.table(found | {USER_PREFIX + name: values for name, values in people.items()})

    def _seconds(
        self, array: pa.Array, name: str, missing: int | None = None, *, year: bool = True
    ) -> Int64Array:
        ticks, good = parse_times(array, self.unit, self.form)
        values = pc.fill_null(ticks, -1).to_numpy(zero_copy_only=False)
        empty = _is_missing(array) if missing is not None else np.zeros(len(array), bool)
        for row in np.flatnonzero(~good & ~empty)[:1]:
            text = shown(array, int(row))
            problem = time_problem(ticks[int(row)].as_py(), self.unit, self.form, text)
            raise UserError(
                f"{name} {text} {problem}",
                where=f"{self.where}, row {int(row) + 1}",
                fix=f"times are in the unit of the data set's spec: {self.unit}",
            )
        stored = self.shards.manifest.timestamp_unit
        if year:
            self._check_year(values[good], A_SECOND.get(stored, 1), name)
        return np.where(empty, -1 if missing is None else missing, values // A_SECOND.get(stored, 1))

    def _check_year(self, ticks: Int64Array, a_second: int, name: str) -> None:
        """Times of a coarser unit than the spec's all seem to be in 1970."""
        if self.span is None or self.span[0] < 2 * A_YEAR or not len(ticks):
            return
        if ticks.max() < A_YEAR * a_second:
            raise UserError(
                f"'{name}' has times of 1970 alone, and the log begins in "
                f"{1970 + self.span[0] // A_YEAR}: are they in another unit?",
                where=self.where,
                fix=f"times are in the unit of the data set's spec: {self.unit}",
            )

    def _asking(
        self,
        events: pa.Table,
        users: pa.Table,
        offsets: Int64Array,
        at: Int64Array | None,
        people: Mapping[str, pa.Array],
    ) -> Asking:
        self.features.check(self.where)
        made = (*MADE_APART, *self.features.of_event_names)
        columns = {name: events[name].to_numpy() for name in events.column_names if name in made}
        owner, time = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets)), columns["timestamp"]
        falls = (time[1:] < time[:-1]) & (owner[1:] == owner[:-1])
        unsorted = len(np.unique(owner[1:][falls]))
        if unsorted:
            order = np.lexsort((time, owner))
            columns = {name: values[order] for name, values in columns.items()}
        for column in self.decoder.stored:
            columns[column.name] = columns[column.name].astype(column.dtype)
        ends, about = np.diff(offsets), self.decoder.about
        data = SequenceData(
            events=columns,
            offsets=offsets,
            train_end=ends,
            valid_end=ends,
            row=np.full(len(ends), -1, np.int64),
            about=about,
            columns=self.decoder.columns,
        )
        unknown = int((columns["item"] < about.first_item).sum())
        missing = self.features.missing(columns, people)
        given = pa.table(dict(people)) if people else None
        return Asking(data, users, at, unsorted, unknown, missing, given, self.features.visited_by)


def _time_format(manifest: Manifest) -> TimeFormat | None:
    """How the log writes times, where its spec says so: that of the first group of events."""
    sources = manifest.spec.get("events") or []
    if not any(record.get("timestamp_format") for record in (manifest.spec, *sources)):
        return None
    spec = parse_config(DatasetSpec, manifest.spec, where="the spec of the data set")
    return spec.time_format(spec.events[0])


def _is_missing(array: pa.Array) -> np.ndarray:
    """[values] whether a value is null, or text that is empty."""
    missing = array.is_null().to_numpy(zero_copy_only=False)
    kind = array.type
    if any(is_it(kind) for is_it in _TEXT):
        empty = pc.fill_null(pc.equal(pc.binary_length(array), 0), False)
        missing = missing | empty.to_numpy(zero_copy_only=False)
    return missing
