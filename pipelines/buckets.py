"""Second pass: buckets of users are sorted, cut, counted, indexed, packed and written."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import apache_beam as beam
import pyarrow as pa
from apache_beam.metrics import Metrics

from behavior.dataset import count_bucket, cut_sequences, finish_sequences
from behavior.filters import core_items
from behavior.manifest import FileEntry
from behavior.sequences import build_sequences, offsets_of
from behavior.shards import SEQUENCES, write_table
from behavior.stats import SequenceStats
from behavior.vocabulary import IdCounts, Vocabulary
from pipelines.job import Job, read_arrow, write_arrow
from pipelines.reading import Reading
from pipelines.shuffle import Piece, Shuffle, in_order
from pipelines.threads import one_thread

SORTED = "sorted"
COUNTED = "counted"


class BuildBucket(beam.DoFn):
    """(bucket, pieces) -> bucket: its events are grouped by user, sorted by time and kept in a file.

    Waits for the whole reading, so that a log that is rejected costs no more than its reading.
    """

    def __init__(self, job: Job, shuffle: Shuffle) -> None:
        self.job = job
        self.shuffle = shuffle

    def setup(self) -> None:
        one_thread()

    def process(self, element: tuple[int, Iterable[Piece]], _reading: Reading) -> Iterator[int]:
        bucket, pieces = element
        with self.job.errors_kept():
            sequences = build_sequences(in_order(self.shuffle, pieces), self.job.spec)
            write_arrow(self.job.path(SORTED, f"{bucket:05d}.arrow"), sequences)
        yield bucket


def sorted_bucket(job: Job, bucket: int) -> pa.Table:
    """The sequences of one bucket, as `BuildBucket` left them."""
    return read_arrow(job.path(SORTED, f"{bucket:05d}.arrow"))


class FindCore(beam.DoFn):
    """One element, all buckets -> path of the items that survive the minimum counts."""

    def __init__(self, job: Job) -> None:
        self.job = job

    def process(self, _: None, buckets: list[int]) -> Iterator[str]:
        with self.job.errors_kept():
            path = self.job.path("core", "items.arrow")
            tables = (sorted_bucket(self.job, bucket) for bucket in sorted(buckets))
            write_arrow(path, pa.table({"id": core_items(tables, *self.job.spec.filters.minimum_counts)}))
        yield str(path)


@lru_cache(maxsize=2)
def _core(path: str) -> pa.Array:
    return read_arrow(Path(path)).column("id").combine_chunks()


def cut_bucket(job: Job, bucket: int, core: str | None) -> pa.Table:
    """Cut the sequences of one bucket; cheap enough to do twice rather than to keep."""
    return cut_sequences(sorted_bucket(job, bucket), job.spec, _core(core) if core else None)


@dataclass(frozen=True)
class BucketReport:
    """What one bucket holds after the filters."""

    bucket: int
    stats: SequenceStats
    dropped: int
    """Events that filters and the cap left out."""
    users: str
    """Arrow file with id, count, train_count of its users."""


class CountBucket(beam.DoFn):
    """bucket -> id counts of its items; tagged output `counted`: a `BucketReport`."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.accepted = Metrics.counter("lrm", "accepted")
        self.filtered = Metrics.counter("lrm", "filtered")

    def process(self, bucket: int, core: str | None = None) -> Iterator[pa.Table | beam.pvalue.TaggedOutput]:
        with self.job.errors_kept():
            events = int(offsets_of(sorted_bucket(self.job, bucket))[-1])
            counts = count_bucket(cut_bucket(self.job, bucket, core))
            path = self.job.path("users", f"{bucket:05d}.arrow")
            write_arrow(path, counts.users)
        self.accepted.inc(counts.stats.events)
        self.filtered.inc(events - counts.stats.events)
        yield beam.pvalue.TaggedOutput(
            COUNTED, BucketReport(bucket, counts.stats, events - counts.stats.events, str(path))
        )
        yield counts.items


class MergeIdCounts(beam.CombineFn):
    """Runs `behavior.vocabulary.IdCounts`."""

    # Merging a few tables at once costs little more than merging one.
    PENDING = 16

    def __init__(self, counts: IdCounts) -> None:
        self.counts = counts

    def create_accumulator(self) -> list[pa.Table]:
        return []

    def add_input(self, accumulator: list[pa.Table], element: pa.Table) -> list[pa.Table]:
        accumulator.append(element)
        return accumulator if len(accumulator) < self.PENDING else [self.counts.merge(accumulator)]

    def merge_accumulators(self, accumulators: Iterable[list[pa.Table]]) -> list[pa.Table]:
        return [self.counts.merge([table for accumulator in accumulators for table in accumulator])]

    def extract_output(self, accumulator: list[pa.Table]) -> pa.Table:
        return self.counts.merge(accumulator)


@lru_cache(maxsize=2)
def load_vocabulary(path: str, oov: int) -> Vocabulary:
    """The item vocabulary, once a process."""
    return Vocabulary(read_arrow(Path(path)), oov)


class FinishBucket(beam.DoFn):
    """bucket -> the manifest's entry of its finished sequence file."""

    def __init__(self, job: Job) -> None:
        self.job = job

    def setup(self) -> None:
        one_thread()

    def process(self, bucket: int, vocabulary: str, core: str | None = None) -> Iterator[FileEntry]:
        with self.job.errors_kept():
            cut = cut_bucket(self.job, bucket, core)
            if not cut.num_rows:
                return
            known = load_vocabulary(vocabulary, self.job.spec.vocabulary.oov)
            table = finish_sequences(cut, known, self.job.spec)
            name = f"{SEQUENCES}/part-{bucket:05d}-of-{self.job.buckets:05d}.parquet"
            entry = write_table(table, self.job.staging, name, events=int(offsets_of(cut)[-1]))
        yield entry
