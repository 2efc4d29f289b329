"""Quality of the random numbers, and the distributions that are promised, on fixed seeds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import combinations, permutations

import numpy as np
import pytest
from scipy import stats

from behavior.sampling import kernels
from behavior.sampling.config import SamplingConfig, StochasticLength
from behavior.sampling.sampler import Sampler, Units
from behavior.sampling.stochastic_length import LengthRule

LEAST = 1e-3
"""A test fails below this p-value. Seeds are fixed: what passes once passes always."""

COUNT = 200_000


def draws(*, seed: int = 0, epoch: int = 0, first: int = 0, window: int = 0, purpose: int = 2) -> np.ndarray:
    """The draws of many sequences, from `first`."""
    sequence = np.arange(first, first + COUNT)
    return kernels.unit_draws(sequence, np.full(COUNT, window), np.uint64(seed), epoch, purpose)


def fits(observed: np.ndarray, expected: np.ndarray | float) -> bool:
    """Whether counts may be a sample of what is expected (chi-square)."""
    expected = np.broadcast_to(np.asarray(expected, float), observed.shape)
    return bool(stats.chisquare(observed.ravel(), expected.ravel()).pvalue > LEAST)


def test_draws_are_uniform() -> None:
    for numbers in (draws(), draws(seed=1), draws(epoch=77), draws(first=10**12), draws(purpose=1)):
        assert numbers.min() >= 0
        assert numbers.max() < 1
        assert fits(np.histogram(numbers, 1000, (0, 1))[0], COUNT / 1000)
        assert stats.kstest(numbers, "uniform").pvalue > LEAST
        # The lowest bits, too.
        assert fits(np.bincount((numbers * 2**53).astype(np.int64) & 255, minlength=256), COUNT / 256)


@pytest.mark.parametrize(
    "other",
    [
        {"epoch": 1},
        {"epoch": 2},
        {"seed": 1},
        {"seed": 2**63},
        {"first": 1},
        {"first": 2},
        {"window": 1},
        {"purpose": 3},
    ],
    ids=str,
)
def test_draws_of_neighbors_are_independent(other: dict[str, int]) -> None:
    pairs = np.histogram2d(draws(), draws(**other), 20, ((0, 1), (0, 1)))[0]
    assert fits(pairs, COUNT / 400)


def test_no_two_of_many_streams_are_alike() -> None:
    everything = [draws(seed=s, epoch=e, window=w) for s in range(3) for e in range(3) for w in range(3)]
    assert len(np.unique(np.concatenate(everything))) == 27 * COUNT


def test_numbers_within_a_stream_are_independent() -> None:
    words = np.array([kernels._word(np.uint64(7), index) for index in range(40_000)], np.uint64)
    numbers = (words >> np.uint64(11)).astype(float) * 2.0**-53
    for lag in (1, 2, 7):
        pairs = np.histogram2d(numbers[:-lag], numbers[lag:], 20, ((0, 1), (0, 1)))[0]
        assert fits(pairs, (len(numbers) - lag) / 400)


def test_the_logarithm_is_one() -> None:
    words = [0, 1, 2**12, 2**52, 2**63 - 1, 2**63, 2**64 - 2**40, 2**64 - 1]
    words += np.random.default_rng(0).integers(0, 2**64, 1000, np.uint64).tolist()
    for number in words:
        exact = -np.log(((number >> 12) + 0.5) / 2**52)
        assert kernels._exponential(np.uint64(number)) == pytest.approx(exact, rel=1e-9, abs=1e-10)


# --- Subsets -----------------------------------------------------------------------------------------------


def subsets(select: str, count: int, size: int, times: int) -> list[tuple[int, ...]]:
    """Subsets of `size` of `count` inputs, drawn for many sequences."""
    config = SamplingConfig(stochastic_length=StochasticLength(select=select))
    sampler = Sampler(config, max_length=count, seed=5)
    zero = np.zeros(times, np.int64)
    units = Units(np.arange(times), zero, zero, zero + count, zero + count)
    chosen = sampler.choose(units, np.full(times, size), None, epoch=3)
    return [tuple(row) for row in chosen.reshape(times, size).tolist()]


def one_by_one(weights: list[float], subset: tuple[int, ...]) -> float:
    """Probability of a subset that is drawn without replacement."""
    total = 0.0
    for order in permutations(subset):
        left, probability = sum(weights), 1.0
        for place in order:
            probability *= weights[place] / left
            left -= weights[place]
        total += probability
    return total


@pytest.mark.parametrize(
    ("select", "weight"), [("random", lambda place: 1.0), ("recency", lambda place: place + 1.0)]
)
@pytest.mark.parametrize("size", [1, 2, 4])
def test_every_subset_has_its_probability(select: str, weight: Callable[[int], float], size: int) -> None:
    times, count = 60_000, 6
    found = Counter(subsets(select, count, size, times))
    possible = list(combinations(range(count), size))
    weights = [weight(place) for place in range(count)]
    expected = times * np.array([one_by_one(weights, subset) for subset in possible])
    assert fits(np.array([found[subset] for subset in possible]), expected)


def test_recency_against_a_slow_simulation() -> None:
    count, size, times = 400, 100, 4_000
    found = np.bincount(np.ravel(subsets("recency", count, size, times)), minlength=count) / times
    generator = np.random.default_rng(0)
    weights = np.arange(1, count + 1) / np.arange(1, count + 1).sum()
    slow = np.zeros(count)
    for _ in range(times):
        slow[generator.choice(count, size, replace=False, p=weights)] += 1 / times
    # Both are means of `times` coin flips for each place.
    variance = np.maximum(slow * (1 - slow), 1e-3) * 2 / times
    assert stats.chi2.sf(np.sum((found - slow) ** 2 / variance), count) > LEAST
    assert found[-40:].mean() > 4 * found[:40].mean()


def test_a_random_subset_favors_no_place() -> None:
    count, size, times = 400, 100, 4_000
    found = np.bincount(np.ravel(subsets("random", count, size, times)), minlength=count) / times
    variance = size / count * (1 - size / count) / times
    assert stats.chi2.sf(np.sum((found - size / count) ** 2 / variance), count - 1) > LEAST


def test_quotas_sample_each_behavior_evenly_and_keep_the_others() -> None:
    count, times = 60, 5_000
    behavior = np.tile(np.array([1, 1, 2], np.int8), count // 3)
    sampler = Sampler(SamplingConfig(quotas={"view": 10}), max_length=100, behaviors=["view", "buy"])
    zero = np.zeros(times, np.int64)
    units = Units(np.arange(times), zero, zero, zero + count, zero + count)
    lengths = sampler.lengths(units, behavior, epoch=0)
    assert (lengths == 30).all()
    found = np.bincount(sampler.choose(units, lengths, behavior, epoch=0), minlength=count)
    assert (found[behavior == 2] == times).all()
    views = found[behavior == 1]
    variance = times * 0.25 * 0.75
    assert stats.chi2.sf(np.sum((views - times / 4) ** 2 / variance), 39) > LEAST


def test_random_windows_lie_anywhere() -> None:
    sampler = Sampler(SamplingConfig(window="random"), max_length=20, seed=1)
    times = 20_000
    zero = np.zeros(times, np.int64)
    units = sampler.units(zero, zero + 41, np.arange(times), epoch=9)
    assert (units.lengths == 20).all()
    assert fits(np.bincount(units.start, minlength=21), times / 21)


# --- Stochastic length -------------------------------------------------------------------------------------


def test_the_numbers_of_the_paper() -> None:
    rule = LengthRule(4096, 1.6)
    assert rule.threshold == 776
    uncut = np.array([4096, 2000, 776, 1])
    lost = 1 - rule.expected_inputs(uncut) / uncut
    assert lost.round(2).tolist() == [0.78, 0.52, 0, 0]
    assert rule.keep_probability(uncut).round(4).tolist() == [0.0359, 0.1506, 1, 1]


@pytest.mark.parametrize(("uncut", "lost"), [(4096, 0.7815), (2000, 0.5199)])
def test_samples_lose_as_many_inputs_as_stated(uncut: int, lost: float) -> None:
    sampler = Sampler(SamplingConfig(stochastic_length=StochasticLength(alpha=1.6)), max_length=4096)
    times = 100_000
    zero = np.zeros(times, np.int64)
    units = sampler.units(zero, zero + uncut + 1, np.arange(times), epoch=0)
    lengths = sampler.lengths(units, None, epoch=0)
    assert set(lengths.tolist()) == {776, uncut}
    keep = 4096**1.6 / uncut**2
    error = np.sqrt(keep * (1 - keep) / times) * (1 - 776 / uncut)
    assert 1 - lengths.mean() / uncut == pytest.approx(lost, abs=4 * error + 5e-5)


def test_an_alpha_of_two_cuts_nothing() -> None:
    rule = LengthRule(500, 2.0)
    uncut = np.arange(1, 501)
    np.testing.assert_array_equal(rule.lengths(uncut, np.full(500, np.nextafter(1, 0))), uncut)


@pytest.mark.parametrize("window", ["newest", "sliding", "random"])
@pytest.mark.parametrize("alpha", [None, 1.3])
def test_expected_inputs_are_the_mean(window: str, alpha: float | None) -> None:
    stochastic = None if alpha is None else StochasticLength(alpha=alpha)
    sampler = Sampler(SamplingConfig(window=window, stochastic_length=stochastic), max_length=64)
    train_end = np.random.default_rng(0).integers(0, 300, 500)
    begin = np.cumsum(train_end) - train_end
    epochs = [
        sampler.lengths(sampler.units(begin, train_end, np.arange(500), epoch), None, epoch).sum()
        for epoch in range(100)
    ]
    error = np.std(epochs) / np.sqrt(len(epochs))
    assert sampler.expected_inputs(train_end) == pytest.approx(np.mean(epochs), abs=4 * error + 1e-6)
