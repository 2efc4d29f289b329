"""What a scoring job calls: a scorer, one a process, that a factory makes there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import apache_beam as beam
import pyarrow as pa
from apache_beam.utils.shared import Shared

from behavior.shards.storage import Folder
from pipelines.job import Job
from pipelines.threads import one_thread

NOTHING, REJECTED = 0, -1
"""In place of an item: a row that is no event, as of a user without any; a row that was rejected."""

BadRow: TypeAlias = tuple[int, str, str | None]
"""A row of a batch, what is wrong with it, and what to do."""


class Scorer(Protocol):
    """Scores whole batches; made once a process, and called from several threads at once."""

    def encode(self, rows: pa.RecordBatch) -> tuple[pa.RecordBatch, list[BadRow]]:
        """Check rows as they stand in a file, and make events of them.

        Args:
            rows: the columns of histories but `user`: single values, or lists.

        Returns:
            A row an event, always of one schema: `row` int64, where in `rows` it stands, ascending; `item`,
            an integer (`NOTHING` for a row without an event); what else `score` reads. And the rows that are
            no good, of which there are no events.

        Raises:
            UserError: nothing of it is any good.
        """

    def score(self, events: pa.RecordBatch) -> tuple[pa.RecordBatch, Mapping[str, int]]:
        """Score users.

        Args:
            events: whole histories: `number` int64, the user's place in the batch, ascending from 0; `user`;
                and the columns of `encode` but `row`, in the order of the files.

        Returns:
            Rows that are written as they are, with a column `user`, users in order; and counts of users:
            `users`, `empty` (those for whom there is no row), and others, which are summed.
        """

    def part(self, number: int) -> Iterator[tuple[pa.RecordBatch, Mapping[str, int]]]:
        """The same for the users of a part of the data set."""


@dataclass(frozen=True)
class ScoringJob(Job):
    """One run of a scoring job; pickled into the pipeline.

    Attributes:
        folder: the output folder.
        work, notes, timed: see `pipelines.job.Job`.
    """

    folder: Folder
    work: Folder
    notes: Folder
    timed: bool = True

    @property
    def out(self) -> Folder:
        return self.folder


ScorerFactory: TypeAlias = Callable[[], Scorer]
"""Picklable; called once in each process."""

Staging: TypeAlias = Callable[[Folder], ScorerFactory]
"""Called with a folder that all workers see, to leave there what they need: a model's weights, say."""


class Scoring(beam.DoFn):
    """A step that calls the scorer.

    Args:
        job: whose step it is.
        factory: makes the scorer.
        shared: a handle, the same for all steps: a process has one scorer.
    """

    def __init__(self, job: ScoringJob, factory: ScorerFactory, shared: Shared) -> None:
        self.job = job
        self.factory = factory
        self.shared = shared
        self.scorer: Scorer

    def setup(self) -> None:
        one_thread()
        try:
            with self.job.stage("load"):
                self.scorer = self.shared.acquire(self.factory)
        except Exception:
            if not self.job.given_up:  # what it would have loaded is gone, and nothing will be asked
                raise
