"""The training loader against plain Python lists, stopped anywhere, on any number of processes."""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain, count
from pathlib import Path
from threading import Semaphore
from typing import Any, ClassVar

import fsspec
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from behavior.errors import UserError
from behavior.sampling.sampler import SamplingConfig
from behavior.shards.folder import open_shards
from models.data.about import About
from models.data.batch import PackedBatch
from models.data.collate import Collator
from models.data.loading import LoaderConfig, MemorySource, ShardSource, TrainLoader
from models.data.loading.order import EpochOrder
from models.data.loading.shuffle_blocks import ShuffleBlock, ShuffleBlockReader
from models.data.sequences import SequenceData
from tests.models.shards import USERS, WORLD, User, World, rows, write_shards

HERE = LoaderConfig(threads=0)


@pytest.mark.parametrize("max_length", [1, 2, 3, 10])
@pytest.mark.parametrize("time", ["known", "unknown"])
@pytest.mark.parametrize("loss_on", ["all", "targets"])
def test_batches_against_lists(tmp_path: Path, max_length: int, time: Any, loss_on: Any) -> None:
    """Inputs are the newest N of what has a next training event; target and known time are that event's."""
    source = ShardSource(open_shards(write_shards(tmp_path, USERS, WORLD)))
    loader = TrainLoader(source, max_length=max_length, batch_sequences=2, time=time, loss_on=loss_on)
    assert (loader.samples, loader.skipped) == (3, 2)
    seen = set()
    for batch in loader:
        batch.validate()
        names = ("item", "behavior", "timestamp", "query_time", "target", "target_behavior")
        columns = zip(batch.sequence.tolist(), *(rows(batch, name) for name in names), strict=True)
        for number, item, behavior, timestamp, query_time, target, target_behavior in columns:
            user = USERS[number]
            behaviors = user.behavior or [1] * len(user.item)
            times = user.timestamp or [60 * i for i in range(len(user.item))]
            inputs = range(max(0, user.train_end - 1 - max_length), user.train_end - 1)
            following = [i + 1 for i in inputs]
            assert item == [user.item[i] for i in inputs]
            assert behavior == [behaviors[i] for i in inputs]
            assert timestamp == [times[i] for i in inputs]
            assert query_time == [times[i] for i in (following if time == "known" else inputs)]
            assert target_behavior == [behaviors[i] for i in following]
            assert target == [
                user.item[i] if user.item[i] >= 2 and (loss_on == "all" or behaviors[i] == 2) else 0
                for i in following
            ]
            seen.add(number)
    assert seen == {0, 2, 3}


def part(train_end: list[int], first_row: int) -> SequenceData:
    """Sequences whose items tell where they are: event e of the whole data set is item 2 + e."""
    lengths = [max(1, end) for end in train_end]
    offsets = np.concatenate(([0], np.cumsum(lengths))).astype(np.int64)
    events = int(offsets[-1])
    return SequenceData(
        {
            "item": np.arange(2, 2 + events, dtype=np.int32),
            "behavior": (np.arange(events) % 2 + 1).astype(np.int8),
            "timestamp": np.arange(events),
        },
        offsets=offsets,
        train_end=np.array(train_end, dtype=np.int64),
        valid_end=np.array(train_end, dtype=np.int64),
        row=np.arange(first_row, first_row + len(train_end)),
        about=About(
            has_time=True, target_behaviors=(1,), first_item=2, num_item_ids=events + 2, num_behaviors=2
        ),
    )


def source_of(parts: list[list[int]]) -> MemorySource:
    starts = np.cumsum([0, *(len(ends) for ends in parts)])
    return MemorySource([part(ends, int(start)) for ends, start in zip(parts, starts, strict=False)])


Sample = tuple[int, ...]


def samples(batch: PackedBatch) -> list[Sample]:
    """Each sample of a batch: its sequence, then its items."""
    return [(n, *items) for n, items in zip(batch.sequence.tolist(), rows(batch, "item"), strict=True)]


