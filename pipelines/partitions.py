"""Second pass: hash partitions of users are sorted, cut, counted, indexed, packed and written."""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Iterator
from functools import lru_cache
from uuid import uuid4

import apache_beam as beam
import pyarrow as pa
from apache_beam.metrics import Metrics

from behavior.features import Encoder
from behavior.features.vocabulary import IdCounts, Vocabulary
from behavior.flow.partitions import (
    count_sequences,
    sort_partition,
    write_sequences,
)
from behavior.flow.totals import fit_items, item_counts
from behavior.shards.storage import Folder
from behavior.steps.filters import core_behaviors, core_items
from behavior.steps.partition import cut_sequences
from pipelines.job import PrepareJob, leave, left, read_arrow, unless_given_up, write_arrow
from pipelines.shuffle import Piece, Shuffle, in_order
from pipelines.threads import one_of_few, one_thread

COUNTED = "counted"
SORT, COUNT, VOCABULARY, WRITE = "sort", "count", "vocabulary", "write"
Outputs = Iterator[int | beam.pvalue.TaggedOutput]


def _sorted_file(partition: int) -> str:
    return f"sorted/{partition:05d}.arrow"


def users_file(partition: int) -> str:
    """File of the working folder with id, count, train_count of a partition's users."""
    return f"users/{partition:05d}.arrow"


def report_file(partition: int) -> str:
    """File of the working folder with the `PartitionReport` of a partition."""
    return f"counted/{partition:05d}.pickle"


def entry_file(partition: int) -> str:
    """File of the working folder with the manifest's entry of a partition's sequence file."""
    return f"written/{partition:05d}.pickle"


def _features_file(partition: int) -> str:
    """File of the working folder with what a partition adds to the fits of the event features."""
    return f"features/{partition:05d}.pickle"


class CountPartition(beam.DoFn):
    """partition -> nothing but the tagged output `counted`: the partition, file of the counts of its items.

    Its report, counts of users and fits of event features are left in the working folder.
    """

    def __init__(self, job: PrepareJob) -> None:
        self.job = job
        self.accepted = Metrics.counter("lrm", "accepted")
        self.filtered = Metrics.counter("lrm", "filtered")

    def setup(self) -> None:
        one_thread()

    @unless_given_up
    def process(self, partition: int, core: str | None = None) -> Outputs:
        return self.count(partition, read_arrow(self.job.work, _sorted_file(partition)), core)

    def count(self, partition: int, sequences: pa.Table, core: str | None) -> Outputs:
        """Count sequences that are at hand."""
        work = self.job.work
        with one_of_few(), self.job.stage(COUNT):
            counted = count_sequences(self.job.preparation, partition, sequences, _core(work, core))
            write_arrow(work, users_file(partition), counted.users)
            counts = f"counts/{partition:05d}.arrow"
            write_arrow(work, counts, counted.items)
            leave(work, _features_file(partition), counted.features)
            leave(work, report_file(partition), counted.report)
        self.accepted.inc(counted.report.added)
        self.filtered.inc(counted.report.dropped)
        yield beam.pvalue.TaggedOutput(COUNTED, (partition, counts))


class SortPartition(beam.DoFn):
    """(partition, pieces) -> partition: its events are grouped by user, sorted by time and kept in a file.

    Waits for the whole reading, so that a log that is rejected costs no more than its reading. Where there is
    no core to wait for, the sequences are counted while they are at hand, with the output of
    `CountPartition`.
    """

    def __init__(self, job: PrepareJob, shuffle: Shuffle) -> None:
        self.job = job
        self.shuffle = shuffle
        self.count = CountPartition(job) if job.preparation.spec.filters.minimum_counts == (1, 1) else None

    def setup(self) -> None:
        one_thread()

    @unless_given_up
    def process(self, element: tuple[int, Iterable[Piece]], _reading: str) -> Outputs:
        partition, pieces = element
        with one_of_few(), self.job.stage(SORT):
            sequences = sort_partition(
                self.job.preparation, partition, in_order(self.job, self.shuffle, pieces)
            )
            write_arrow(self.job.work, _sorted_file(partition), sequences)
        yield partition
        if self.count is not None:
            yield from self.count.count(partition, sequences, None)


class FindCore(beam.DoFn):
    """One element; side input: all partitions -> name of the file of the items of the k-core."""

    def __init__(self, job: PrepareJob) -> None:
        self.job = job

    @unless_given_up
    def process(self, _: bytes, partitions: list[int]) -> Iterator[str]:
        work = self.job.work
        name = f"core/{uuid4().hex}.arrow"  # a name of its own: processes remember what they have read
        with self.job.stage("core"):
            tables = (read_arrow(work, _sorted_file(partition)) for partition in sorted(partitions))
            spec = self.job.preparation.spec
            items = core_items(tables, *spec.filters.minimum_counts, core_behaviors(spec))
            write_arrow(work, name, pa.table({"id": items}))
        yield name


@lru_cache(maxsize=2)
def _core(work: Folder, name: str | None) -> pa.Array | None:
    return None if name is None else read_arrow(work, name).column("id").combine_chunks()


