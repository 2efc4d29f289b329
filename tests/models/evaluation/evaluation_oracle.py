"""The ranking protocol in plain Python: one user, one target, one candidate at a time."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from tests.models.shards import User, World

FIRST, ITEMS = 2, 6
WORLD = World(num_items=ITEMS, behaviors=("view", "buy"), targets=("buy",))
INSTANTS = {"valid_at": 0, "test_at": 0}  # the tests cut by hand
SPLITS: dict[str, dict[str, Any]] = {
    "first": {"kind": "leave_one_out"},
    "all": {"kind": "temporal", "targets": "all", **INSTANTS},
    "basket": {"kind": "next_basket"},
    "basket, first": {"kind": "next_basket", "targets": "first"},
}
BUYS = (2,)  # ids of the target behaviors


def expected_targets(user: User, split: str, protocol: str, buys: tuple[int, ...]) -> list[tuple[int, int]]:
    """Where the history of each bought item of the split's part ends, and the item's place."""
    cut, end = (user.train_end, user.valid_end) if split == "valid" else (user.valid_end, len(user.item))
    bought = [i for i in range(cut, end) if user.behavior[i] in buys]
    if protocol.startswith("basket"):
        bought = [i for i in bought if user.timestamp[i] == user.timestamp[cut]]
    if protocol in ("first", "basket, first"):
        bought = bought[:1]
    if protocol == "last":
        bought = bought[-1:]
    return [(cut if protocol.startswith("basket") else i, i) for i in bought]


def slow_rank(user: User, stop: int, index: int, score: Callable[[int], float], seen: set[int]) -> float:
    """The rank of one target, its rivals one at a time; infinite for a miss."""
    target = user.item[index]
    if target < FIRST or target in seen:
        return math.inf
    rivals = [item for item in range(FIRST, FIRST + ITEMS) if item not in seen and item != target]
    return 1 + sum(score(item) >= score(target) for item in rivals)


def slow_metrics(
    users: list[User],
    split: str,
    score: Callable[[int, int, int, int], float],
    exclude_seen: bool,
    protocol: str = "first",
    buys: tuple[int, ...] = BUYS,
) -> dict[str, Any]:
    """`score(user number, end of the history, target index, item)`; one target at a time."""
    ranks: list[list[float]] = []  # of each evaluated user
    counts = Counter(oov_targets=0, excluded_targets=0, users_without_history=0, targets_without_history=0)
    for number, user in enumerate(users):
        targets = expected_targets(user, split, protocol, buys)
        ranks.append([])
        for stop, index in targets:
            if stop == 0:
                counts["targets_without_history"] += 1
                continue
            bought = {user.item[i] for i in range(stop) if user.behavior[i] in buys}
            seen = bought if exclude_seen else set()
            ranks[-1].append(slow_rank(user, stop, index, partial(score, number, stop, index), seen))
            counts["oov_targets"] += user.item[index] < FIRST
            counts["excluded_targets"] += FIRST <= user.item[index] in seen
        counts["users_without_history"] += bool(targets) and not ranks[-1]
    evaluated = [own for own in ranks if own]
    gains = {
        "hr@3": lambda rank: 1.0,
        "ndcg@3": lambda rank: 1 / math.log2(1 + rank),
        "mrr@3": lambda rank: 1 / rank,
    }
    means = {
        name: [sum(gain(rank) for rank in own if rank <= 3) / len(own) for own in evaluated]
        for name, gain in gains.items()
    }
    return {
        **{name: sum(values) / len(values) for name, values in means.items() if values},
        "users": len(evaluated),
        "targets": sum(len(own) for own in evaluated),
        **counts,
    }


def history_users() -> list[User]:
    """Histories longer than the model's window, in which early items come back as targets."""
    generator = np.random.default_rng(0)
    users = []
    for _ in range(12):
        length = int(generator.integers(5, 14))
        users.append(
            User(
                item=generator.integers(1, FIRST + ITEMS, length).tolist(),
                train_end=length - 2,
                valid_end=length - 1,
                behavior=[*generator.integers(1, 3, length - 2).tolist(), 2, 2],
                timestamp=np.sort(generator.integers(0, 10**6, length)).tolist(),
            )
        )
    return users


def basket_users() -> list[User]:
    """Histories longer than the model's window, then two baskets of views and of two kinds of buys."""
    generator = np.random.default_rng(1)
    users = []
    for _ in range(10):
        before, *sizes = (int(size) for size in generator.integers([3, 2, 2], [9, 5, 5]))
        times = np.sort(generator.integers(0, 10**6, before)).tolist()
        behaviors = generator.integers(1, 4, before).tolist()
        for size in sizes:
            times += [times[-1] + int(generator.integers(1, 10**5))] * size
            behaviors += [*generator.integers(1, 4, size - 1).tolist(), 2]
        length = before + sum(sizes)
        items = generator.integers(1, FIRST + ITEMS, length).tolist()
        users.append(User(items, before, before + sizes[0], behaviors, times))
    return users
