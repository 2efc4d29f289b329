"""Sampled negatives: how many, which, and none that the user has had."""

from __future__ import annotations

import numpy as np
import pytest

from behavior.sampling.negatives import item_chances, sample_negatives

NOTHING = np.zeros(1001, np.int64), np.zeros(0, np.int64)


def test_chances() -> None:
    counts = np.array([0, 1, 3, 4])
    assert item_chances(counts, "uniform").tolist() == [0.25] * 4
    assert item_chances(counts, "popularity").tolist() == [0, 1 / 8, 3 / 8, 4 / 8]
    powered = item_chances(counts, "popularity", 0.5)
    np.testing.assert_allclose(powered, np.sqrt([0, 1, 3, 4]) / np.sqrt([0, 1, 3, 4]).sum())
    assert item_chances(counts, "popularity", 0.0).tolist() == [0, 1 / 3, 1 / 3, 1 / 3]


@pytest.mark.parametrize("ratio", [0.2, 1.0, 2.5])
def test_the_ratio_is_met(ratio: float) -> None:
    user = np.arange(1000)
    positive, item = sample_negatives(user, np.full(20, 0.05), NOTHING, ratio=ratio, seed=0)
    each = np.bincount(positive, minlength=1000)
    assert set(each.tolist()) <= {int(ratio), int(np.ceil(ratio))}
    assert len(positive) == pytest.approx(1000 * ratio, abs=60)
    assert (np.diff(positive) >= 0).all()
    assert item.min() >= 0
    assert item.max() < 20


def test_items_come_as_often_as_their_chances_say() -> None:
    chances = np.array([0.5, 0.0, 0.3, 0.2])
    _, item = sample_negatives(np.zeros(20_000, np.int64), chances, NOTHING, ratio=1.0, seed=1)
    np.testing.assert_allclose(np.bincount(item, minlength=4) / len(item), chances, atol=0.015)


def test_no_negative_is_an_item_that_the_user_has_had() -> None:
    """The others come as often as their chances among the rest say; who has had everything gets none."""
    had = np.array([0, 2, 2, 6]), np.array([0, 3, 0, 1, 2, 3])
    user = np.repeat([0, 1, 2], 5000)
    chances = np.array([0.4, 0.1, 0.3, 0.2])
    positive, item = sample_negatives(user, chances, had, ratio=1.0, seed=2)
    own = user[positive]
    counts = [np.bincount(item[own == each], minlength=4) for each in range(3)]
    assert counts[0][[0, 3]].tolist() == [0, 0]
    assert counts[0][1] / counts[0].sum() == pytest.approx(0.25, abs=0.02)
    np.testing.assert_allclose(counts[1] / 5000, chances, atol=0.02)
    assert counts[2].sum() == 0


def test_a_seed_is_a_draw() -> None:
    user, chances = np.zeros(100, np.int64), np.full(50, 0.02)
    draws = [sample_negatives(user, chances, NOTHING, ratio=1.5, seed=seed) for seed in (3, 3, 4)]
    assert all(np.array_equal(one, two) for one, two in zip(draws[0], draws[1], strict=True))
    assert not np.array_equal(draws[0][1], draws[2][1])