@dataclass(frozen=True)
class Setting:
    """How a loader is set up, apart from the rank."""

    config: LoaderConfig
    batch: dict[str, int]
    max_length: int
    seed: int = 1

    def loader(self, source: MemorySource, rank: int = 0, num_replicas: int = 1, **batch: int) -> TrainLoader:
        return TrainLoader(
            source,
            self.config,
            max_length=self.max_length,
            seed=self.seed,
            rank=rank,
            num_replicas=num_replicas,
            behaviors=("view", "buy"),
            **(batch or self.batch),
        )


SAMPLINGS: list[dict[str, Any]] = [
    {},
    {"window": "sliding", "stride": 2},
    {"window": "random"},
    {"quotas": {"view": 2}},
    {"stochastic_length": {"alpha": 1.1}},
    {"stochastic_length": {"alpha": 1.1, "balanced": True}},
]


@st.composite
def sources(draw: st.DrawFn) -> MemorySource:
    part = st.lists(st.integers(0, 12), min_size=1, max_size=12)
    parts = draw(st.lists(part, min_size=1, max_size=5))
    parts[0].append(2)  # never without a sample
    return source_of(parts)


@st.composite
def setups(draw: st.DrawFn, threads: int = 0) -> Setting:
    max_length = draw(st.integers(2, 8))
    by_tokens = draw(st.booleans())
    batch = (
        {"batch_tokens": 3 * max_length + draw(st.integers(0, 30))}
        if by_tokens
        else {"batch_sequences": draw(st.integers(3, 9))}
    )
    config = LoaderConfig(
        # Cutting together is for numbers of sequences.
        sampling=SamplingConfig(**draw(st.sampled_from(SAMPLINGS[:-1] if by_tokens else SAMPLINGS))),
        shuffle_events=draw(st.sampled_from([1, 20, 1000])),
        lookahead=draw(st.integers(0, 6)),
        balance_length=None if by_tokens else draw(st.sampled_from([None, 5])),
        threads=threads,
    )
    return Setting(config, batch, max_length)


@settings(max_examples=150, deadline=None)
@given(source=sources(), setup=setups(), replicas=st.integers(1, 3))
def test_processes_share_all_samples_and_have_equally_many_steps(
    source: MemorySource, setup: Setting, replicas: int
) -> None:
    whole = sorted(chain.from_iterable(samples(batch) for batch in setup.loader(source, batch_sequences=1)))
    loaders = [setup.loader(source, rank, replicas) for rank in range(replicas)]
    for _ in range(2):
        steps = list(zip(*loaders, strict=True))  # raises where one has more batches
        visited = [sample for batches in steps for batch in batches for sample in samples(batch)]
        if setup.config.sampling == SamplingConfig():
            assert sorted(visited) == whole
        assert Counter(sample[0] for sample in visited) == Counter(sample[0] for sample in whole)
        for number, batches in enumerate(steps):
            sizes = [batch.num_sequences for batch in batches]
            if "batch_tokens" in setup.batch:
                budget = setup.batch["batch_tokens"] // replicas
                assert max(batch.num_tokens for batch in batches) <= budget
            elif number < len(steps) - 1:
                assert sum(sizes) == setup.batch["batch_sequences"]
            assert sum(sizes) < replicas or min(sizes) > 0


def collect(batches: Iterator[PackedBatch]) -> list[list[Sample]]:
    return [samples(batch) for batch in batches]


