"""Load-balanced stochastic length."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from behavior.errors import UserError
from behavior.packing.cost import Cost
from behavior.sampling.config import SamplingConfig, StochasticLength
from behavior.sampling.sampler import Sampler, Units
from behavior.sampling.stochastic_length import LengthRule, balance_lengths
from tests.behavior.logs import many


def by_hand(uncut: list[int], draws: list[float], rule: LengthRule, cost: Cost, cap: float) -> list[int]:
    """One input at a time. The samples' numbers are their places."""

    def keep(n: int) -> float:
        return min(1, rule.max_length**rule.alpha / n**2) if n > rule.threshold else 1

    def total(lengths: list[int]) -> float:
        return cost.linear * sum(lengths) + cost.quadratic * sum(n * n for n in lengths)

    line = sorted(range(len(uncut)), key=lambda sample: (draws[sample] / keep(uncut[sample]), sample))
    lengths = [1] * len(uncut)
    # To the level: all rise together.
    level = 1
    while level < rule.threshold:
        raised = [min(n, level + 1) for n in uncut]
        if total(raised) > cap:
            break
        level, lengths = level + 1, raised
    if total(lengths) > cap:
        return lengths
    # The front of the line rises: to its whole length from the threshold, else by one input.
    for sample in line:
        most = uncut[sample] if level == rule.threshold else min(uncut[sample], level + 1)
        while lengths[sample] < most:
            lengths[sample] += 1
            if total(lengths) > cap:
                lengths[sample] -= 1
                return lengths
    return lengths


batches = st.lists(st.tuples(st.integers(1, 40), st.integers(0, 7)), min_size=1, max_size=12)
costs = st.sampled_from([Cost(1, 0), Cost(0, 1), Cost(3, 2)])


@many
@given(batches, costs, st.sampled_from([1.01, 1.3, 1.6, 2.0]), st.integers(1, 9000))
def test_balancing_against_plain_python(
    batch: list[tuple[int, int]], cost: Cost, alpha: float, cap: int
) -> None:
    uncut = [n for n, _ in batch]
    draws = [eighths / 8 for _, eighths in batch]  # some are equal
    rule = LengthRule(40, alpha)
    number = np.arange(len(batch))
    lengths = balance_lengths(np.array(uncut), np.array(draws), (number,), rule, cost, cap)
    assert lengths.tolist() == by_hand(uncut, draws, rule, cost, cap)
    assert cost.of(lengths).sum() <= max(cap, cost.of([1]).sum() * len(batch))


@many
@given(batches, costs, st.none() | st.integers(1, 9000), st.randoms(use_true_random=False))
def test_the_order_of_a_batch_does_not_matter(
    batch: list[tuple[int, int]], cost: Cost, cap: int | None, random: Any
) -> None:
    rule = LengthRule(40, 1.3)
    rows = [(n, eighths / 8, sample // 3, sample % 3) for sample, (n, eighths) in enumerate(batch)]
    shuffled = random.sample(rows, len(rows))

    def balanced(rows: list[Any]) -> dict[tuple[int, int], int]:
        uncut, draws, sequence, window = (np.array(column) for column in zip(*rows, strict=True))
        lengths = balance_lengths(uncut, draws, (sequence, window), rule, cost, cap)
        return dict(zip(zip(sequence.tolist(), window.tolist(), strict=True), lengths.tolist(), strict=True))

    assert balanced(rows) == balanced(shuffled)


def test_a_batch_that_fits_is_kept_whole() -> None:
    rule, cost = LengthRule(100, 1.5), Cost(1, 0.1)
    uncut = np.array([100, 50, 7, 31])
    draws = np.full(4, 0.99)
    number = np.arange(4)
    assert balance_lengths(uncut, draws, (number,), rule, cost, 1e9).tolist() == uncut.tolist()
    # By default, too, where plain stochastic length would cut nothing. 0.1 has no exact binary form.
    short = np.minimum(uncut, rule.threshold)
    assert balance_lengths(short, draws, (number,), rule, cost).tolist() == short.tolist()


def test_a_cap_below_one_input_each_gives_one_input_each() -> None:
    lengths = balance_lengths(
        np.array([9, 3, 1]), np.zeros(3), (np.arange(3),), LengthRule(10, 1.5), Cost(1, 1), cap=5
    )
    assert lengths.tolist() == [1, 1, 1]


def test_an_empty_batch_stays_empty() -> None:
    none = np.zeros(0, np.int64)
    assert len(balance_lengths(none, np.zeros(0), (none,), LengthRule(10, 1.5), Cost(1, 1))) == 0


@pytest.mark.parametrize("cap", [0, -1.5, float("nan")])
def test_a_cap_that_is_none_is_refused(cap: float) -> None:
    with pytest.raises(UserError, match="a batch cannot cost at most"):
        balance_lengths(np.array([3]), np.zeros(1), (np.arange(1),), LengthRule(10, 1.5), Cost(1, 1), cap)


def histories(batch: int) -> Units:
    """256 histories of typical lengths."""
    lengths = np.random.default_rng(batch).lognormal(6.5, 1.2, 256).clip(1, 4096).astype(np.int64)
    zero = np.zeros(256, np.int64)
    return Units(np.arange(256) + 256 * batch, zero, zero, lengths, lengths)


def test_batches_cost_what_plain_stochastic_length_costs_on_average() -> None:
    sampler = Sampler(
        SamplingConfig(stochastic_length=StochasticLength(alpha=1.6, balanced=True)), max_length=4096
    )
    cost = Cost(1000, 1)
    plain, balanced = [], []
    for batch in range(200):
        units = histories(batch)
        assert sampler.rule is not None
        uncut = sampler.uncut(units, None)
        expected = sampler.rule.expected_cost(uncut, cost)
        plain.append(cost.of(sampler.lengths(units, None, epoch=0)).sum() / expected)
        lengths = sampler.balance(units, uncut, 0, cost)
        balanced.append(cost.of(lengths).sum() / expected)
        chosen = sampler.choose(units, lengths, None, 0)
        assert len(chosen) == lengths.sum()
    assert np.mean(plain) == pytest.approx(1, abs=4 * np.std(plain) / np.sqrt(200))
    assert max(balanced) <= 1 + 1e-12
    assert min(balanced) > 0.9999
    assert np.std(balanced) < np.std(plain) / 1000


def test_who_is_kept_whole_hardly_changes() -> None:
    sampler = Sampler(SamplingConfig(stochastic_length=StochasticLength(alpha=1.6)), max_length=4096)
    same, kept_plain, kept_balanced = 0, 0, 0
    for batch in range(100):
        units = histories(batch)
        uncut = sampler.uncut(units, None)
        long = uncut > 776
        plain = sampler.lengths(units, None, 0)[long] == uncut[long]
        balanced = sampler.balance(units, uncut, 0, Cost(1000, 1))[long] == uncut[long]
        same += int((plain == balanced).sum())
        kept_plain += int(plain.sum())
        kept_balanced += int(balanced.sum())
        # One line: who is kept whole by the stricter one is by the other.
        assert not (plain & ~balanced).any() or not (balanced & ~plain).any()
    assert kept_balanced == pytest.approx(kept_plain, rel=0.05)


def test_balancing_needs_stochastic_length() -> None:
    units = histories(0)
    with pytest.raises(UserError, match="only stochastic length can be balanced"):
        Sampler(SamplingConfig(), max_length=10).balance(units, units.lengths, 0, Cost(1, 0))