Counted = tuple[list[int], list[str]]
"""Partitions, and files with counts that add up to those of them all."""


class MergeIdCounts(beam.CombineFn):
    """Combiner: (partition, file of id counts) -> all partitions and one file, by
    `behavior.features.vocabulary.IdCounts`.

    Files rather than tables: counts of millions of items would be shuffled again and again.
    """

    # Merging a few tables at once costs little more than merging one.
    PENDING = 16

    def __init__(self, job: PrepareJob, counts: IdCounts) -> None:
        self.job = job
        self.counts = counts

    def create_accumulator(self) -> Counted:
        return [], []

    def add_input(self, accumulator: Counted, element: tuple[int, str]) -> Counted:
        partitions, names = accumulator
        partitions.append(element[0])
        names.append(element[1])
        return partitions, names if len(names) < self.PENDING else [self._merged(names)]

    def merge_accumulators(self, accumulators: Iterable[Counted]) -> Counted:
        every = list(accumulators)
        names = [name for _, own in every for name in own]
        return [partition for own, _ in every for partition in own], [self._merged(names)] if names else []

    def compact(self, accumulator: Counted) -> Counted:
        # Before the shuffle: each worker merges its own.
        partitions, names = accumulator
        return partitions, [self._merged(names)] if len(names) > 1 else names

    def extract_output(self, accumulator: Counted) -> tuple[list[int], str]:
        return sorted(accumulator[0]), self._merged(accumulator[1])

    def _merged(self, names: list[str]) -> str:
        if len(names) == 1 or self.job.given_up:
            return names[0]
        with self.job.stage(VOCABULARY):
            merged = self.counts.merge(read_arrow(self.job.work, name) for name in names)
            name = f"counts/{uuid4().hex}.arrow"
            write_arrow(self.job.work, name, merged)
        return name


class FitVocabulary(beam.DoFn):
    """One element; side input: what `MergeIdCounts` gave, if anything -> name of the item vocabulary.

    The encoders of the event features lie beside it, and which partitions there are (`counted_with`).
    """

    def __init__(self, job: PrepareJob) -> None:
        self.job = job

    @unless_given_up
    def process(self, _: bytes, counts: list[tuple[list[int], str]]) -> Iterator[str]:
        work = self.job.work
        with self.job.stage(VOCABULARY):
            # An addition may leave every partition as it was: then there is no count.
            partitions = counts[0][0] if counts else []
            counted = read_arrow(work, counts[0][1]) if counts else item_counts(self.job.preparation).create()
            # In a fixed order: sums of floats depend on it.
            states = left(work, map(_features_file, partitions))
            vocabulary, encoders = fit_items(self.job.preparation, counted, states)
            name = f"vocabulary/{uuid4().hex}.arrow"
            write_arrow(work, name, vocabulary.table)
            leave(work, _encoders_of(name), encoders)
            leave(work, _partitions_of(name), partitions)
        yield name


def _encoders_of(vocabulary: str) -> str:
    return vocabulary.replace(".arrow", ".encoders")


def _partitions_of(vocabulary: str) -> str:
    return vocabulary.replace(".arrow", ".partitions")


def counted_with(work: Folder, vocabulary: str) -> list[int]:
    """The partitions that were counted for a vocabulary, in ascending order."""
    [partitions] = left(work, [_partitions_of(vocabulary)])
    return list(partitions)


@lru_cache(maxsize=2)
def load_vocabulary(work: Folder, name: str, oov: int) -> Vocabulary:
    """The item vocabulary, once a process."""
    return Vocabulary(read_arrow(work, name), oov)


@lru_cache(maxsize=2)
def load_encoders(work: Folder, vocabulary: str) -> dict[str, Encoder]:
    """The encoders of the event features, once a process; they lie beside the vocabulary."""
    encoders: dict[str, Encoder] = pickle.loads(work.read_bytes(_encoders_of(vocabulary)))
    return encoders


class WriteSequences(beam.DoFn):
    """partition; side inputs: vocabulary, core -> the partition, if anything of it is left.

    The manifest's entry of its finished sequence file is left in the working folder.
    """

    def __init__(self, job: PrepareJob) -> None:
        self.job = job

    def setup(self) -> None:
        one_thread()

    @unless_given_up
    def process(self, partition: int, vocabulary: str, core: str | None = None) -> Iterator[int]:
        work, preparation = self.job.work, self.job.preparation
        with one_of_few(), self.job.stage(WRITE):
            # Cheap enough to do twice, here and for the counts, rather than to keep.
            sequences = read_arrow(work, _sorted_file(partition))
            cut = cut_sequences(sequences, preparation.spec, _core(work, core))
            known = load_vocabulary(work, vocabulary, preparation.spec.vocabulary.oov)
            entry = write_sequences(preparation, partition, cut, known, load_encoders(work, vocabulary))
            if entry is not None:
                leave(work, entry_file(partition), entry)
        if entry is not None:
            yield partition
