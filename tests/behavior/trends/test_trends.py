"""Decayed counts against the sum that defines them."""

from __future__ import annotations

import math

import numpy as np
import pytest

from behavior.trends import count_trends


def decayed(times: list[int], until: int, scale: float) -> float:
    """The count right after the events of a moment."""
    return sum(math.exp(-(until - time) / scale) for time in times if time <= until)


def test_counts_are_sums_over_earlier_events() -> None:
    random = np.random.default_rng(0)
    item, time = random.integers(-1, 6, 300), random.integers(0, 5000, 300)
    scales = [3.0, 400.0]
    table = count_trends(item, time, scales, 6)
    assert (table.item >= 0).all()
    assert table.begin.tolist() == [int((table.item < number).sum()) for number in range(7)]
    for number in range(6):
        rows = slice(table.begin[number], table.begin[number + 1])
        own = sorted(time[item == number].tolist())
        assert table.time[rows].tolist() == own
        for place, at in enumerate(own):
            for column, scale in enumerate(scales):
                expected = sum(math.exp(-(at - other) / scale) for other in own[: place + 1])
                assert table.log_count[rows][place, column] == pytest.approx(math.log(expected), abs=2e-5)
    everything = sorted(time[item >= 0].tolist())
    assert table.total_time.tolist() == everything
    last = [decayed(everything, everything[-1], scale) for scale in scales]
    assert table.log_total[-1] == pytest.approx(np.log(last), abs=2e-5)


def test_the_order_of_events_does_not_matter() -> None:
    random = np.random.default_rng(1)
    item, time = random.integers(0, 4, 50), random.integers(0, 20, 50)
    order = random.permutation(50)
    one, other = count_trends(item, time, [5.0], 4), count_trends(item[order], time[order], [5.0], 4)
    assert np.array_equal(one.log_count, other.log_count)
    assert np.array_equal(one.time, other.time)


def test_a_count_that_has_all_but_gone_is_still_a_number() -> None:
    table = count_trends(np.array([0, 0]), np.array([0, 10**9]), [1.0], 1)
    assert table.log_count[:, 0].tolist() == [0.0, 0.0]


def test_wrong_arguments_are_told() -> None:
    item, time = np.array([0, 1]), np.array([0, 1])
    with pytest.raises(ValueError, match="times of shape"):
        count_trends(item, time[:1], [1.0], 2)
    with pytest.raises(ValueError, match="above 0"):
        count_trends(item, time, [0.0], 2)
    with pytest.raises(ValueError, match="there has to be one"):
        count_trends(item, time, [], 2)
    with pytest.raises(ValueError, match="item 1, of 1"):
        count_trends(item, time, [1.0], 1)


def test_no_events_at_all() -> None:
    table = count_trends(np.array([], np.int64), np.array([], np.int64), [1.0, 2.0], 3)
    assert table.log_count.shape == (0, 2)
    assert table.begin.tolist() == [0, 0, 0, 0]
