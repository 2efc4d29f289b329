from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from behavior.steps.stats import SequenceStats, approximate_entropy, sequence_stats, to_record
from tests.behavior.logs import few

M = 2


def phi(items: list[int], m: int) -> float:
    """Mean over windows of the log of the share of windows at distance zero (Pincus 1991), by two loops."""
    windows = [items[start : start + m] for start in range(len(items) - m + 1)]
    return sum(math.log(sum(a == b for b in windows) / len(windows)) for a in windows) / len(windows)


@few
@given(st.lists(st.lists(st.integers(0, 4), max_size=15), max_size=4))
def test_entropy_against_its_definition(sequences: list[list[int]]) -> None:
    offsets = np.cumsum([0, *map(len, sequences)])
    items = np.array([item for sequence in sequences for item in sequence], np.int64)
    expected = [phi(s, M) - phi(s, M + 1) if len(s) >= 3 else math.nan for s in sequences]
    np.testing.assert_allclose(approximate_entropy(offsets, items), expected, atol=1e-12)


@pytest.mark.parametrize("n", [3, 4, 50, 1000])
def test_entropy_without_repeats_is_the_length_alone(n: int) -> None:
    items = np.random.default_rng(0).permutation(2**31 - 1 - np.arange(n))
    assert approximate_entropy(np.array([0, n]), items)[0] == pytest.approx(math.log((n - 2) / (n - 1)))


def test_a_period_has_no_entropy() -> None:
    items = np.array([1, 2, 3] * 200)
    assert abs(approximate_entropy(np.array([0, 600]), items)[0]) < 0.01


def sequences_of(*users: tuple[list[str], list[int], int, int]) -> pa.Table:
    """Users as (items, times, train_end, valid_end); all behaviors are 1."""
    items, times, train_end, valid_end = zip(*users, strict=True)
    return pa.table(
        {
            "user": [f"u{n}" for n in range(len(users))],
            "item": pa.array(items, pa.large_list(pa.string())),
            "behavior": pa.array([[1] * len(own) for own in items], pa.large_list(pa.int8())),
            "timestamp": pa.array(times, pa.large_list(pa.int64())),
            "train_end": pa.array(train_end, pa.int32()),
            "valid_end": pa.array(valid_end, pa.int32()),
        }
    )


USERS = [
    (["a", "b", "c", "d"], [5, 6, 7, 8], 2, 3),
    (["a"], [3], 1, 1),
    (["a", "b"], [9, 9], 1, 2),
    (["b"] * 8, [1] * 8, 6, 7),
]


def test_statistics_of_a_handful_of_users() -> None:
    stats = sequence_stats(sequences_of(*USERS))
    assert (stats.users, stats.events, stats.longest) == (4, 15, 8)
    assert (stats.first, stats.last) == (1, 9)
    assert (stats.validated, stats.tested) == (3, 2)
    assert stats.entropy_users == 2
    assert stats.entropy_sum == pytest.approx(math.log(2 / 3))
    record = to_record(stats, np.array([3, 10, 1, 1]), ["see", "buy"], "s")
    assert record["sequence_length"] == {
        "mean": 3.75,
        "longest": 8,
        "histogram": [
            {"from": 1, "below": 2, "number": 1},
            {"from": 2, "below": 4, "number": 1},
            {"from": 4, "below": 8, "number": 1},
            {"from": 8, "below": 16, "number": 1},
        ],
    }
    assert [(b["from"], b["number"]) for b in record["item_count"]["histogram"]] == [(1, 2), (2, 1), (8, 1)]
    assert record["behaviors"] == {"see": 15, "buy": 0}
    assert record["density"] == 15 / 16
    assert record["time"] == {"unit": "s", "first": 1, "last": 9}
    assert record["approximate_entropy"]["m"] == M


def test_statistics_of_buckets_merge_to_those_of_the_whole() -> None:
    whole = sequence_stats(sequences_of(*USERS))
    merged = SequenceStats()
    for user in USERS:
        merged = merged.merge(sequence_stats(sequences_of(user)))
    merged = merged.merge(sequence_stats(sequences_of(*USERS).slice(0, 0)))
    names = ["see"]
    assert to_record(merged, np.array([1]), names, "s") == to_record(whole, np.array([1]), names, "s")
