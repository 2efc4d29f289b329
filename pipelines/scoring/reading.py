"""First pass of scoring: files of histories become events by hash partition; bad rows are set aside."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import apache_beam as beam
import numpy as np
import pyarrow as pa
from apache_beam.metrics import Metrics
from apache_beam.utils.shared import Shared

from behavior.errors import UserError
from behavior.sources.chunks import Chunk
from behavior.sources.histories import (
    ITEM,
    NO_USER,
    USER,
    HistoryColumns,
    HistoryFile,
    has_lists,
    read_history_rows,
    refusal,
    users_of,
)
from behavior.sources.raw import RawBatch, Reject
from pipelines.job import leave, left, unless_given_up
from pipelines.scoring.pieces import Piece, Spill
from pipelines.scoring.reports import Problem, ReadReport, Totals, judge, rejects_name, write_rejects
from pipelines.scoring.scorer import REJECTED, ScorerFactory, Scoring, ScoringJob

READ = "read"
REPORTS = "reports"
TOTALS = "totals.pickle"
_PLACES = 40
"""Bits for a row within its chunk."""


@dataclass(frozen=True)
class Reading:
    """What reading needs to know.

    Attributes:
        columns: of the histories.
        integers: whether users are integers, else text.
        parts: hash partitions of users.
        limit: rows that may be rejected, see `judge`.
        where: the input, for messages.
    """

    columns: HistoryColumns
    integers: bool
    parts: int
    limit: int | float
    where: str


@dataclass(frozen=True)
class HistoryChunk:
    """Some of a file of histories; `number` is its place in the order of the input."""

    number: int
    file: HistoryFile
    chunk: Chunk


class _BadRow(NamedTuple):
    """A row that is rejected: the error that it would be, and the dead letter that it is."""

    place: int
    what: str
    fix: str | None
    reason: str
    text: str


class ReadHistories(Scoring):
    """history chunk -> (partition, piece); tagged output `reports`: name of the file of its `ReadReport`."""

    def __init__(self, job: ScoringJob, factory: ScorerFactory, shared: Shared, reading: Reading) -> None:
        super().__init__(job, factory, shared)
        self.reading = reading
        self.counters = {name: Metrics.counter("lrm", name) for name in ("read", "rejected")}

    @unless_given_up
    def process(self, element: HistoryChunk) -> Iterator[tuple[int, Piece] | beam.pvalue.TaggedOutput]:
        spill = Spill(self.job, element.number, self.reading.parts)
        rejects: list[Reject] = []
        first: Problem | None = None
        read = lines = seen = 0
        with self.job.stage(READ):
            for batch in read_history_rows(element.file, element.chunk, self.reading.columns):
                try:
                    events, bad = self._events((element.number << _PLACES) + seen, batch)
                except UserError as error:  # of all of a batch: its times are in another unit
                    raise UserError(error.what, where=element.file.name, fix=error.fix) from None
                seen += batch.num_rows
                read += batch.num_rows + len(batch.rejects)
                lines = batch.lines
                unread = [
                    _BadRow(place, *refusal(element.file.kind, reason), reason, text)
                    for place, reason, text in batch.rejects
                ]
                for row in sorted([*unread, *bad], key=lambda row: row.place):
                    first = first or Problem(row.what, row.fix, row.place, batch.row_group)
                    rejects.append(
                        Reject(element.file.name, row.place, row.reason, row.text, batch.row_group)
                    )
                if events is not None:
                    yield from spill.add(events)
            yield from spill.flush()
            if rejects:
                text = "".join(reject.to_json() + "\n" for reject in rejects)
                self.job.work.write_text(rejects_name(element.chunk), text)
        report = ReadReport(element.chunk, element.file.name, read, len(rejects), lines, first)
        name = leave(self.job.work, f"reports/{element.number:06d}.pickle", report)
        self.counters["read"].inc(read)
        self.counters["rejected"].inc(len(rejects))
        yield beam.pvalue.TaggedOutput(REPORTS, name)

    def _events(self, first: int, batch: RawBatch) -> tuple[pa.RecordBatch | None, list[_BadRow]]:
        """The events of a batch with their users, and its bad rows.

        Args:
            first: number of the first row: ascending, and none is there twice in the input.
            batch: as it was read.
        """
        if not batch.num_rows:
            return None, []

        def bad(row: int, what: str, fix: str | None) -> _BadRow:
            return _BadRow(int(batch.places[row]), what, fix, what, batch.text_of(row))

        users, there = users_of(batch, integers=self.reading.integers)
        good = there.to_numpy(zero_copy_only=False)
        nameless = [bad(int(row), NO_USER, "give every row a user") for row in np.flatnonzero(~good)]
        named = np.flatnonzero(good)
        others = {name: column for name, column in batch.columns.items() if name != USER}
        rows = pa.RecordBatch.from_pydict(others).take(pa.array(named))
        events, wrong = self.scorer.encode(rows)
        refused = named[np.array([row for row, _, _ in wrong], np.int64)]
        owner = np.concatenate((named[events.column("row").to_numpy()], refused))
        # A row with lists is a user of its own: the same name may come again.
        entity = owner + first if has_lists(rows.schema) else np.full(len(owner), -1, np.int64)
        columns = {USER: users.take(pa.array(owner)), "entity": pa.array(entity)}
        for name in events.schema.names:
            if name != "row":
                column = events.column(name)
                fill = pa.nulls(len(refused), column.type)
                if name == ITEM:
                    fill = pa.array(np.full(len(refused), REJECTED), column.type)
                columns[name] = pa.concat_arrays([column, fill])
        order = pa.array(np.argsort(owner, kind="stable"))
        told = [bad(int(named[row]), what, fix) for row, what, fix in wrong]
        return pa.RecordBatch.from_pydict(columns).take(order), nameless + told


class JudgeReading(beam.DoFn):
    """One element; side input: all reports -> name of the file of `Totals`.

    Fails where too much was rejected.
    """

    def __init__(self, job: ScoringJob, reading: Reading) -> None:
        self.job, self.reading = job, reading

    @unless_given_up
    def process(self, _: None, reports: list[str]) -> Iterator[str]:
        with self.job.stage("judge"):
            ordered = sorted(left(self.job.work, reports), key=lambda report: report.chunk)
            judge(ordered, self.reading.limit, self.reading.where, self._rejects)
            files = write_rejects(self.job.out, ordered, self._rejects)
            read = sum(report.read for report in ordered)
            totals = Totals(read, sum(report.rejected for report in ordered), files)
        yield leave(self.job.work, TOTALS, totals)

    def _rejects(self, report: ReadReport) -> Iterator[Reject]:
        with self.job.work.open(rejects_name(report.chunk)) as lines:
            for line in lines:
                yield Reject.from_json(line)
