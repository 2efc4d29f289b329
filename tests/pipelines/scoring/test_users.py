"""Events of a partition as whole histories, beside a plain loop."""

from __future__ import annotations

import random
from typing import Any

import pyarrow as pa
import pytest

from pipelines.scoring.scorer import REJECTED
from pipelines.scoring.users import windows_of_users


def plainly(rows: list[dict[str, Any]]) -> tuple[list[tuple[str, list[int]]], int]:
    """Users in order of their first rows, with their items; and those who have rejected rows alone."""
    found: dict[Any, tuple[str, list[int]]] = {}
    for row in rows:
        key = row["entity"] if row["entity"] >= 0 else row["user"]
        _, items = found.setdefault(key, (row["user"], []))
        items.append(row["item"])
    whole = [(user, [item for item in items if item != REJECTED]) for user, items in found.values()]
    return [one for one in whole if one[1]], sum(not items for _, items in whole)


@pytest.mark.parametrize("lists", [0.0, 0.5, 1.0])
def test_windows(lists: float) -> None:
    draw = random.Random(f"{lists}")
    for _ in range(30):
        rows = [
            {
                "user": f"u{draw.randrange(12)}",
                "entity": draw.randrange(15) if draw.random() < lists else -1,
                "item": draw.choice((REJECTED, 0, 3, 5, 9)),
            }
            for _ in range(draw.randrange(1, 60))
        ]
        owner: dict[int, str] = {}
        for row in rows:  # a row with lists is of one user
            if row["entity"] >= 0:
                row["user"] = owner.setdefault(row["entity"], row["user"])
        users, most = draw.randrange(1, 6), draw.randrange(1, 12)
        windows, rejected = windows_of_users(pa.Table.from_pylist(rows), users, most)
        found: list[tuple[str, list[int]]] = []
        for window in windows:
            assert window.schema.names == ["number", "user", "item"]
            own: dict[int, tuple[str, list[int]]] = {}
            for row in window.to_pylist():
                own.setdefault(row["number"], (row["user"], []))[1].append(row["item"])
            assert list(own) == list(range(len(own)))
            assert len(own) <= users
            assert len(own) == 1 or window.num_rows <= most
            found += own.values()
        assert (found, rejected) == plainly(rows)
