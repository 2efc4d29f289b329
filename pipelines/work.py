"""The parts of the passes, without Beam: what its transforms call, and the workers of a local run.

Each takes the job first, and leaves what it finds in files of the job's folder. What it gives back is small.
"""

from __future__ import annotations

import pickle
from collections.abc import Generator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from uuid import uuid4

import pyarrow as pa

from behavior.features import Encoder
from behavior.features.vocabulary import Vocabulary
from behavior.flow.ahead import compile_ahead, compile_common
from behavior.flow.partitions import count_sequences, sort_partition, write_sequences
from behavior.flow.reading import ChunkReader, ChunkReport
from behavior.flow.totals import describe, fit_items, fit_users, item_counts, write_tables
from behavior.shards.storage import Folder
from behavior.sources.chunks import Chunk
from behavior.sources.letters import letters_of
from behavior.steps.partition import cut_sequences
from pipelines.job import PrepareJob, leave, left, read_arrow, write_arrow
from pipelines.shuffle import SPILLED, Buffer, Piece, Shuffle, in_order
from pipelines.threads import one_of_few, one_thread

FORKED_WITH = f"{__name__}:ready_for_any"
"""What workers import, and call, before they are forked."""
READ, SORT, COUNT, VOCABULARY, WRITE, TABLES = "read", "sort", "count", "vocabulary", "write", "tables"
"""The stages, as timings and progress name them."""
MERGED = 16
"""Files of counts that are added up at once: merging a few costs little more than merging one."""


@dataclass(frozen=True)
class ChunkGroup:
    """Neighboring chunks that one worker reads one after the other, with how messages name their files."""

    number: int
    chunks: list[tuple[Chunk, str]]


@dataclass(frozen=True)
class GroupRead:
    """What reading a group of chunks came to: rows, and the file with a `ChunkReport` a chunk."""

    reports: str
    read: int
    rejected: int
    filtered: int


@dataclass(frozen=True)
class PartitionCounted:
    """What counting a partition came to: events, and the file with the counts of its items."""

    partition: int
    items: str
    added: int
    dropped: int


def ready_for_any() -> None:
    """What a process does before it knows the job whose workers it is forked into."""
    one_thread()
    compile_common()


def ready(job: PrepareJob) -> None:
    """What it does once it knows the job."""
    compile_ahead(job.preparation)


def read_group(
    job: PrepareJob, shuffle: Shuffle, group: ChunkGroup
) -> Generator[tuple[int, Piece], None, GroupRead]:
    """Read a group of chunks: gives (partition, piece) for all of its events."""
    reports: list[ChunkReport] = []
    with one_of_few(), job.stage(READ):
        buffer = Buffer(job, shuffle, group.number)
        for chunk, name in group.chunks:
            reader = ChunkReader(job.preparation, chunk, name)
            letters: list[pa.RecordBatch] = []
            for events in reader:
                yield from buffer.add(events)
                letters += _letters(reader)
            letters += _letters(reader)
            if letters:
                found = pa.Table.from_batches(letters).unify_dictionaries()  # the file has one for all
                write_arrow(job.work, letters_file(chunk), found)
            reports.append(reader.report)
        yield from buffer.flush()
        # A name of its own for every attempt, as the pieces have.
        name = leave(job.work, f"reports/{group.number:06d}-{uuid4().hex}.pickle", reports)
    return GroupRead(
        name,
        sum(report.read for report in reports),
        sum(report.rejected for report in reports),
        sum(report.filtered for report in reports),
    )


def read_whole_group(
    job: PrepareJob, shuffle: Shuffle, group: ChunkGroup
) -> tuple[list[tuple[int, Piece]], GroupRead]:
    """`read_group`, all pieces together: of a `FileShuffle` they are small."""
    pieces: list[tuple[int, Piece]] = []
    reading = read_group(job, shuffle, group)
    while True:
        try:
            pieces.append(next(reading))
        except StopIteration as end:
            return pieces, end.value


def _letters(reader: ChunkReader) -> list[pa.RecordBatch]:
    """The rejects since the last time, in few bytes; nothing where there are none."""
    rejects = reader.take_rejects()
    return [letters_of(rejects)] if rejects else []


def letters_file(chunk: Chunk) -> str:
    """File of the working folder with the rejects of a chunk, if it has any."""
    return f"rejects/{chunk.source:03d}-{chunk.file:06d}-{chunk.number:06d}.arrow"


def sorted_file(partition: int) -> str:
    """File of the working folder with the sequences of a partition."""
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


def features_file(partition: int) -> str:
    """File of the working folder with what a partition adds to the fits of the event features."""
    return f"features/{partition:05d}.pickle"


def encoders_of(vocabulary: str) -> str:
    """File with the encoders of the event features, beside that of the item vocabulary."""
    return vocabulary.replace(".arrow", ".encoders")


def partitions_of(vocabulary: str) -> str:
    """File with the partitions that were counted, beside that of the item vocabulary."""
    return vocabulary.replace(".arrow", ".partitions")


def sort(job: PrepareJob, shuffle: Shuffle, partition: int, pieces: list[Piece]) -> pa.Table:
    """Sort the events of a partition by user and time, and keep them."""
    with one_of_few(), job.stage(SORT):
        sequences = sort_partition(job.preparation, partition, in_order(job, shuffle, pieces))
        write_arrow(job.work, sorted_file(partition), sequences)
    return sequences


