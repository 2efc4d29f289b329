"""Order by user and time: numpy's own sort of pairs, for users of more events than are sorted in memory."""

from __future__ import annotations

import numpy as np
import pytest

from behavior.runtime import scratch
from behavior.steps.order import stable_order


@pytest.mark.parametrize("ascending", [False, True], ids=["any order", "in order"])
@pytest.mark.parametrize("large", [0, scratch.LARGE_BYTES], ids=["in files", "in memory"])
def test_stable_order(large: int, ascending: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scratch, "LARGE_BYTES", large)
    rng = np.random.default_rng(0)
    # One user has more than three runs of 2^16, and each time several events.
    users = np.where(rng.random(400_000) < 0.6, 3, rng.integers(0, 900, 400_000)).astype(np.int32)
    times = rng.integers(0, 50_000, len(users))
    if ascending:
        times.sort()
    order, offsets = stable_order(users, times, 900)
    assert (order == np.lexsort((times, users))).all()
    assert (offsets == np.searchsorted(np.sort(users), np.arange(901))).all()


def test_without_times() -> None:
    order, offsets = stable_order(np.array([1, 0, 1, 0], np.int32), np.zeros(0, np.int64), 3)
    assert order.tolist() == [1, 3, 0, 2]
    assert offsets.tolist() == [0, 2, 4, 4]
