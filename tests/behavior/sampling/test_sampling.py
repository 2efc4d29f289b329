"""Windows, quotas and choices against plain Python, number by number."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from behavior.errors import UserError
from behavior.sampling.config import SamplingConfig, StochasticLength
from behavior.sampling.sampler import Sampler, Units
from tests.behavior.logs import many

BEHAVIORS = ["view", "cart", "buy"]
MASK = 2**64 - 1
GAMMA = 0x9E3779B97F4A7C15
FOR_WINDOW, FOR_LENGTH, FOR_CUT, FOR_QUOTA = 1, 2, 3, 4


# --- The slow, obvious way ---------------------------------------------------------------------------------


def mix(word: int) -> int:
    """SplitMix64's finalizer."""
    word = ((word ^ word >> 30) * 0xBF58476D1CE4E5B9) & MASK
    word = ((word ^ word >> 27) * 0x94D049BB133111EB) & MASK
    return word ^ word >> 31


def absorb(key: int, value: int) -> int:
    return mix(key ^ mix((value + GAMMA) & MASK))


def stream(seed: int, epoch: int, sequence: int, window: int, purpose: int) -> int:
    key = GAMMA
    for value in (seed, epoch, purpose, sequence, window):
        key = absorb(key, value)
    return key


def word(key: int, index: int) -> int:
    return mix((key + (index + 1) * GAMMA) & MASK)


def uniform(key: int, index: int) -> float:
    return (word(key, index) >> 11) / 2**53


def subset(items: list[int], size: int, select: str, key: int) -> list[int]:
    """Some of the items, in their order."""
    count = len(items)
    if select == "newest":
        return items[count - size :]
    if select == "random":
        chosen: list[int] = []
        for place, item in enumerate(items):
            if uniform(key, place) * (count - place) < size - len(chosen):
                chosen.append(item)
        return chosen
    keys = [-math.log(((word(key, p) >> 12) + 0.5) / 2**52) / (p + 1) for p in range(count)]
    places = sorted(range(count), key=lambda place: keys[place])[:size]
    return [items[place] for place in sorted(places)]


@dataclass(frozen=True)
class Problem:
    """A sampler, and sequences one after the other in flat columns."""

    config: SamplingConfig
    max_length: int
    seed: int
    epoch: int
    train_end: list[int]
    extra: list[int]  # events after each training history
    behavior: list[int]
    first_sequence: int

    @property
    def sampler(self) -> Sampler:
        return Sampler(self.config, max_length=self.max_length, behaviors=BEHAVIORS, seed=self.seed)

    @property
    def begin(self) -> list[int]:
        lengths = [t + e for t, e in zip(self.train_end, self.extra, strict=True)]
        return [sum(lengths[:row]) for row in range(len(lengths))]

    @property
    def column(self) -> Any:
        return np.array(self.behavior, np.int8)

    @property
    def sequence(self) -> list[int]:
        return [self.first_sequence + row for row in range(len(self.train_end))]

    def units(self) -> Units:
        return self.sampler.units(
            np.array(self.begin, np.int64), np.array(self.train_end), np.array(self.sequence), self.epoch
        )

    def windows_by_hand(self) -> list[tuple[int, int, int, int]]:
        """Sequence, window, start and stop of every unit."""
        n, config, found = self.max_length, self.config, []
        for sequence, begin, train_end in zip(self.sequence, self.begin, self.train_end, strict=True):
            inputs = train_end - 1
            if inputs < 1:
                continue
            if config.window == "newest":
                reach = inputs if config.quotas else min(inputs, n)
                found.append((sequence, 0, begin + inputs - reach, begin + inputs))
            elif config.window == "random":
                places = max(1, inputs - n + 1)
                key = stream(self.seed, self.epoch, sequence, 0, FOR_WINDOW)
                start = (word(key, 0) >> 32) * places >> 32
                found.append((sequence, 0, begin + start, begin + min(inputs, start + n)))
            else:
                end, window = inputs, 0
                while True:
                    found.append((sequence, window, begin + max(0, end - n), begin + end))
                    if end <= n:
                        break
                    end, window = end - (config.stride or n), window + 1
        return found

    def sample_by_hand(self, sequence: int, window: int, start: int, stop: int) -> list[int]:
        """The inputs of a unit."""
        events = list(range(start, stop))
        for name, quota in self.config.quotas.items():
            number = BEHAVIORS.index(name) + 1
            own = [event for event in events if self.behavior[event] == number]
            if len(own) > quota:
                key = absorb(stream(self.seed, self.epoch, sequence, window, FOR_QUOTA), number)
                kept = subset(own, quota, self.config.quota_select, key)
                events = [event for event in events if event not in own or event in kept]
        events = events[-self.max_length :]
        stochastic = self.config.stochastic_length
        if stochastic is None:
            return events
        threshold = int(self.max_length ** (stochastic.alpha / 2))
        draw = uniform(stream(self.seed, self.epoch, sequence, window, FOR_LENGTH), 0)
        keep = self.max_length**stochastic.alpha / len(events) ** 2
        if len(events) <= threshold or draw < keep:
            return events
        key = stream(self.seed, self.epoch, sequence, window, FOR_CUT)
        return subset(events, threshold, stochastic.select, key)


