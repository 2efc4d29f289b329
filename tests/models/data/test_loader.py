"""The training loader against plain Python lists, stopped anywhere, on any number of processes."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import fsspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from behavior.errors import UserError
from behavior.sampling.sampler import SamplingConfig
from behavior.shards.folder import open_shards
from models.data.batch import PackedBatch
from models.data.loading import LoaderConfig, MemorySource, ShardSource, TrainLoader
from tests.models.data.loader_problems import (
    HERE,
    Sample,
    Setting,
    collect,
    many,
    samples,
    setups,
    sources,
)
from tests.models.shards import USERS, WORLD, rows, write_shards


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
                assert max(batch.num_events for batch in batches) <= budget
            elif number < len(steps) - 1:
                assert sum(sizes) == setup.batch["batch_sequences"]
            assert sum(sizes) < replicas or min(sizes) > 0


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
