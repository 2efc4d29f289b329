"""Reading and collating ahead: what is in memory, what is read, and what happens when it fails."""

from __future__ import annotations

import weakref
from collections import Counter
from dataclasses import replace
from itertools import count
from pathlib import Path
from threading import Semaphore
from typing import Any, ClassVar

import pytest
import torch

from behavior.errors import UserError
from behavior.shards.folder import open_shards
from models.data.batch import PackedBatch
from models.data.collate import Collator
from models.data.loading import LoaderConfig, MemorySource, ShardSource, TrainLoader
from models.data.loading.order import EpochOrder
from models.data.loading.shuffle_blocks import ShuffleBlock, ShuffleBlockReader
from models.data.sequences import SequenceData
from tests.models.data.loader_problems import (
    HERE,
    Sample,
    collect,
    many,
    order,
    samples,
    source_of,
)
from tests.models.shards import User, World, write_shards


@pytest.mark.parametrize("threads", [0, 2])
def test_memory_follows_the_blocks_and_not_the_data(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two blocks in use and one that is made, whatever the data set and the lookahead."""
    alive: list[int] = [0, 0]  # events now, and at most
    read = ShuffleBlockReader.read

    def watched(self: ShuffleBlockReader, order: EpochOrder, block: int) -> ShuffleBlock:
        made = replace(read(self, order, block))
        made = replace(
            made, data=replace(made.data, events={**made.data.events, "item": made.data.item.copy()})
        )
        alive[0] += len(made.data.item)
        alive[1] = max(alive)
        weakref.finalize(made.data.item, gone, len(made.data.item))
        return made

    def gone(events: int) -> None:
        alive[0] -= events

    monkeypatch.setattr(ShuffleBlockReader, "read", watched)
    source = source_of([[11] * 10] * 40)  # parts of 110 events
    config = LoaderConfig(shuffle_events=220, threads=threads, prefetch=1, lookahead=256)
    loader = TrainLoader(source, config, max_length=10, batch_tokens=100)
    visited = [sample[0] for batch in loader for sample in samples(batch)]
    assert sorted(visited) == list(range(400))
    assert alive[1] <= 3 * 220 < 40 * 110


def test_parts_without_samples_are_not_read_and_what_is_read_ahead_is_used() -> None:
    parts = [[5] * 4 if number % 2 else [1] * 4 for number in range(40)]

    class Counting(MemorySource):
        reads: ClassVar[Counter[int]] = Counter()

        def read(self, part: int) -> SequenceData:
            self.reads[part] += 1
            return super().read(part)

    source = Counting(source_of(parts).parts)
    loader = TrainLoader(source, LoaderConfig(shuffle_events=1, threads=2), max_length=5, epochs=3)
    for _ in range(4):
        order(loader)
    assert loader.epoch == 3
    # Nothing twice, nothing after the last epoch.
    assert source.reads == Counter({number: 3 for number in range(40) if number % 2})
    loader.close()


def test_decoded_data_is_kept_while_it_fits(tmp_path: Path) -> None:
    users = [User([2, 3, 4, 5], 3, 3)] * 40
    shards = open_shards(write_shards(tmp_path, users, World(num_items=4, files=4)))
    none, some, all_ = (ShardSource(shards, cache_bytes=size) for size in (0, 1000, 1 << 20))
    for source, kept in ((none, 0), (some, 1), (all_, 4)):
        first = [source.read(number) for number in range(4)]
        again = [source.read(number) for number in range(4)]
        assert sum(a is b for a, b in zip(first, again, strict=True)) == kept


class Flaky(MemorySource):
    """Every third reading fails."""

    def __init__(self, parts: list[SequenceData]) -> None:
        super().__init__(parts)
        self.readings = 0

    def read(self, part: int) -> SequenceData:
        self.readings += 1
        if self.readings % 3 == 0:
            raise UserError(f"part {part} is damaged")
        return super().read(part)


@pytest.mark.parametrize("threads", [0, 2])
@pytest.mark.parametrize("where", ["reading", "collating", "interrupt"])
def test_what_goes_wrong_in_the_background_is_told_and_loses_nothing(
    threads: int, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever goes on after the error gets exactly the batches that are left."""
    parts = source_of([[5] * 6] * 10).parts
    config = LoaderConfig(shuffle_events=1, threads=threads, prefetch=2, lookahead=3)
    expected = collect(iter(TrainLoader(MemorySource(parts), config, max_length=5, batch_tokens=23)))
    error: type[BaseException] = UserError
    if where != "reading":
        error, finish, calls = KeyboardInterrupt, Collator.finish, count()
        error = MemoryError if where == "collating" else KeyboardInterrupt

        def sometimes(self: Collator) -> PackedBatch:
            if next(calls) % 4 == 2:
                raise error
            return finish(self)

        monkeypatch.setattr(Collator, "finish", sometimes)
    source = Flaky(parts) if where == "reading" else MemorySource(parts)
    loader = TrainLoader(source, config, max_length=5, batch_tokens=23)
    found: list[list[Sample]] = []
    errors = 0
    while loader.epoch == 0 and errors < 100:
        try:
            for batch in loader:
                found.append(samples(batch))
        except error:
            errors += 1
    assert errors > 1
    assert found == expected


def test_the_next_batches_are_made_before_they_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    for prefetch in (1, 3):
        made = Semaphore(0)
        finish = Collator.finish

        def counted(self: Collator, finish: Any = finish, made: Semaphore = made) -> PackedBatch:
            batch: PackedBatch = finish(self)
            made.release()
            return batch

        with monkeypatch.context() as patch:
            patch.setattr(Collator, "finish", counted)
            config = LoaderConfig(threads=1, prefetch=prefetch)
            loader = TrainLoader(many(), config, max_length=5, batch_sequences=4)
            next(iter(loader))
            for _ in range(1 + prefetch):
                assert made.acquire(timeout=30)


def test_a_batch_is_one_buffer_and_stays_one_on_its_way() -> None:
    batch = next(iter(TrainLoader(many(), HERE, max_length=5, batch_sequences=7)))
    moved = batch.to("meta")
    assert batch.buffer is not None
    for one in (batch, moved):
        buffer = one.buffer
        assert buffer is not None
        for tensor in (*one.values.values(), one.offsets, one.sequence):
            assert tensor.untyped_storage().nbytes() == buffer.nbytes  # a view of it
    assert moved.sequences.lengths == batch.sequences.lengths
    assert torch.equal(replace(batch).to("cpu").item, batch.item)  # a changed copy has tensors of its own
