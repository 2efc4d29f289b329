"""Second pass: hash partitions of users are sorted, cut, counted, indexed, packed and written."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from uuid import uuid4

import apache_beam as beam
import pyarrow as pa
from apache_beam.metrics import Metrics

from behavior.features.vocabulary import IdCounts
from behavior.steps.filters import core_behaviors, core_items
from pipelines.job import PrepareJob, read_arrow, unless_given_up, write_arrow
from pipelines.pool import pool_of
from pipelines.pooled import Outputs, Pooled
from pipelines.shuffle import Piece, Shuffle
from pipelines.threads import one_thread
from pipelines.work import (
    TABLES,
    WRITE,
    PartitionCounted,
    count,
    fit,
    merge_counts,
    sort_and_count,
    sorted_file,
    tables,
    write,
)

COUNTED = "counted"
MERGED = 16
"""Files of counts that are added up at once: merging a few costs little more than merging one."""


class CountPartition(Pooled):
    """partition -> nothing but the tagged output `counted`: partitions, file of the counts of their items.

    Its report, counts of users and fits of event features are left in the working folder.
    """

    def __init__(self, job: PrepareJob) -> None:
        self.job: PrepareJob = job
        self.accepted = Metrics.counter("lrm", "accepted")
        self.filtered = Metrics.counter("lrm", "filtered")

    def setup(self) -> None:
        one_thread()

    @unless_given_up
    def process(self, partition: int, core: str | None = None) -> Outputs:
        size = _size(self.job, partition)
        if not self.noted(size, None, count, partition, None, core):
            yield from self.outputs(count(self.job, partition, None, core))

    def outputs(self, result: PartitionCounted) -> Outputs:
        self.tell(result)
        yield beam.pvalue.TaggedOutput(COUNTED, ([result.partition], result.items))

    def tell(self, counted: PartitionCounted) -> None:
        """Add to Beam's counters."""
        self.accepted.inc(counted.added)
        self.filtered.inc(counted.dropped)


class SortPartition(Pooled):
    """(partition, pieces) -> partition: its events are grouped by user, sorted by time and kept in a file.

    Waits for the whole reading, so that a log that is rejected costs no more than its reading. Where there is
    no core to wait for, the sequences are counted while they are at hand, with the output of
    `CountPartition`, and workers add counts up as they come.
    """

    def __init__(self, job: PrepareJob, shuffle: Shuffle) -> None:
        self.job: PrepareJob = job
        self.shuffle = shuffle
        self.count = CountPartition(job) if job.preparation.spec.filters.minimum_counts == (1, 1) else None

    def setup(self) -> None:
        one_thread()

    def start_bundle(self) -> None:
        super().start_bundle()
        self._counts: list[PartitionCounted] = []
        self._merges: list[tuple[list[int], Future]] = []

    @unless_given_up
    def process(self, element: tuple[int, Iterable[Piece]], _reading: str) -> Outputs:
        partition, pieces = element
        own = list(pieces)
        counted = self.count is not None
        size = sum(piece[4] - piece[3] for piece in own) if pool_of(self.job) is not None else 0
        if not self.noted(size, None, sort_and_count, self.shuffle, partition, own, counted):
            yield from self.outputs(sort_and_count(self.job, self.shuffle, partition, own, counted))

    def outputs(self, result: PartitionCounted | int) -> Outputs:
        if isinstance(result, int):
            yield result
            return
        yield result.partition
        assert self.count is not None
        pool = pool_of(self.job)
        if pool is None:
            yield from self.count.outputs(result)
            return
        self.count.tell(result)
        self._counts.append(result)
        if len(self._counts) == MERGED:
            names = [counted.items for counted in self._counts]
            self._merges.append((self._numbers(), pool.submit(merge_counts, names)))
            self._counts = []

    def last_outputs(self) -> Outputs:
        for counted in self._counts:
            yield beam.pvalue.TaggedOutput(COUNTED, ([counted.partition], counted.items))
        for partitions, merged in self._merges:
            yield beam.pvalue.TaggedOutput(COUNTED, (partitions, merged.result()))

    def _numbers(self) -> list[int]:
        return [counted.partition for counted in self._counts]


class FindCore(beam.DoFn):
    """One element; side input: all partitions -> name of the file of the items of the k-core."""

    def __init__(self, job: PrepareJob) -> None:
        self.job = job

    @unless_given_up
    def process(self, _: bytes, partitions: list[int]) -> Iterator[str]:
        work = self.job.work
        name = f"core/{uuid4().hex}.arrow"  # a name of its own: processes remember what they have read
        with self.job.stage("core"):
            found = (read_arrow(work, sorted_file(partition)) for partition in sorted(partitions))
            spec = self.job.preparation.spec
            items = core_items(found, *spec.filters.minimum_counts, core_behaviors(spec))
            write_arrow(work, name, pa.table({"id": items}))
        yield name


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

    The encoders of the event features lie beside it, and which partitions there are (`counted_with`). Workers
    go on with the tables at once, and with the sequences.
    """

    def __init__(self, job: PrepareJob) -> None:
        self.job = job

    @unless_given_up
    def process(self, _: bytes, counts: list[tuple[list[int], str]]) -> Iterator[str]:
        # An addition may leave every partition as it was: then there is no count.
        partitions, counted = counts[0] if counts else ([], None)
        pool = pool_of(self.job)
        if pool is None:
            name = fit(self.job, partitions, counted)
        else:
            name = pool.submit(fit, partitions, counted).result()
        self._go_on(name, partitions)
        yield name

    def _go_on(self, vocabulary: str, partitions: list[int]) -> None:
        pool = pool_of(self.job)
        if pool is None:
            return
        pool.ahead(TABLES, tables, vocabulary)
        if self.job.preparation.spec.filters.minimum_counts == (1, 1):  # else the core is part of the call
            for partition in sorted(partitions, key=lambda number: -_size(self.job, number)):
                pool.ahead((WRITE, partition), write, partition, vocabulary, None)


class WriteSequences(Pooled):
    """partition; side inputs: vocabulary, core -> the partition, if anything of it is left.

    The manifest's entry of its finished sequence file is left in the working folder.
    """

    def __init__(self, job: PrepareJob) -> None:
        self.job: PrepareJob = job

    def setup(self) -> None:
        one_thread()

    @unless_given_up
    def process(self, partition: int, vocabulary: str, core: str | None = None) -> Outputs:
        size = _size(self.job, partition)
        if not self.noted(size, (WRITE, partition), write, partition, vocabulary, core):
            yield from self.outputs(write(self.job, partition, vocabulary, core))

    def outputs(self, result: int | None) -> Outputs:
        if result is not None:
            yield result


def _size(job: PrepareJob, partition: int) -> int:
    """Of a sorted partition, in bytes; where workers take parts by their size."""
    return 0 if pool_of(job) is None else job.work.size(sorted_file(partition))