selects = st.sampled_from(["random", "recency", "newest"])
stochastics = st.builds(
    StochasticLength, alpha=st.sampled_from([1.01, 1.2, 1.6, 2.0]), select=selects, balanced=st.booleans()
)


@st.composite
def problems(draw: st.DrawFn, *, quotas: bool | None = None, window: str | None = None) -> Problem:
    max_length = draw(st.sampled_from([1, 2, 5, 12, 40]))
    window = window or draw(st.sampled_from(["newest", "sliding", "random"]))
    limits = draw(st.dictionaries(st.sampled_from(BEHAVIORS), st.integers(1, 9)))
    config = SamplingConfig(
        window=window,
        stride=draw(st.none() | st.integers(1, max_length)) if window == "sliding" else None,
        quotas={} if quotas is False else limits,
        quota_select=draw(selects),
        stochastic_length=draw(st.none() | stochastics),
    )
    train_end = draw(st.lists(st.integers(0, 60), max_size=6))
    extra = [draw(st.integers(0, 2)) for _ in train_end]
    total = sum(train_end) + sum(extra)
    return Problem(
        config,
        max_length,
        seed=draw(st.integers(0, 2**64 - 1)),
        epoch=draw(st.integers(0, 1000)),
        train_end=train_end,
        extra=extra,
        behavior=draw(st.lists(st.integers(1, 3), min_size=total, max_size=total)),
        first_sequence=draw(st.sampled_from([0, 10**12])),
    )


def split(events: Any, lengths: Any) -> list[list[int]]:
    """The events of each unit."""
    return [part.tolist() for part in np.split(events, np.cumsum(lengths))[:-1]] if len(lengths) else []


# --- Against it --------------------------------------------------------------------------------------------


@many
@given(problems())
def test_units_lengths_and_choices_against_plain_python(problem: Problem) -> None:
    sampler, units = problem.sampler, problem.units()
    windows = problem.windows_by_hand()
    assert (
        list(zip(*(c.tolist() for c in (units.sequence, units.window, units.start, units.stop)), strict=True))
        == windows
    )
    np.testing.assert_array_equal(units.target, units.stop)
    counts = Counter(units.sequence.tolist())
    assert sampler.counts(np.array(problem.train_end)).tolist() == [counts[s] for s in problem.sequence]

    samples = [problem.sample_by_hand(*window) for window in windows]
    lengths = sampler.lengths(units, problem.column, problem.epoch)
    assert lengths.dtype == np.int64
    assert lengths.tolist() == [len(sample) for sample in samples]
    chosen = sampler.choose(units, lengths, problem.column, problem.epoch)
    assert split(chosen, lengths) == samples


@many
@given(problems(window="sliding", quotas=False))
def test_sliding_windows_predict_every_event_after_the_first(problem: Problem) -> None:
    units = problem.units()
    predicted = Counter(
        event
        for start, stop in zip(units.start.tolist(), units.stop.tolist(), strict=True)
        for event in range(start + 1, stop + 1)
    )
    expected = {b + i for b, t in zip(problem.begin, problem.train_end, strict=True) for i in range(1, t)}
    assert set(predicted) == expected
    stride = problem.config.stride or problem.max_length
    assert max(predicted.values(), default=0) <= math.ceil(problem.max_length / stride)
    if stride == problem.max_length:
        assert set(predicted.values()) <= {1}


@many
@given(problems(), st.data())
def test_any_shorter_lengths_choose_ordered_subsets_within_the_quotas(
    problem: Problem, data: st.DataObject
) -> None:
    sampler, units = problem.sampler, problem.units()
    uncut = sampler.uncut(units, problem.column)
    lengths = np.array([data.draw(st.integers(0, most)) for most in uncut.tolist()], np.int64)
    chosen = sampler.choose(units, lengths, problem.column, problem.epoch)
    assert len(chosen) == lengths.sum()
    for unit, events in enumerate(split(chosen, lengths)):
        assert events == sorted(set(events))
        assert all(units.start[unit] <= event < units.stop[unit] for event in events)
        counted = Counter(BEHAVIORS[problem.behavior[event] - 1] for event in events)
        assert all(counted[name] <= quota for name, quota in problem.config.quotas.items())


