"""A small log of two domains, which share some items and whose events interleave."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tests.models.shards import User, World, write_shards

ITEMS = 16
CATALOGS = {1: range(2, 12), 2: range(10, 18)}
"""Item ids of the domains; 10 and 11 are of both."""


@dataclass(frozen=True)
class Log:
    """Users, and the domain of each of their events."""

    users: list[User]
    domains: list[list[int]]
    split: dict[str, Any] = field(default_factory=lambda: {"kind": "leave_one_out"})

    def write(self, folder: Path) -> Path:
        flat = [domain for row in self.domains for domain in row]
        world = World(
            num_items=ITEMS,
            behaviors=("view", "buy"),
            targets=("buy",),
            files=2,
            split=self.split,
            domains=("books", "games"),
            event_columns={"domain": pa.array(flat, pa.int8())},
        )
        return write_shards(folder, self.users, world)

    def catalog(self, domain: int) -> set[int]:
        """Item ids that have an event in a domain."""
        rows = zip(self.users, self.domains, strict=True)
        return {item for user, row in rows for item, own in zip(user.item, row, strict=True) if own == domain}


def make_log(split: dict[str, Any] | None = None, users: int = 60, seed: int = 0) -> Log:
    """Sequences of 0 to 11 events; parts may be empty, or without a target. An item id of 1 is unknown."""
    generator = np.random.default_rng(seed)
    found, domains = [], []
    for _ in range(users):
        length = int(generator.integers(12))
        row = generator.integers(1, 3, length).tolist()
        items = [int(generator.choice([*CATALOGS[domain], 1])) for domain in row]
        first, second = sorted(generator.integers(0, length + 1, 2).tolist())
        # Some events share their time.
        times = np.sort(generator.integers(0, 8, length) * 60).tolist()
        found.append(User(items, first, second, generator.integers(1, 3, length).tolist(), times))
        domains.append(row)
    return Log(found, domains, split or {"kind": "leave_one_out"})
