"""Events: raw columns become canonical ones, and every row is accepted, rejected or filtered."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from behavior.config import did_you_mean
from behavior.sources.lines import ITEM, USER
from behavior.sources.plan import Chunk, Plan
from behavior.sources.raw import RawBatch, Reject
from behavior.sources.read import read_chunk
from behavior.spec import DatasetSpec, EventSource
from behavior.values import parse_floats, parse_integers, parse_text, parse_times

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
        events: columns user, item (string or int64), behavior (int8), and where the spec has them
            timestamp (int64, in `spec.stored_unit`), value (float32), domain (int8).
        rejects: rows that could not be read; lines count from the start of the chunk.
        read: rows read; `read = events.num_rows + len(rejects) + filtered`.
        filtered: good rows that the spec leaves out.
        lines: lines of the chunk up to the end of the block.
    """

    events: pa.RecordBatch
    rejects: list[Reject]
    read: int
    filtered: int
    lines: int


def event_schema(spec: DatasetSpec, plan: Plan) -> pa.Schema:
    """Schema of canonical events."""
    types = {"string": pa.string(), "integer": pa.int64()}
    fields = [
        pa.field("user", types[plan.user_type]),
        pa.field("item", types[plan.item_type]),
        pa.field("behavior", pa.int8()),
    ]
    if spec.has_time:
        fields.append(pa.field("timestamp", pa.int64()))
    if spec.has_value:
        fields.append(pa.field("value", pa.float32()))
    if spec.domain_names:
        fields.append(pa.field("domain", pa.int8()))
    return pa.schema(fields)


def read_events(spec: DatasetSpec, plan: Plan, chunk: Chunk, file_name: str) -> Iterator[EventBatch]:
    """Read one chunk of the input as canonical events.

    Args:
        spec: the dataset spec.
        plan: of its input.
        chunk: which part to read.
        file_name: how rejects name the file.

    Raises:
        UserError: the file cannot be read.
    """
    source = spec.events[chunk.source]
    canonicalizer = Canonicalizer(spec, source, event_schema(spec, plan))
    for raw in read_chunk(source, chunk, source.needed_columns()):
        yield canonicalizer.convert(raw, file_name)


class _Verdict:
    """Collects which rows are bad, and why; the first reason found counts."""

    def __init__(self, rows: int) -> None:
        self.bad = np.zeros(rows, bool)
        self.out = np.zeros(rows, bool)
        self.reasons: dict[int, str] = {}

    def require(self, good: np.ndarray, reason: Callable[[int], str]) -> None:
        if good.all():
            return
        for row in np.flatnonzero(~good & ~self.bad):
            self.reasons[int(row)] = reason(int(row))
        self.bad |= ~good


class Canonicalizer:
    """Turns the raw columns of one group of files into canonical events."""

    def __init__(self, spec: DatasetSpec, source: EventSource, schema: pa.Schema) -> None:
        self.spec = spec
        self.source = source
        self.schema = schema
        self.behaviors = spec.behavior_names
        self.domains = spec.domain_names
        kept = spec.filters.behaviors
        self.kept_ids = None if kept is None else [self.behaviors.index(name) + 1 for name in kept]

    def convert(self, raw: RawBatch, file_name: str) -> EventBatch:
        """Convert one raw batch; see `EventBatch`."""
        verdict = _Verdict(raw.num_rows)
        columns = self._columns(raw, verdict)
        keep = ~(verdict.bad | verdict.out)
        events = pa.RecordBatch.from_arrays([columns[name] for name in self.schema.names], schema=self.schema)
        if not keep.all():
            events = events.filter(pa.array(keep))
        rejects = [
            Reject(file_name, int(raw.places[row]), reason, raw.text_of(row), raw.row_group)
            for row, reason in sorted(verdict.reasons.items())
        ]
        rejects += [Reject(file_name, place, reason, text) for place, reason, text in raw.rejects]
        rejects.sort(key=lambda reject: reject.place)
        filtered = int((verdict.out & ~verdict.bad).sum())
        return EventBatch(events, rejects, raw.num_rows + len(raw.rejects), filtered, raw.lines)

    def _columns(self, raw: RawBatch, verdict: _Verdict) -> dict[str, pa.Array]:
        names = self.source.columns
        lines = self.source.kind == "sequences"
        columns = {
            "user": self._ids(raw, USER if lines else names.user, "user", verdict),
            "item": self._ids(raw, ITEM if lines else names.item, "item", verdict),
        }
        if names.timestamp is not None:
            array = raw.columns[names.timestamp]
            columns["timestamp"], good = parse_times(array, self.spec.timestamp_unit)
            wanted = "an ISO 8601 time" if self.spec.timestamp_unit == "iso8601" else "a whole number"
            verdict.require(good, lambda row: f"timestamp {_shown(array, row)} is not {wanted}")
        if self.spec.has_value:
            columns["value"] = self._values(raw, verdict)
        if self.domains:
            columns["domain"] = self._domain(raw, verdict)
        columns["behavior"] = self._behavior(raw, columns.get("value"), verdict)
        return {name: _fill(array, self.schema.field(name).type) for name, array in columns.items()}

    def _ids(self, raw: RawBatch, column: str | None, role: str, verdict: _Verdict) -> pa.Array:
        assert column is not None
        array = raw.columns[column]
        if pa.types.is_integer(self.schema.field(role).type):
            ids, good = parse_integers(array)
            verdict.require(good, lambda row: f"{role} {_shown(array, row)} is not a whole number")
        else:
            ids, good = parse_text(array)
            verdict.require(good, lambda row: f"{role} {_shown(array, row)} is not an id")
        return ids

    def _values(self, raw: RawBatch, verdict: _Verdict) -> pa.Array:
        column = self.source.columns.value
        if column is None:
            return pa.nulls(raw.num_rows, pa.float32())
        array = raw.columns[column]
        values, good = parse_floats(array)
        verdict.require(good, lambda row: f"value {_shown(array, row)} is not a number")
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
        text, good = parse_text(array)
        found = pc.index_in(text, value_set=pa.array(list(table), pa.string()))
        known = pc.fill_null(found, -1).to_numpy(zero_copy_only=False)
        verdict.require(
            good & (known >= 0),
            lambda row: (
                f"{role} {_shown(array, row)} is not in the spec; {did_you_mean(str(text[row]), table)}"
            ),
        )
        # One extra entry at the end serves the unknown ones, whose index is -1.
        targets = [0 if name is None else names.index(name) + 1 for name in table.values()]
        ids = np.array([*targets, 1], np.int8)[known]
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


def _constant(value: int, rows: int) -> pa.Array:
    return pa.array(np.full(rows, value, np.int8))


def _fill(array: pa.Array, kind: pa.DataType) -> pa.Array:
    return array if array.type == kind else array.cast(kind)


def _shown(array: pa.Array, row: int) -> str:
    value = array[row].as_py()
    if value is None or value in ("", b""):
        return "(empty)"
    if isinstance(value, bytes):
        value = value.decode("utf-8", errors="backslashreplace")
    return repr(value)[:200]
