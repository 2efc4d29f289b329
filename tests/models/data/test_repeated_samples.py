"""Repeated samples (RepPad) against lists that are put together by hand."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from behavior.errors import UserError
from behavior.sampling.config import Repeat, SamplingConfig
from behavior.sampling.repetition import RepeatRule
from behavior.shards.folder import open_shards
from models.config import load_config
from models.data.loading import LoaderConfig, ShardSource, TrainLoader
from models.data.windows import gather, history_windows
from tests.models.shards import User, World, rows, write_shards

N = 10
WORLD = World(num_items=30, oov=1, behaviors=("view",), targets=("view",), files=2)
SEPARATIONS = ("none", "delimiter", "attention")


def users() -> list[User]:
    """Histories of one input and more, up to some that are longer than the window."""
    generator = np.random.default_rng(0)
    return [
        User(generator.integers(2, 30, length + 3).tolist(), length + 1, length + 2) for length in range(15)
    ]


def loader_of(tmp_path: Path, repeat: dict[str, Any] | None, **batch: Any) -> TrainLoader:
    return TrainLoader(
        ShardSource(open_shards(write_shards(tmp_path, users(), WORLD))),
        LoaderConfig(sampling=SamplingConfig(repeat=repeat)),  # type: ignore[arg-type]
        max_length=N,
        seed=5,
        **(batch or {"batch_sequences": 4}),
    )


def runs_of(loader: TrainLoader) -> Iterator[tuple[int, list[list[int]]]]:
    """Of an epoch, each sequence of the batches: its number; items, positions, targets and query times."""
    for batch in loader:
        names = ("item", "position", "target", "query_time")
        yield from (
            (number, list(values))
            for number, *values in zip(
                batch.sequence.tolist(), *(rows(batch, name) for name in names), strict=True
            )
        )


def by_hand(user: User, copies: int, gap: int) -> list[tuple[list[int], list[int], list[int], list[int]]]:
    """The copies of a sample: items, positions, targets and query times."""
    inputs = list(range(max(0, user.train_end - 1 - N), user.train_end - 1))
    return [
        (
            [user.item[i] for i in inputs],
            [copy * (len(inputs) + gap) + place for place in range(len(inputs))],
            [user.item[i + 1] for i in inputs],
            [60 * (i + 1) for i in inputs],
        )
        for copy in range(copies)
    ]


@pytest.mark.parametrize("separation", SEPARATIONS)
@pytest.mark.parametrize("copies", ["random", "most", 3])
@pytest.mark.parametrize("batch", [{"batch_sequences": 4}, {"batch_tokens": 25}], ids=str)
def test_copies_against_lists(tmp_path: Path, copies: Any, separation: str, batch: dict[str, int]) -> None:
    """A copy ends with the sample's own target; positions go on, over a free one for the delimiter."""
    loader, gap = loader_of(tmp_path, {"copies": copies, "separation": separation}, **batch), 0
    if separation == "delimiter":
        gap = 1
    found: dict[int, list[list[list[int]]]] = defaultdict(list)
    for number, values in runs_of(loader):
        found[number].append(values)
    assert sorted(found) == list(range(1, 15))
    for number, sequences in found.items():
        user = users()[number]
        inputs = min(number, N)
        count = len(sequences) if separation == "attention" else len(sequences[0][0]) // inputs
        most = max(1, (N + gap) // (inputs + gap))
        wanted = {"random": range(min(2, most), most + 1), "most": [most], 3: [min(3, most)]}[copies]
        assert count in wanted
        expected = by_hand(user, count, gap)
        assert max(expected[-1][1]) < N
        if separation == "attention":
            assert sequences == [list(copy) for copy in expected]
        else:
            assert sequences == [[list(chain(*column)) for column in zip(*expected, strict=True)]]


def test_random_copies_differ_by_epoch_and_follow_from_the_seed(tmp_path: Path) -> None:
    first, second = (loader_of(tmp_path / name, {}) for name in ("one", "two"))
    epochs = [sorted(map(repr, runs_of(first))) for _ in range(2)]
    assert epochs == [sorted(map(repr, runs_of(second))) for _ in range(2)]
    assert epochs[0] != epochs[1]


@pytest.mark.parametrize("copies", ["random", "most", 2])
def test_inputs_of_an_epoch_are_expected(tmp_path: Path, copies: Any) -> None:
    loader = loader_of(tmp_path, {"copies": copies})
    epochs = 1 if copies != "random" else 300
    inputs = sum(batch.num_events for _ in range(epochs) for batch in loader) / epochs
    assert inputs == pytest.approx(loader.tokens_an_epoch, rel=0 if copies != "random" else 0.03)


def test_without_repetition_a_loader_goes_on_from_a_state_of_before(tmp_path: Path) -> None:
    """A state's digest as version 0.1.0 made it: the settings of sampling that there were then."""
    loader = loader_of(tmp_path, None)
    settings = (
        '{"window":"newest","stride":null,"quotas":{},"quota_select":"random","stochastic_length":null}'
    )
    parts = " ".join(map(str, loader.source.events))
    order = f"{loader.source.digest} {parts} 5 4000000 {N} {settings}"
    assert loader.state_dict()["order"] == hashlib.sha256(order.encode()).hexdigest()[:16]


def test_evaluation_does_not_repeat(tmp_path: Path) -> None:
    source = ShardSource(open_shards(write_shards(tmp_path, users(), WORLD)))
    data = next(iter(source))
    sequence = np.arange(data.num_sequences)
    stop = data.offsets[sequence] + data.valid_end
    windows = history_windows(data, sequence, stop, stop, N)
    assert gather(data, windows, time="known").lengths.tolist() == np.minimum(data.valid_end, N).tolist()


def test_settings_that_undo_each_other_are_refused() -> None:
    with pytest.raises(ValueError, match="fill up again what stochastic_length has shortened"):
        SamplingConfig(repeat={}, stochastic_length={})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="greater than or equal to 2"):
        Repeat(copies=1)


@pytest.mark.parametrize("setting", ["loss.history=learned", "loss.jumps=learned"])
def test_nothing_is_copied_from_an_earlier_copy(setting: str) -> None:
    repeated = ["loader.sampling.repeat={}", setting]
    with pytest.raises(UserError, match="what is predicted stands among them"):
        load_config("default", repeated)
    load_config("default", [*repeated, "loader.sampling.repeat.separation=attention"])


def test_as_many_copies_as_fit() -> None:
    """Three inputs: three copies in ten positions; with a free position between them ten are not enough."""
    inputs = np.array([1, 3, 5, 6, 10])
    assert RepeatRule(10, Repeat()).most(inputs).tolist() == [10, 3, 2, 1, 1]
    assert RepeatRule(10, Repeat(separation="delimiter")).most(inputs).tolist() == [5, 2, 1, 1, 1]
