"""Second pass: buckets of users are sorted, cut, counted, indexed, packed and written."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from uuid import uuid4

import apache_beam as beam
import pyarrow as pa
from apache_beam.metrics import Metrics

from behavior.features import Encoder
from behavior.features.vocabulary import IdCounts, Vocabulary
from behavior.shards.folder import write_table
from behavior.shards.manifest import FileEntry
from behavior.shards.storage import Folder
from behavior.steps.bucket import count_bucket, cut_sequences, finish_sequences
from behavior.steps.event_features import finish_features
from behavior.steps.filters import core_items
from behavior.steps.previous import less
from behavior.steps.sequences import build_sequences, offsets_of
from behavior.steps.stats import SequenceStats
from behavior.steps.tables import fit_vocabulary
from pipelines.job import Job, read_arrow, write_arrow
from pipelines.reading import Reading
from pipelines.shuffle import Piece, Shuffle, in_order
from pipelines.threads import one_thread

COUNTED = "counted"
_READ = b"events"
SORT, COUNT, VOCABULARY, WRITE = "sort", "count", "vocabulary", "write"


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
        with self.job.stage(SORT):
            events = in_order(self.shuffle, pieces)
            if self.job.previous is not None:
                # What is there came before: where times tie, it stays before.
                events = [*self.job.previous.events(bucket, events[0].schema), *events]
            read = sum(batch.num_rows for batch in events)
            sequences = build_sequences(events, self.job.spec)
            sequences = sequences.replace_schema_metadata({_READ: str(read)})
            write_arrow(self.job.work, _sorted_name(bucket), sequences)
        _at_hand.sequences = (self.job.run, bucket, sequences)
        try:
            yield bucket
        finally:
            _at_hand.sequences = None


_at_hand = threading.local()
"""What the bucket's next step, which runs in the same thread where it is fused, need not read back. Threads
outlive jobs, so it says of which run it is."""


def _sorted_name(bucket: int) -> str:
    return f"sorted/{bucket:05d}.arrow"


def sorted_bucket(job: Job, bucket: int) -> pa.Table:
    """The sequences of one bucket, as `BuildBucket` left them."""
    held = getattr(_at_hand, "sequences", None)
    if held is not None and held[:2] == (job.run, bucket):
        return held[2]
    return read_arrow(job.work, _sorted_name(bucket))


class FindCore(beam.DoFn):
    """One element, all buckets -> name of the file of items that survive the minimum counts."""

    def __init__(self, job: Job) -> None:
        self.job = job

    def process(self, _: None, buckets: list[int]) -> Iterator[str]:
        name = f"core/{uuid4().hex}.arrow"  # a name of its own: processes remember what they have read
        with self.job.stage("core"):
            tables = (sorted_bucket(self.job, bucket) for bucket in sorted(buckets))
            items = core_items(tables, *self.job.spec.filters.minimum_counts)
            write_arrow(self.job.work, name, pa.table({"id": items}))
        yield name


@lru_cache(maxsize=2)
def _core(work: Folder, name: str) -> pa.Array:
    return read_arrow(work, name).column("id").combine_chunks()


def cut_bucket(job: Job, bucket: int, core: str | None) -> pa.Table:
    """Cut the sequences of one bucket; cheap enough to do twice rather than to keep."""
    return cut_sequences(sorted_bucket(job, bucket), job.spec, _core(job.work, core) if core else None)


@dataclass(frozen=True)
class BucketReport:
    """What one bucket holds after the filters."""

    bucket: int
    stats: SequenceStats
    dropped: int
    """Events that filters and the cap left out."""
    added: int
    """Events more than the bucket had before; for a new data set, all."""
    users: str
    """File of the working folder with id, count, train_count of its users."""
    features: str
    """File of the working folder with what it adds to the fits of the event features; empty for none."""


class CountBucket(beam.DoFn):
    """bucket -> file of the id counts of its items; tagged output `counted`: a `BucketReport`.

    Counts, and fits of features, are what the bucket adds to the data set: where it was there before, what it
    has now less what it had.
    """

    def __init__(self, job: Job) -> None:
        self.job = job
        self.accepted = Metrics.counter("lrm", "accepted")
        self.filtered = Metrics.counter("lrm", "filtered")

    def setup(self) -> None:
        one_thread()

    def process(self, bucket: int, core: str | None = None) -> Iterator[str | beam.pvalue.TaggedOutput]:
        job = self.job
        with job.stage(COUNT):
            # Copies and repeats are gone by the time that a bucket is sorted.
            events = int(sorted_bucket(job, bucket).schema.metadata[_READ])
            counts = count_bucket(cut_bucket(job, bucket, core), job.spec)
            before = job.previous.cut(bucket) if job.previous is not None else None
            added = counts.stats.events
            items, fits = counts.items, counts.features
            if before is not None:
                old = count_bucket(before, job.spec)
                added -= old.stats.events
                items, fits = less(items, old.items), {n: less(fits[n], old.features[n]) for n in fits}
            users, name = f"users/{bucket:05d}.arrow", f"counts/{bucket:05d}.arrow"
            write_arrow(job.work, users, counts.users)
            write_arrow(job.work, name, items)
            features = f"features/{bucket:05d}.pickle" if fits else ""
            if fits:
                job.work.write_bytes(features, pickle.dumps(fits))
        dropped = events - counts.stats.events
        self.accepted.inc(added)
        self.filtered.inc(dropped)
        yield beam.pvalue.TaggedOutput(
            COUNTED, BucketReport(bucket, counts.stats, dropped, added, users, features)
        )
        yield name


class MergeIdCounts(beam.CombineFn):
    """Files of id counts -> one file: runs `behavior.features.vocabulary.IdCounts`.

    Files rather than tables: counts of millions of items would go through the engine again and again.
    """

    # Merging a few tables at once costs little more than merging one.
    PENDING = 16

    def __init__(self, job: Job, counts: IdCounts) -> None:
        self.job = job
        self.counts = counts

    def create_accumulator(self) -> list[str]:
        return []

    def add_input(self, accumulator: list[str], element: str) -> list[str]:
        accumulator.append(element)
        return accumulator if len(accumulator) < self.PENDING else [self._merged(accumulator)]

    def merge_accumulators(self, accumulators: Iterable[list[str]]) -> list[str]:
        names = [name for accumulator in accumulators for name in accumulator]
        return [self._merged(names)] if names else []

    def compact(self, accumulator: list[str]) -> list[str]:
        # Before the shuffle: each worker merges its own.
        return [self._merged(accumulator)] if len(accumulator) > 1 else accumulator

    def extract_output(self, accumulator: list[str]) -> str:
        return self._merged(accumulator)

    def _merged(self, names: list[str]) -> str:
        if len(names) == 1:
            return names[0]
        with self.job.stage(VOCABULARY):
            merged = self.counts.merge(read_arrow(self.job.work, name) for name in names)
            name = f"counts/{uuid4().hex}.arrow"
            write_arrow(self.job.work, name, merged)
        return name


class FitVocabulary(beam.DoFn):
    """One element, the item counts, all reports -> name of the item vocabulary.

    The encoders of the event features lie beside it.
    """

    def __init__(self, job: Job) -> None:
        self.job = job

    def process(self, _: None, counts: str, reports: list[BucketReport]) -> Iterator[str]:
        job = self.job
        with job.stage(VOCABULARY):
            previous = job.previous
            totals, known, encoders = read_arrow(job.work, counts), None, None
            # In a fixed order: sums of floats depend on it.
            names = [report.features for report in in_bucket_order(reports) if report.features]
            states = [pickle.loads(job.work.read_bytes(name)) for name in names]
            if previous is not None:
                known = previous.vocabulary("item")
                totals = IdCounts(known.table.schema.field("id").type).merge([known.counts, totals])
                encoders = previous.encoders("event")
                states = [previous.feature_counts(), *states]
            name = f"vocabulary/{uuid4().hex}.arrow"
            write_arrow(job.work, name, fit_vocabulary(job.spec, "item", totals, known).table)
            fitted = finish_features(job.spec, states, encoders)
            job.work.write_bytes(_encoders_of(name), pickle.dumps(fitted))
        yield name


def _encoders_of(vocabulary: str) -> str:
    return vocabulary.replace(".arrow", ".encoders")


def in_bucket_order(reports: Iterable[BucketReport]) -> list[BucketReport]:
    """Side inputs come in any order; floating point sums and files must not depend on it."""
    return sorted(reports, key=lambda report: report.bucket)


@lru_cache(maxsize=2)
def load_vocabulary(work: Folder, name: str, oov: int) -> Vocabulary:
    """The item vocabulary, once a process."""
    return Vocabulary(read_arrow(work, name), oov)


@lru_cache(maxsize=2)
def load_encoders(work: Folder, vocabulary: str) -> dict[str, Encoder]:
    """The encoders of the event features, once a process; they lie beside the vocabulary."""
    encoders: dict[str, Encoder] = pickle.loads(work.read_bytes(_encoders_of(vocabulary)))
    return encoders


class FinishBucket(beam.DoFn):
    """bucket -> the manifest's entry of its finished sequence file."""

    def __init__(self, job: Job) -> None:
        self.job = job

    def setup(self) -> None:
        one_thread()

    def process(self, bucket: int, vocabulary: str, core: str | None = None) -> Iterator[FileEntry]:
        job = self.job
        with job.stage(WRITE):
            cut = cut_bucket(job, bucket, core)
            entry = None
            if cut.num_rows:
                known = load_vocabulary(job.work, vocabulary, job.spec.vocabulary.oov)
                table = finish_sequences(cut, known, job.spec, load_encoders(job.work, vocabulary))
                name = job.file(job.sequence_file(bucket))
                entry = write_table(table, job.out, name, events=int(offsets_of(cut)[-1]))
        if entry is not None:
            yield entry
