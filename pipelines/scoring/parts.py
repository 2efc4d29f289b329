"""Second pass of scoring: whole histories, or parts of a data set, become files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.metrics import Metrics
from apache_beam.utils.shared import Shared

from behavior.shards.manifest import FileEntry
from pipelines.job import leave, unless_given_up
from pipelines.scoring.folder import part_file
from pipelines.scoring.pieces import Piece, read_pieces
from pipelines.scoring.reports import PartReport
from pipelines.scoring.scorer import Scorer, ScorerFactory, Scoring, ScoringJob
from pipelines.scoring.users import windows_of_users

SCORE = "score"


class ScorePart(Scoring):
    """A part -> file of its `PartReport`: its users are scored and written, every attempt the same."""

    def __init__(self, job: ScoringJob, factory: ScorerFactory, shared: Shared, parts: int) -> None:
        super().__init__(job, factory, shared)
        self.parts = parts
        self.counters = {name: Metrics.counter("lrm", name) for name in ("users", "answered", "empty")}

    def written(
        self, part: int, scored: Iterable[tuple[pa.RecordBatch, Mapping[str, int]]], rejected: int
    ) -> str:
        """Write what was scored as it comes."""
        counts: Counter[str] = Counter()
        entry = _write(self.job, part_file(part, self.parts), scored, counts)
        users, empty = counts.pop("users", 0), counts.pop("empty", 0)
        for name, count in (("users", users), ("answered", users - empty), ("empty", empty)):
            self.counters[name].inc(count)
        report = PartReport(part, entry, users + rejected, users - empty, empty, rejected, dict(counts))
        return leave(self.job.work, f"parts/{part:06d}.pickle", report)


class ScoreHistories(ScorePart):
    """(partition, pieces), side input: what reading came to -> name of the file of its `PartReport`."""

    @unless_given_up
    def process(self, element: tuple[int, Iterable[Piece]], _: str) -> Iterator[str]:
        part, pieces = element
        with self.job.stage(SCORE):
            windows, rejected = windows_of_users(read_pieces(self.job.work, pieces))
            report = self.written(part, map(_scored_by(self.scorer), windows), rejected)
        yield report


class ScoreDataSet(ScorePart):
    """number of a part of the data set -> name of the file of its `PartReport`."""

    @unless_given_up
    def process(self, part: int) -> Iterator[str]:
        with self.job.stage(SCORE):
            report = self.written(part, self.scorer.part(part), 0)
        yield report


def _scored_by(scorer: Scorer) -> Any:
    def score(window: pa.RecordBatch) -> tuple[pa.RecordBatch, Mapping[str, int]]:
        rows, counts = scorer.score(window)
        asked = int(window.column("number")[-1].as_py()) + 1
        if counts["users"] != asked:
            raise RuntimeError(f"{asked} users were given to the scorer, and it counts {counts['users']}")
        return rows, counts

    return score


def _write(
    job: ScoringJob,
    path: str,
    scored: Iterable[tuple[pa.RecordBatch, Mapping[str, int]]],
    counts: Counter[str],
) -> FileEntry | None:
    """Write batches to a Parquet file, whole or not at all; none where there are no rows."""
    batches = iter(scored)
    first = _next_rows(batches, counts)
    if first is None:
        return None
    rows = 0
    with job.out.create(path) as file, pq.ParquetWriter(file, first.schema, compression="zstd") as writer:
        batch: pa.RecordBatch | None = first
        while batch is not None:
            writer.write_batch(batch)
            rows += batch.num_rows
            batch = _next_rows(batches, counts)
    return FileEntry(path=path, rows=rows, events=0, bytes=file.bytes, sha256=file.sha256)


def _next_rows(
    scored: Iterator[tuple[pa.RecordBatch, Mapping[str, int]]], counts: Counter[str]
) -> pa.RecordBatch | None:
    for rows, counted in scored:
        counts.update(counted)
        if rows.num_rows:
            return rows
    return None