@settings(max_examples=100, deadline=None)
@given(source=sources(), setup=setups(), threads=st.sampled_from([0, 2]), data=st.data())
def test_a_loaded_state_gives_the_batches_of_a_run_that_never_stopped(
    source: MemorySource, setup: Setting, threads: int, data: st.DataObject
) -> None:
    background = {"threads": threads, "prefetch": data.draw(st.integers(1, 4))}
    setup = replace(setup, config=setup.config.model_copy(update=background))
    whole = setup.loader(source)
    first, second = collect(iter(whole)), collect(iter(whole))
    assert whole.epoch == 2
    stop = data.draw(st.integers(0, len(first) + len(second)))
    cut = setup.loader(source)
    taken: list[list[Sample]] = []
    while len(taken) < stop:
        for batch in cut:
            taken.append(samples(batch))
            if len(taken) == stop:
                break
    resumed = setup.loader(source)
    next(iter(resumed))  # batches are being made when the state comes
    resumed.load_state_dict(cut.state_dict())
    assert resumed.seen == cut.seen
    rest = collect(iter(resumed))
    if len(taken) + len(rest) < len(first) + len(second):
        rest += collect(iter(resumed))
    assert taken + rest == first + second


@settings(max_examples=100, deadline=None)
@given(
    source=sources(),
    setup=setups(),
    before=st.integers(1, 3),
    after=st.integers(1, 3),
    other=setups(threads=1),
    data=st.data(),
)
def test_a_state_goes_to_other_numbers_of_processes_and_other_batches(
    source: MemorySource, setup: Setting, before: int, after: int, other: Setting, data: st.DataObject
) -> None:
    """What was visited before and what is visited after are an epoch between them, each sample once."""
    whole = Counter(s for batch in setup.loader(source, batch_sequences=7) for s in samples(batch))
    loaders = [setup.loader(source, rank, before) for rank in range(before)]
    batches = [iter(loader) for loader in loaders]
    stop = data.draw(st.integers(0, len(loaders[0]) + 1))
    visited: Counter[Sample] = Counter()
    for _ in range(stop):
        for one in batches:
            visited.update(samples(next(one, PackedBatch.from_lists([]))))
    if loaders[0].epoch == 1:
        return
    states = [loader.state_dict() for loader in loaders]
    assert all(state == states[0] for state in states)
    keep = {"sampling": setup.config.sampling, "shuffle_events": setup.config.shuffle_events}
    if "batch_tokens" in other.batch and setup.config.sampling.model_dump()["stochastic_length"] == {
        "alpha": 1.1,
        "select": "recency",
        "balanced": True,
    }:
        other = replace(other, batch={"batch_sequences": 5})
    changed = replace(
        other, config=other.config.model_copy(update=keep), max_length=setup.max_length, seed=setup.seed
    )
    if "batch_tokens" in changed.batch:
        changed = replace(changed, batch={"batch_tokens": 3 * setup.max_length})
    for rank in range(after):
        resumed = changed.loader(source, rank, after)
        resumed.load_state_dict(states[0])
        for batch in resumed:
            visited.update(samples(batch))
    if setup.config.sampling.stochastic_length is None:
        assert visited == whole
    # Samples that are cut together have other lengths in other batches, but each is there once.
    assert Counter(sample[0] for sample in visited.elements()) == Counter(
        sample[0] for sample in whole.elements()
    )


def many(count: int = 40) -> MemorySource:
    return source_of([[2 + i % 7 for i in range(count)]])


def order(loader: TrainLoader) -> list[list[int]]:
    return [batch.sequence.tolist() for batch in loader]


def test_every_epoch_visits_all_in_another_order_that_only_the_seed_decides() -> None:
    loader = TrainLoader(many(), HERE, max_length=5, batch_sequences=16, seed=3)
    first, second = order(loader), order(loader)
    assert [len(batch) for batch in first] == [16, 16, 8]
    flat, again = list(chain.from_iterable(first)), list(chain.from_iterable(second))
    assert sorted(flat) == sorted(again) == list(range(40))
    assert flat != again
    for threads in (0, 3):
        config = LoaderConfig(threads=threads, prefetch=2)
        other = TrainLoader(many(), config, max_length=5, batch_sequences=10, seed=3)
        assert list(chain.from_iterable(order(other))) == flat
    assert list(chain.from_iterable(order(TrainLoader(many(), HERE, max_length=5, seed=4)))) != flat