@many
@given(problems())
def test_a_unit_alone_is_sampled_as_among_others(problem: Problem) -> None:
    sampler, units = problem.sampler, problem.units()
    lengths = sampler.lengths(units, problem.column, problem.epoch)
    together = split(sampler.choose(units, lengths, problem.column, problem.epoch), lengths)
    for row, (begin, train_end) in enumerate(zip(problem.begin, problem.train_end, strict=True)):
        # In columns that hold this sequence alone.
        column = problem.column[begin : begin + train_end]
        own = sampler.units(
            np.array([0]), np.array([train_end]), np.array([problem.sequence[row]]), problem.epoch
        )
        for number in range(len(own)):
            one = own.take([number])
            length = sampler.lengths(one, column, problem.epoch)
            alone = begin + sampler.choose(one, length, column, problem.epoch)
            place = np.flatnonzero((units.sequence == one.sequence[0]) & (units.window == one.window[0]))[0]
            assert alone.tolist() == together[place]


@pytest.mark.parametrize("dtype", [np.int8, np.int16])
def test_columns_may_be_read_only_and_of_either_type(dtype: type) -> None:
    column = np.array([1, 1, 3, 1, 1, 1], dtype)
    column.flags.writeable = False
    sampler = Sampler(
        SamplingConfig(quotas={"view": 2}, quota_select="newest"), max_length=4, behaviors=BEHAVIORS
    )
    units = sampler.units(np.array([0]), np.array([6]), np.array([0]), epoch=0)
    lengths = sampler.lengths(units, column, 0)
    assert sampler.choose(units, lengths, column, 0).tolist() == [2, 3, 4]


def test_take_accepts_rows_masks_and_slices() -> None:
    sampler = Sampler(SamplingConfig(window="sliding"), max_length=3)
    units = sampler.units(np.array([10]), np.array([9]), np.array([4]), epoch=0)
    assert (len(units), units.lengths.tolist()) == (3, [3, 3, 2])
    for rows in ([0, 2], np.array([True, False, True]), slice(None, None, 2)):
        taken = units.take(rows)
        assert (taken.start.tolist(), taken.stop.tolist()) == ([15, 10], [18, 12])
        assert (taken.window.tolist(), taken.sequence.tolist()) == ([0, 2], [4, 4])
    lengths = sampler.lengths(units.take([]), None, 0)
    assert len(sampler.choose(units.take([]), lengths, None, 0)) == 0


def test_seed_and_epoch_change_what_is_random() -> None:
    config = SamplingConfig(window="random", stochastic_length=StochasticLength(alpha=1.2))

    def sample(seed: int, epoch: int) -> list[int]:
        sampler = Sampler(config, max_length=100, seed=seed)
        units = sampler.units(np.arange(20) * 500, np.full(20, 500), np.arange(20), epoch)
        return sampler.choose(units, sampler.lengths(units, None, epoch), None, epoch).tolist()

    samples = [sample(0, 0), sample(0, 1), sample(1, 0), sample(1, 1)]
    assert sample(0, 0) == samples[0]
    assert all(a != b for number, a in enumerate(samples) for b in samples[:number])


# --- Misuse ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("quotas", [{}, {"view": 5}])
@pytest.mark.parametrize("length", [-1, 11])
def test_lengths_of_other_units_are_refused(quotas: dict[str, int], length: int) -> None:
    sampler = Sampler(SamplingConfig(quotas=quotas), max_length=20, behaviors=BEHAVIORS)
    units = sampler.units(np.array([0, 11]), np.array([11, 11]), np.array([0, 1]), epoch=0)
    column = np.full(22, 3, np.int8)
    with pytest.raises(ValueError, match=f"unit 1 has no {length} inputs"):
        sampler.choose(units, np.array([10, length]), column, 0)


def test_quotas_need_the_behaviors() -> None:
    sampler = Sampler(SamplingConfig(quotas={"view": 5}), max_length=20, behaviors=BEHAVIORS)
    units = sampler.units(np.array([0]), np.array([11]), np.array([0]), epoch=0)
    with pytest.raises(ValueError, match="the column of behaviors"):
        sampler.lengths(units, None, 0)


def test_errors_name_the_setting_and_what_to_do() -> None:
    with pytest.raises(UserError, match=r"stride is 30, more than max_length 20") as error:
        Sampler(SamplingConfig(window="sliding", stride=30), max_length=20)
    assert error.value.fix == "use a stride of at most 20, or leave it out"
    with pytest.raises(UserError, match="quotas names the behavior 'views'") as error:
        Sampler(SamplingConfig(quotas={"views": 30}), max_length=20, behaviors=BEHAVIORS)
    assert error.value.fix == "did you mean 'view'?"
    with pytest.raises(UserError, match="max_length is 0"):
        Sampler(SamplingConfig(), max_length=0)
