"""Packing in plain Python, as slow and as plain as it is defined: the oracle of the tests."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any


def place_by_hand(
    order: Iterable[int], weights: Sequence[int], budget: int, most: int, free: list[int], chosen: list[int]
) -> None:
    """Each into the fullest pack that holds it, ties to the lowest number; up to `most` packs are opened."""
    for item in order:
        fitting = [pack for pack in range(len(free)) if free[pack] >= weights[item]]
        if fitting:
            pack = min(fitting, key=lambda pack: free[pack])
        elif len(free) < most:
            pack = len(free)
            free.append(budget)
        else:
            continue
        free[pack] -= weights[item]
        chosen[item] = pack


def best_fit_by_hand(weights: Sequence[int], budget: int) -> list[int]:
    """Best fit decreasing, equal weights in input order."""
    chosen = [-1] * len(weights)
    falling = sorted(range(len(weights)), key=lambda item: -weights[item])
    place_by_hand(falling, weights, budget, len(weights), [], chosen)
    return chosen


def next_fit_by_hand(weights: Sequence[int], budget: int) -> list[int]:
    """In input order, with one pack open."""
    chosen, pack, free = [], 0, budget
    for weight in weights:
        if weight > free:
            pack, free = pack + 1, budget
        free -= weight
        chosen.append(pack)
    return chosen


def spread_by_hand(costs: Sequence[Any], parts: int) -> list[int]:
    """Heaviest first to the least loaded part; the first `parts` items get a part each."""
    chosen, loads = [-1] * len(costs), [0] * parts
    falling = sorted(range(len(costs)), key=lambda item: -costs[item])
    for place, item in enumerate(falling):
        part = place if place < parts else min(range(parts), key=lambda part: loads[part])
        loads[part] += costs[item]
        chosen[item] = part
    return chosen