def test_the_samples_of_a_step_do_not_depend_on_the_number_of_processes() -> None:
    alone = [sorted(batch) for batch in order(TrainLoader(many(), HERE, max_length=5, batch_sequences=16))]
    three = [
        TrainLoader(many(), HERE, max_length=5, batch_sequences=16, rank=rank, num_replicas=3)
        for rank in range(3)
    ]
    together = [
        sorted(chain.from_iterable(batch.sequence.tolist() for batch in step))
        for step in zip(*three, strict=True)
    ]
    assert together == alone


def test_a_budget_of_tokens_is_nearly_full_and_holds_mostly_what_is_next_in_order() -> None:
    lengths = np.clip(np.random.default_rng(0).lognormal(3.5, 1.0, 20_000), 2, 201).astype(int)
    source = source_of([lengths.tolist()])
    in_order = list(chain.from_iterable(order(TrainLoader(source, HERE, max_length=200))))
    place = np.argsort(in_order)
    loaders = [
        TrainLoader(source, HERE, max_length=200, batch_tokens=16_384, rank=rank, num_replicas=2)
        for rank in range(2)
    ]
    fills, delays = [], []
    for number, batches in enumerate(zip(*loaders, strict=True)):
        fills += [batch.num_tokens / 8_192 for batch in batches]
        for batch in batches:
            delays.append(place[batch.sequence.numpy()].max() - place[batch.sequence.numpy()].min())
        assert loaders[0].position == loaders[1].position, number
    assert np.mean(fills[:-2]) > 0.999
    assert max(delays) < 2_000  # of 20,000: no batch reaches far ahead


def test_processes_have_as_much_to_do() -> None:
    """Attention's share counts: equal numbers of sequences or tokens would not do."""
    lengths = np.clip(np.random.default_rng(0).lognormal(3.5, 1.0, 2_000), 2, 201).astype(int)
    source, config = source_of([lengths.tolist()]), LoaderConfig(threads=0, balance_length=100)
    loaders = [
        TrainLoader(source, config, max_length=200, batch_sequences=128, rank=rank, num_replicas=4)
        for rank in range(4)
    ]
    for batches in list(zip(*loaders, strict=True))[:-1]:
        costs = [float((batch.lengths + batch.lengths**2 / 100).sum()) for batch in batches]
        assert max(costs) < 1.02 * np.mean(costs)


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


def test_a_loader_tells_where_it_is() -> None:
    loader = TrainLoader(many(), LoaderConfig(threads=1), max_length=5, batch_tokens=30)
    ends, left = [], []
    for _ in loader:
        ends.append(loader.at_end)
        left.append(loader.batches_left)
    assert ends == [False] * (len(ends) - 1) + [True]
    assert left[-1] == 0
    assert len(loader) == len(ends)  # known after the first epoch


def test_seed_and_epoch_decide_what_is_sampled() -> None:
    def visits(seed: int) -> list[set[Sample]]:
        config = LoaderConfig(threads=0, sampling=SamplingConfig(window="random"))
        loader = TrainLoader(source_of([[50] * 20]), config, max_length=5, seed=seed)
        return [{sample for batch in loader for sample in samples(batch)} for _ in range(2)]

    (first, second), (again, _), (other, _) = visits(1), visits(1), visits(2)
    assert first == again
    assert len(first & second) < 10
    assert len(first & other) < 10


def test_row_groups_come_in_random_order() -> None:
    config = LoaderConfig(threads=0, shuffle_events=1)
    loader = TrainLoader(source_of([[5]] * 30), config, max_length=5, batch_sequences=1)
    first, second = order(loader), order(loader)
    assert len({str(sorted(first)), str(first), str(second)}) == 3


def test_too_small_a_budget_is_an_error() -> None:
    with pytest.raises(UserError, match=r"90 tokens for 2 process.*50 events"):
        TrainLoader(many(), HERE, max_length=50, batch_tokens=90, rank=0, num_replicas=2)
    with pytest.raises(UserError, match=r"costs as much as 4,200"):
        TrainLoader(many(), LoaderConfig(balance_length=10), max_length=200, batch_tokens=1000)
    for batch in ({"batch_tokens": 2}, {"batch_sequences": 2}):
        with pytest.raises(UserError, match="3 processes"):
            TrainLoader(many(), HERE, max_length=1, rank=0, num_replicas=3, **batch)  # type: ignore[arg-type]


