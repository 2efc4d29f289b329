"""Which samples come together, and in what order."""

from __future__ import annotations

from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from behavior.errors import UserError
from behavior.sampling.sampler import SamplingConfig
from behavior.shards.folder import open_shards
from models.data.loading import LoaderConfig, ShardSource, TrainLoader
from tests.models.data.loader_problems import (
    HERE,
    Sample,
    many,
    order,
    samples,
    source_of,
)
from tests.models.shards import USERS, WORLD, write_shards


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
        fills += [batch.num_events / 8_192 for batch in batches]
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