def count(job: PrepareJob, partition: int, sequences: pa.Table | None, core: str | None) -> PartitionCounted:
    """Count a sorted partition; its report, counts of users and fits of event features are left.

    Args:
        job: the job.
        partition: its number.
        sequences: of it, where they are at hand.
        core: file with the items that survive the minimum counts.
    """
    work = job.work
    with one_of_few(), job.stage(COUNT):
        if sequences is None:
            sequences = read_arrow(work, sorted_file(partition))
        counted = count_sequences(job.preparation, partition, sequences, load_core(work, core))
        write_arrow(work, users_file(partition), counted.users)
        counts = f"counts/{partition:05d}.arrow"
        write_arrow(work, counts, counted.items)
        leave(work, features_file(partition), counted.features)
        leave(work, report_file(partition), counted.report)
    return PartitionCounted(partition, counts, counted.report.added, counted.report.dropped)


def sort_and_count(
    job: PrepareJob, shuffle: Shuffle, partition: int, pieces: list[Piece], counted: bool
) -> PartitionCounted | int:
    """`sort`, and `count` where there is no core to wait for; else the partition's number."""
    sequences = sort(job, shuffle, partition, pieces)
    return count(job, partition, sequences, None) if counted else partition


def merge_counts(job: PrepareJob, names: list[str]) -> str:
    """Add up counts of items, in files: the file of the sums."""
    with job.stage(VOCABULARY):
        merged = item_counts(job.preparation).merge(read_arrow(job.work, name) for name in names)
        name = f"counts/{uuid4().hex}.arrow"
        write_arrow(job.work, name, merged)
    return name


def fit(job: PrepareJob, partitions: list[int], counts: str | None) -> str:
    """Fit the item vocabulary and the encoders of the event features: the file of the first.

    Args:
        job: the job.
        partitions: that were counted.
        counts: file with the counts of their items, if any.
    """
    work = job.work
    with job.stage(VOCABULARY):
        none = item_counts(job.preparation).create()
        # In a fixed order: sums of floats depend on it.
        states = left(work, map(features_file, partitions))
        counted = none if counts is None else read_arrow(work, counts)
        vocabulary, encoders = fit_items(job.preparation, counted, states)
        name = f"vocabulary/{uuid4().hex}.arrow"
        write_arrow(work, name, vocabulary.table)
        leave(work, encoders_of(name), encoders)
        leave(work, partitions_of(name), partitions)
    return name


def fit_all(job: PrepareJob, partitions: list[int], counts: list[str]) -> str:
    """`fit`, with counts in any number of files."""
    return fit(job, partitions, merge_counts(job, counts) if len(counts) > 1 else next(iter(counts), None))


def write(job: PrepareJob, partition: int, vocabulary: str, core: str | None) -> int | None:
    """Write the sequence file of a partition, and leave its entry: its number, if anything of it is left."""
    work, preparation = job.work, job.preparation
    with one_of_few(), job.stage(WRITE):
        # Cheap enough to do twice, here and for the counts, rather than to keep.
        sequences = read_arrow(work, sorted_file(partition))
        cut = cut_sequences(sequences, preparation.spec, load_core(work, core))
        known = load_vocabulary(work, vocabulary, preparation.spec.vocabulary.oov)
        entry = write_sequences(preparation, partition, cut, known, load_encoders(work, vocabulary))
        if entry is not None:
            leave(work, entry_file(partition), entry)
    return None if entry is None else partition


def write_and_clear(job: PrepareJob, partition: int, vocabulary: str, core: str | None) -> int | None:
    """`write`, of what nobody will need again: the sorted sequences go."""
    written = write(job, partition, vocabulary, core)
    job.work.remove(sorted_file(partition))
    return written


def clear_events(job: PrepareJob) -> None:
    """Remove the events of all partitions, which are sorted: gigabytes that the system takes back slowly."""
    job.work.remove_tree(SPILLED)


def users(job: PrepareJob, partitions: list[int]) -> str:
    """Fit the user vocabulary: its file."""
    with job.stage(TABLES):
        known = fit_users(job.preparation, (read_arrow(job.work, users_file(n)) for n in partitions))
        name = f"vocabulary/{uuid4().hex}.arrow"
        write_arrow(job.work, name, known.table)
    return name


def tables(job: PrepareJob, vocabulary: str, users_of: str) -> str:
    """Write the tables of items and users: the file with their `TablesReport`.

    Args:
        job: the job.
        vocabulary: file of the item vocabulary.
        users_of: file of the user vocabulary.
    """
    work, preparation = job.work, job.preparation
    with job.stage(TABLES):
        oov = preparation.spec.vocabulary.oov
        made = describe(
            preparation, load_vocabulary(work, vocabulary, oov), Vocabulary(read_arrow(work, users_of), oov)
        )
        report = write_tables(preparation.writer, made, load_encoders(work, vocabulary))
        return leave(work, "tables.pickle", report)


def counted_with(work: Folder, vocabulary: str) -> list[int]:
    """The partitions that were counted for a vocabulary, in ascending order."""
    [partitions] = left(work, [partitions_of(vocabulary)])
    return list(partitions)


@lru_cache(maxsize=2)
def load_core(work: Folder, name: str | None) -> pa.Array | None:
    """The items that survive the minimum counts, once a process."""
    return None if name is None else read_arrow(work, name).column("id").combine_chunks()


@lru_cache(maxsize=2)
def load_vocabulary(work: Folder, name: str, oov: int) -> Vocabulary:
    """The item vocabulary, once a process."""
    return Vocabulary(read_arrow(work, name), oov)


@lru_cache(maxsize=2)
def load_encoders(work: Folder, vocabulary: str) -> dict[str, Encoder]:
    """The encoders of the event features, once a process; they lie beside the vocabulary."""
    encoders: dict[str, Any] = pickle.loads(work.read_bytes(encoders_of(vocabulary)))
    return encoders