def test_nothing_to_learn_from_is_an_error() -> None:
    with pytest.raises(UserError, match="no sequence has two training events"):
        TrainLoader(source_of([[1, 0]]), HERE, max_length=5)


def test_a_state_of_another_order_is_an_error() -> None:
    state = TrainLoader(many(), HERE, max_length=5, seed=1).state_dict()
    for other in (
        TrainLoader(many(), HERE, max_length=5, seed=2),
        TrainLoader(many(41), HERE, max_length=5, seed=1),
        TrainLoader(many(), LoaderConfig(shuffle_events=7), max_length=5, seed=1),
        TrainLoader(many(), LoaderConfig(sampling=SamplingConfig(window="random")), max_length=5, seed=1),
    ):
        with pytest.raises(UserError, match="in another order"):
            other.load_state_dict(state)
    same = TrainLoader(many(), HERE, max_length=5, seed=1)
    with pytest.raises(UserError, match="damaged"):
        same.load_state_dict(state | {"taken": 41})
    with pytest.raises(UserError, match="damaged"):
        same.load_state_dict(state | {"waiting": [0]})


def test_the_same_data_in_other_row_groups_are_in_another_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def loader(name: str) -> TrainLoader:
        source = ShardSource(open_shards(write_shards(tmp_path / name, USERS, WORLD)))
        return TrainLoader(source, HERE, max_length=5)

    before, again = loader("a"), loader("b")
    again.load_state_dict(before.state_dict())
    write = pq.write_table
    monkeypatch.setattr(
        pq,
        "write_table",
        lambda table, file, **options: write(table, file, **options | {"row_group_size": 1}),
    )
    other = loader("c")
    assert other.source.digest == before.source.digest
    with pytest.raises(UserError, match="in another order"):
        other.load_state_dict(before.state_dict())


def test_batches_of_stochastic_length_that_are_cut_together_cost_alike() -> None:
    """Each batch of 64 long samples stays within the mean of what it costs when each is cut on its own."""
    source = source_of([[400] * 640])
    costs = {}
    for balanced in (False, True):
        config = LoaderConfig(
            threads=0,
            balance_length=50,
            sampling=SamplingConfig(stochastic_length={"alpha": 1.7, "balanced": balanced}),
        )
        loader = TrainLoader(source, config, max_length=399, batch_sequences=64)
        costs[balanced] = np.array([float((b.lengths + b.lengths**2 / 50).sum()) for b in loader])
        assert all(len(set(sample)) == len(sample) for b in loader for sample in samples(b))
    keep = 399**1.7 / 399**2
    cut = int(399**0.85)
    expected = 64 * (keep * (399 + 399**2 / 50) + (1 - keep) * (cut + cut**2 / 50))
    assert costs[True].max() <= expected * (1 + 1e-9)
    assert costs[True].mean() > 0.999 * expected
    assert costs[True].std() < 0.01 * costs[False].std()


def test_cutting_together_needs_a_number_of_sequences() -> None:
    config = LoaderConfig(sampling=SamplingConfig(stochastic_length={"balanced": True}))
    with pytest.raises(UserError, match="a budget of tokens caps"):
        TrainLoader(many(), config, max_length=5, batch_tokens=100)


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


def test_training_data_may_be_remote(tmp_path: Path) -> None:
    folder = write_shards(tmp_path / "data", USERS, WORLD)
    system = fsspec.filesystem("memory")
    system.put(str(folder), "/loader", recursive=True)
    local, remote = (
        TrainLoader(ShardSource(open_shards(place)), max_length=3, batch_sequences=2)
        for place in (folder, "memory://loader")
    )
    assert [samples(batch) for batch in local] == [samples(batch) for batch in remote]
    system.rm("/loader", recursive=True)
