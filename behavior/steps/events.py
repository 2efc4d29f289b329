"""Events: raw columns become canonical ones, and every row is accepted, rejected or filtered."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from behavior.arrow.coded import codes_of
from behavior.arrow.times import join_date_and_time, parse_times, time_problem
from behavior.arrow.values import parse_floats, parse_integers, parse_text, shown, why_no_integer
from behavior.config import did_you_mean
from behavior.features.coverage import is_known
from behavior.sources.chunks import Chunk, Plan
from behavior.sources.lines import ITEM, USER
from behavior.sources.raw import RawBatch, Reject
from behavior.sources.read import read_chunk
from behavior.spec.dataset_spec import DatasetSpec, EventSource
from behavior.steps.event_features import EventFeatureReader, event_type
from behavior.steps.keys import as_key, key_type

_COMPARE = {
    ">=": np.greater_equal,
    "<=": np.less_equal,
    "==": np.equal,
    "!=": np.not_equal,
    ">": np.greater,
    "<": np.less,
}


@dataclass(frozen=True)
class EventBatch:
    """Canonical events of one block of one file, in file order.

    Attributes:
        events: see `event_schema`.
        rejects: rows that could not be read; lines count from the start of the chunk.
        read: rows read; `read = events.num_rows + len(rejects) + filtered`.
        filtered: valid rows that the spec leaves out.
        known: events that have a value, by the name of each optional column of the file: value and features.
        lines: lines of the chunk up to the end of the block.
        damaged: why the rest of the file (of Parquet, of the row group) is lost; one of `rejects` says so.
    """

    events: pa.RecordBatch
    rejects: list[Reject]
    read: int
    filtered: int
    lines: int
    damaged: str | None = None
    known: dict[str, int] = field(default_factory=dict)


def event_schema(spec: DatasetSpec, plan: Plan) -> pa.Schema:
    """Schema of canonical events.

    user, item (keys: string or int64, see `behavior.steps.keys`), behavior (int8), and where the spec has
    them timestamp (int64, in `spec.stored_unit`), value (float32), domain (int8), session (string) and a
    column a feature.
    """
    fields = [
        pa.field("user", key_type(spec, plan, "user")),
        pa.field("item", key_type(spec, plan, "item")),
        pa.field("behavior", pa.int8()),
    ]
    if spec.has_time:
        fields.append(pa.field("timestamp", pa.int64()))
    if spec.has_value:
        fields.append(pa.field("value", pa.float32()))
    if spec.domain_names:
        fields.append(pa.field("domain", pa.int8()))
    if spec.has_session_ids:
        fields.append(pa.field("session", pa.string()))
    fields += [pa.field(feature.name, event_type(feature)) for feature in spec.event_features]
    return pa.schema(fields)


def read_events(spec: DatasetSpec, plan: Plan, chunk: Chunk, file_name: str) -> Iterator[EventBatch]:
    """Read one chunk of the input as canonical events.

    Args:
        spec: the dataset spec.
        plan: of its input.
        chunk: which part to read.
        file_name: how rejects name the file.

    Raises:
        UnreadableFileError: the file cannot be read.
    """
    source = spec.events[chunk.source]
    canonicalizer = Canonicalizer(spec, source, plan)
    columns, integers = source.needed_columns(), canonicalizer.integer_columns
    for raw in read_chunk(source, chunk, columns, source.list_columns, integers):
        yield canonicalizer.convert(raw, file_name)


_MANY = 32
"""Bad values from which on it pays to look which of them are the same."""


class _Verdict:
    """Collects which rows are bad, and why; the first reason found counts."""

    def __init__(self, rows: int) -> None:
        self.bad = np.zeros(rows, bool)
        self.out = np.zeros(rows, bool)
        self.reasons: dict[int, str] = {}

    def require(self, good: np.ndarray, reason: Callable[[int], str], values: pa.Array) -> None:
        """Rows that are not good are bad.

        Args:
            good: [rows] bool
            reason: why a row is not.
            values: of the rows; the same reason holds for rows with the same value.
        """
        if good.all():
            return
        rows = np.flatnonzero(~good & ~self.bad).tolist()
        if len(rows) < _MANY or pa.types.is_nested(values.type):
            self.reasons.update((row, reason(row)) for row in rows)
        else:
            codes, found = codes_of(values.take(pa.array(rows)))[0].tolist(), dict[int, str]()
            for row, code in zip(rows, codes, strict=True):
                if code not in found:
                    found[code] = reason(row)
                self.reasons[row] = found[code]
        self.bad |= ~good


class Canonicalizer:
    """Turns the raw columns of one group of files into canonical events."""

    def __init__(self, spec: DatasetSpec, source: EventSource, plan: Plan) -> None:
        self.spec = spec
        self.source = source
        self.schema = event_schema(spec, plan)
        self.id_types = {"user": plan.user_type, "item": plan.item_type}
        self.behaviors = spec.behavior_names
        self.domains = spec.domain_names
        kept = spec.filters.behaviors
        self.kept_ids = None if kept is None else [self.behaviors.index(name) + 1 for name in kept]
        self.start, self.end = spec.filters.instants(spec.stored_unit) if spec.has_time else (None, None)
        self.time_format = spec.time_format(source)
        self.features = EventFeatureReader(spec, source)
        self.integer_columns = self._integer_columns()

    def _integer_columns(self) -> set[str]:
        """The columns that readers may give as integers, if they can."""
        names = self.source.columns
        plain = self.spec.timestamp_unit != "iso8601" and self.time_format is None
        roles = [
            (names.user, self.id_types["user"]),
            (names.item, self.id_types["item"]),
            *((name, "integer" if plain else "string") for name in names.timestamp_columns),
        ]
        # A column that something reads as text too must stay text: 007 is not 7 there.
        as_text = {self.source.behavior.column, names.domain, names.value, names.session}
        as_text |= {feature.source_column for feature in self.source.features}
        as_text |= {condition.column for condition in self.source.where}
        as_text |= set(self.source.all_columns()) - set(
            self.source.needed_columns()
        )  # no columns of the files
        as_text |= set(self.source.list_columns)
        as_text |= {name for name, kind in roles if kind != "integer"}
        return {name for name, kind in roles if name is not None and name not in as_text}

    def convert(self, raw: RawBatch, file_name: str) -> EventBatch:
        """Convert one raw batch; see `EventBatch`."""
        verdict = _Verdict(raw.num_rows)
        columns = self._columns(raw, verdict)
        keep = ~(verdict.bad | verdict.out)
        events = pa.RecordBatch.from_arrays([columns[name] for name in self.schema.names], schema=self.schema)
        if not keep.all():
            events = events.filter(pa.array(keep))
        bad = sorted(verdict.reasons.items())
        places = raw.places[[row for row, _ in bad]].tolist() if bad else []
        rejects = [
            Reject(file_name, place, reason, raw.text_of(row), raw.row_group)
            for place, (row, reason) in zip(places, bad, strict=True)
        ]
        rejects += [Reject(file_name, *reject, raw.row_group) for reject in raw.rejects]
        rejects.sort(key=lambda reject: reject.place)
        filtered = raw.filtered + int((verdict.out & ~verdict.bad).sum())
        read, known = raw.num_rows + len(raw.rejects) + raw.filtered, self._known(events)
        return EventBatch(events, rejects, read, filtered, raw.lines, raw.damaged, known)

    def _known(self, events: pa.RecordBatch) -> dict[str, int]:
        known = self.features.known(events)
        if self.source.columns.value is not None:
            known["value"] = int(is_known(events.column("value")).sum())
        return known

    def _columns(self, raw: RawBatch, verdict: _Verdict) -> dict[str, pa.Array]:
        names = self.source.columns
        lines = self.source.kind == "sequences"
        columns = {
            "user": self._ids(raw, USER if lines else names.user, "user", verdict),
            "item": self._ids(raw, ITEM if lines else names.item, "item", verdict),
        }
        times = [raw.columns[name] for name in names.timestamp_columns]
        if times:
            array = times[0] if len(times) == 1 else join_date_and_time(times)
            columns["timestamp"] = self._times(array, verdict)
        if self.spec.has_value:
            columns["value"] = self._values(raw, verdict)
        if self.domains:
            columns["domain"] = self._domain(raw, verdict)
        if names.session is not None:
            session = raw.columns[names.session]
            columns["session"], good = parse_text(session)
            verdict.require(good, lambda row: f"session {shown(session, row)} is not an id", session)
        columns["behavior"] = self._behavior(raw, columns.get("value"), verdict)
        for role in ("user", "item"):
            columns[role] = as_key(columns[role], columns.get("domain"), self.spec, role)
        columns |= self.features.read(raw, columns.get("domain"), verdict.require)
        return {name: _fill(array, self.schema.field(name).type) for name, array in columns.items()}

    def _times(self, array: pa.Array, verdict: _Verdict) -> pa.Array:
        unit = self.spec.timestamp_unit
        times, good = parse_times(array, unit, self.time_format)
        if self.start is not None or self.end is not None:
            ticks = pc.fill_null(times, 0).to_numpy(zero_copy_only=False)
            out = np.zeros(len(ticks), bool) if self.start is None else ticks < self.start
            out |= False if self.end is None else ticks >= self.end
            verdict.out |= out
            # Whoever names a range knows of times outside it, however wild.
            good = good | (out & times.is_valid().to_numpy(zero_copy_only=False))

        def problem(row: int) -> str:
            value = times[row].as_py()
            # Blocks give integers or text: what is said must not depend on where they end.
            written = value is None or unit == "iso8601" or self.time_format is not None
            text = shown(array, row) if written else str(value)
            return f"timestamp {text} {time_problem(value, unit, self.time_format, text)}"

        verdict.require(good, problem, array)
        return times

    def _ids(self, raw: RawBatch, column: str | None, role: str, verdict: _Verdict) -> pa.Array:
        assert column is not None
        array = raw.columns[column]
        if self.id_types[role] == "integer":
            ids, good = parse_integers(array)

            def problem(row: int) -> str:
                text = shown(array, row)
                return f"{role} {text} {why_no_integer(text)}"

            verdict.require(good, problem, array)
        else:
            ids, good = parse_text(array)
            verdict.require(good, lambda row: f"{role} {shown(array, row)} is not an id", array)
        return ids

    def _values(self, raw: RawBatch, verdict: _Verdict) -> pa.Array:
        column = self.source.columns.value
        if column is None:
            return pa.nulls(raw.num_rows, pa.float32())
        array = raw.columns[column]
        values, good = parse_floats(array)
        verdict.require(good, lambda row: f"value {shown(array, row)} is not a number", array)
        return values

    def _domain(self, raw: RawBatch, verdict: _Verdict) -> pa.Array:
        if self.source.domain is not None:
            return _constant(self.domains.index(self.source.domain) + 1, raw.num_rows)
        column = self.source.columns.domain
        assert column is not None
        return self._named(
            raw.columns[column], {name: name for name in self.domains}, self.domains, "domain", verdict
        )

    def _behavior(self, raw: RawBatch, values: pa.Array | None, verdict: _Verdict) -> pa.Array:
        source = self.source.behavior
        if source.constant is not None:
            result = _constant(self.behaviors.index(source.constant) + 1, raw.num_rows)
        elif source.column is not None:
            table = {name: name for name in self.behaviors} | source.map
            result = self._named(raw.columns[source.column], table, self.behaviors, "behavior", verdict)
        else:
            assert values is not None
            result = self._by_rules(values, verdict)
        if self.kept_ids is not None:
            ids = result.to_numpy(zero_copy_only=False)
            verdict.out |= ~np.isin(ids, self.kept_ids)
        return result

    def _named(
        self, array: pa.Array, table: dict[str, str | None], names: list[str], role: str, verdict: _Verdict
    ) -> pa.Array:
        """Ids of names; names that the table sends to None are left out, others are unknown."""
        distinct, codes = array, None
        if pa.types.is_dictionary(array.type):
            codes, distinct = codes_of(array)
        text, good = parse_text(distinct)
        found = pc.index_in(text, value_set=pa.array(list(table), pa.string()))
        known = pc.fill_null(found, -1).to_numpy(zero_copy_only=False)
        # One extra entry at the end serves the unknown ones, whose index is -1.
        targets = [0 if name is None else names.index(name) + 1 for name in table.values()]
        ids = np.array([*targets, 1], np.int8)[known]
        good = good & (known >= 0)
        if codes is not None:  # the last entry is for null, whose code is -1
            ids, good = np.append(ids, np.int8(1))[codes], np.append(good, False)[codes]
        verdict.require(
            good,
            lambda row: (
                f"{role} {shown(array, row)} is not in the spec; {did_you_mean(_text(array, row), table)}"
            ),
            array,
        )
        verdict.out |= ids == 0
        return pa.array(ids, pa.int8())

    def _by_rules(self, values: pa.Array, verdict: _Verdict) -> pa.Array:
        numbers = pc.fill_null(values, float("nan")).to_numpy(zero_copy_only=False)
        otherwise = self.source.behavior.otherwise
        ids = np.full(len(numbers), 0 if otherwise is None else self.behaviors.index(otherwise) + 1, np.int8)
        for rule in reversed(self.source.behavior.rules):  # the first rule that holds must win
            operator, number = rule.comparison
            # The column is float32: compare with the number as float32, so that 0.1 equals 0.1.
            holds = _COMPARE[operator](numbers, np.float32(number)) & ~np.isnan(numbers)
            ids[holds] = self.behaviors.index(rule.name) + 1
        verdict.out |= ids == 0
        return pa.array(ids, pa.int8())


def _text(array: pa.Array, row: int) -> str:
    value = array[row].as_py()
    return value.decode("utf-8", errors="replace") if isinstance(value, bytes) else str(value)


def _constant(value: int, rows: int) -> pa.Array:
    return pa.array(np.full(rows, value, np.int8))


def _fill(array: pa.Array, kind: pa.DataType) -> pa.Array:
    return array if array.type == kind else array.cast(kind)
