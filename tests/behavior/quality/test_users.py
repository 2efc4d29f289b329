"""Entropies of histories: against their formulas, and where they are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from behavior.quality import (
    approximate_entropy,
    lempel_ziv_entropy,
    match_lengths,
    shannon_entropy,
    user_quality,
)
from tests.behavior.logs import few
from tests.behavior.quality import oracle

Arrays = tuple[np.ndarray, np.ndarray]


def arrays_of(histories: list[list[int]]) -> Arrays:
    offsets = np.cumsum([0, *map(len, histories)])
    return offsets, np.array([item for own in histories for item in own], np.int64)


@few
@given(st.lists(st.lists(st.integers(0, 3), max_size=18), max_size=4), st.integers(1, 4))
def test_measures_against_their_formulas(histories: list[list[int]], m: int) -> None:
    arrays = arrays_of(histories)
    for found, slow in (
        (approximate_entropy(*arrays, m), lambda own: oracle.approximate(own, m)),
        (approximate_entropy(*arrays), oracle.approximate),
        (lempel_ziv_entropy(*arrays), oracle.lempel_ziv),
        (shannon_entropy(*arrays), oracle.shannon),
    ):
        np.testing.assert_allclose(found, [slow(own) for own in histories], atol=1e-12)
    users = user_quality(*arrays)
    assert users.repeats.tolist() == [oracle.repeats(own) for own in histories]
    np.testing.assert_array_equal(users.lempel_ziv, lempel_ziv_entropy(*arrays))
    np.testing.assert_array_equal(users.approximate, approximate_entropy(*arrays))


@pytest.mark.parametrize("symbols", [2, 3, 30])
def test_longer_histories_of_many_repeats_against_the_formula(symbols: int) -> None:
    draw = np.random.default_rng(symbols)
    histories = [list(draw.integers(0, symbols, 90)), list(np.repeat(draw.integers(0, symbols, 30), 3))]
    expected = [sum(oracle.new_length(own, event) for event in range(len(own))) for own in histories]
    assert match_lengths(*arrays_of(histories)).tolist() == expected


@pytest.mark.parametrize("n", [2, 3, 50, 1000])
def test_without_repeats_entropies_are_the_length_alone(n: int) -> None:
    items = np.random.default_rng(0).permutation(2**31 - 1 - np.arange(n))
    offsets = np.array([0, n])
    assert lempel_ziv_entropy(offsets, items)[0] == pytest.approx(math.log(n))
    assert shannon_entropy(offsets, items)[0] == pytest.approx(math.log(n))
    for m in (1, 2, 3):
        expected = math.log((n - m) / (n - m + 1)) if n > m else math.nan
        assert approximate_entropy(offsets, items, m)[0] == pytest.approx(expected, nan_ok=True)


def test_a_constant_history_has_no_entropy() -> None:
    n = 4000
    users = user_quality(np.array([0, n]), np.full(n, 7))
    assert users.approximate[0] == users.shannon[0] == 0
    assert users.repeats[0] == n - 1
    # Lambda is 1, 2, ... to n / 2, and what is left and one from there on.
    assert users.match_lengths[0] == sum(min(event, n - event) + 1 for event in range(n))
    assert users.lempel_ziv[0] < 0.01


@pytest.mark.parametrize("period", [2, 5, 40])
def test_a_periodic_history_has_the_entropy_of_its_items_and_a_rate_of_none(period: int) -> None:
    n = 200 * period
    users = user_quality(np.array([0, n]), np.arange(n) % period)
    assert abs(users.approximate[0]) < 1e-3
    assert users.lempel_ziv[0] < 4 * math.log(n) / (n / 4)
    assert users.shannon[0] == pytest.approx(math.log(period))


@pytest.mark.parametrize("symbols", [2, 4, 16])
def test_independent_uniform_items_have_the_logarithm_of_their_number(symbols: int) -> None:
    n = 200_000
    items = np.random.default_rng(1).integers(0, symbols, n)
    users = user_quality(np.array([0, n]), items)
    assert users.shannon[0] == pytest.approx(math.log(symbols), rel=1e-3)
    assert users.approximate[0] == pytest.approx(math.log(symbols), rel=1e-2)
    # E Lambda is (ln n + a constant) / entropy: the estimate is low by 1 / ln n times that constant.
    assert users.lempel_ziv[0] == pytest.approx(math.log(symbols), rel=0.12)
    shuffled = np.sort(items.reshape(-1, 10), 1).ravel()  # the same items in a more predictable order
    ordered = user_quality(np.array([0, n]), shuffled)
    assert ordered.lempel_ziv[0] < users.lempel_ziv[0]
    assert ordered.shannon[0] == pytest.approx(users.shannon[0])


def test_users_do_not_change_each_other() -> None:
    draw = np.random.default_rng(3)
    histories = [list(draw.integers(0, 5, length)) for length in (0, 40, 1, 3, 300, 2, 0)]
    together = user_quality(*arrays_of(histories))
    for user, own in enumerate(histories):
        alone = user_quality(*arrays_of([own]))
        for name in ("events", "repeats", "approximate", "match_lengths", "shannon"):
            np.testing.assert_array_equal(getattr(together, name)[[user]], getattr(alone, name))
