"""Second pass: hash partitions of users are sorted, cut, counted, indexed, packed and written."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
from apache_beam.metrics import Metrics

from behavior.features.vocabulary import IdCounts
from pipelines.job import PrepareJob, unless_given_up
from pipelines.joined import core
from pipelines.shuffle import Piece, Shuffle
from pipelines.threads import one_thread
from pipelines.work import MERGED, PartitionCounted, count, fit, merge_counts, sort_and_count, write

COUNTED = "counted"


class CountPartition(beam.DoFn):
    """partition -> nothing but the tagged output `counted`: partitions, file of the counts of their items.

    Its report, counts of users and fits of event features are left in the working folder.
    """

    def __init__(self, job: PrepareJob) -> None:
        self.job = job
        self.accepted = Metrics.counter("lrm", "accepted")
        self.filtered = Metrics.counter("lrm", "filtered")

    def setup(self) -> None:
        one_thread()

    @unless_given_up
    def process(self, partition: int, core: str | None = None) -> Iterator[Any]:
        yield self.told(count(self.job, partition, None, core))

    def told(self, counted: PartitionCounted) -> Any:
        """Add to Beam's counters; the output."""
        self.accepted.inc(counted.added)
        self.filtered.inc(counted.dropped)
        return beam.pvalue.TaggedOutput(COUNTED, ([counted.partition], counted.items))


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
    def process(self, element: tuple[int, Iterable[Piece]], _reading: str) -> Iterator[Any]:
        partition, pieces = element
        counted = sort_and_count(self.job, self.shuffle, partition, list(pieces), self.count is not None)
        yield partition
        if self.count is not None and not isinstance(counted, int):
            yield self.count.told(counted)


class FindCore(beam.DoFn):
    """One element; side input: all partitions -> name of the file of the items of the k-core."""

    def __init__(self, job: PrepareJob) -> None:
        self.job = job

    @unless_given_up
    def process(self, _: bytes, partitions: list[int]) -> Iterator[str]:
        yield core(self.job, partitions)


Counted = tuple[list[int], list[str]]
"""Partitions, and files with counts that add up to those of them all."""


class MergeIdCounts(beam.CombineFn):
    """Combiner: (partitions, file of id counts) -> all partitions and one file, by
    `behavior.features.vocabulary.IdCounts`.

    Files rather than tables: counts of millions of items would be shuffled again and again.
    """

    def __init__(self, job: PrepareJob, counts: IdCounts) -> None:
        self.job = job
        self.counts = counts

    def create_accumulator(self) -> Counted:
        return [], []

    def add_input(self, accumulator: Counted, element: tuple[list[int], str]) -> Counted:
        partitions, names = accumulator
        partitions.extend(element[0])
        names.append(element[1])
        return partitions, names if len(names) < MERGED else [self._merged(names)]

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
        return merge_counts(self.job, names)


class FitVocabulary(beam.DoFn):
    """One element; side input: what `MergeIdCounts` gave, if anything -> name of the item vocabulary.

    The encoders of the event features lie beside it, and which partitions there are (`counted_with`).
    """

    def __init__(self, job: PrepareJob) -> None:
        self.job = job

    @unless_given_up
    def process(self, _: bytes, counts: list[tuple[list[int], str]]) -> Iterator[str]:
        # An addition may leave every partition as it was: then there is no count.
        partitions, counted = counts[0] if counts else ([], None)
        yield fit(self.job, partitions, counted)


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
        written = write(self.job, partition, vocabulary, core)
        if written is not None:
            yield written
