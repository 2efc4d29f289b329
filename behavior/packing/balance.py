"""Work divided evenly: items over parts, a pool of sequences over packs, packs over ranks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from behavior.errors import UserError
from behavior.packing.cost import Cost
from behavior.packing.kernels import falling_order, fill, fill_empty, least_loaded
from behavior.packing.lengths import checked, whole_number
from behavior.packing.packs import Packs

NEARLY_EVEN = 1.01
"""Largest cost over the mean, with which `deal_packs` contents itself where it makes packs anew."""


def spread(costs: Any, parts: int) -> np.ndarray:
    """Divide items into parts of nearly equal total cost: the heaviest first, each to the least loaded part.

    The largest total is at most 4/3 - 1/(3 parts) times the best possible (longest processing time first;
    Graham 1969). Equal costs go in input order, equal loads to the lowest number; with at least as many items
    as parts none is empty. The result depends on nothing but the arguments.

    Args:
        costs: of each item, 0 or more, finite. [items] integer or float; numpy or Arrow
        parts: number of parts, 1 or more.

    Returns:
        The number of each item's part, from 0. [items] int32

    Raises:
        UserError: a cost is negative, infinite, null or not a number; fewer than one part.
    """
    parts = whole_number(parts, "parts")
    weights = _costs(costs)
    chosen = np.empty(len(weights), np.int32)
    if weights.dtype == np.int32:
        order = falling_order(weights)
        least_loaded(order, weights, np.iinfo(np.int64).max, np.zeros(parts, np.int64), chosen)
    else:
        order = np.argsort(-weights, kind="stable").astype(np.int32)
        least_loaded(order, weights, np.inf, np.zeros(parts), chosen)
    return chosen


def _costs(costs: Any) -> np.ndarray:
    """int32 where they fit, or else float64, whose sums are as exact as the machine's."""
    if isinstance(costs, pa.Array | pa.ChunkedArray):
        costs = costs.to_numpy(zero_copy_only=False) if isinstance(costs, pa.Array) else costs.to_numpy()
    weights = np.asarray(costs)
    if weights.ndim != 1 or weights.dtype.kind not in "iuf":
        raise UserError(f"costs are one number an item, not {weights.ndim} x {weights.dtype}")
    if len(weights):
        lowest, highest = weights.min(), weights.max()
        if not (lowest >= 0 and np.isfinite(highest)):  # also false for NaN
            worst = int(np.argmax(~((weights >= 0) & np.isfinite(weights))))
            raise UserError(f"item {worst} costs {weights[worst]}", fix="costs are finite, 0 or more")
        if weights.dtype.kind in "iu" and highest < 2**31:
            return np.ascontiguousarray(weights, np.int32)
    return np.ascontiguousarray(weights, np.float64)


def fill_packs(weights: Any, budget: int, packs: int) -> np.ndarray:
    """Choose what to put into the next packs from a pool of sequences, the oldest first.

    A loader calls this at every step with all it holds. Sequences that wait keep their place in the pool and
    so become the oldest: none waits for ever, and choices look at weights alone.

    1. The oldest sequence is placed, so that every step makes progress.
    2. The longest run of oldest sequences whose total fits into all packs together is placed by best fit in
       order of decreasing weight (`pack_lengths`); the few that fit no pack wait.
    3. What is left open takes those of the whole pool that fit best, the heaviest first.

    Where all of the pool fits with room to spare, as at the end of an epoch, it is spread evenly instead
    (`spread`). With at least as many sequences as packs no pack is empty.

    Args:
        weights: tokens, or integer costs (`Cost.weights`), of each sequence in order of arrival, 0 to budget.
            [pool] integer; numpy or Arrow
        budget: of a pack, in the same unit.
        packs: number of packs, 1 or more.

    Returns:
        The number of each sequence's pack, from 0, or -1 for those that wait. [pool] int32

    Raises:
        UserError: a weight is negative or above the budget; bad numbers.
    """
    budget, packs = whole_number(budget, "budget"), whole_number(packs, "packs")
    return fill(checked(weights, budget, "units of weight"), budget, packs)


@dataclass(frozen=True, eq=False)
class RankedPacks:
    """Packs dealt to ranks: each rank has one in every step.

    Pack p belongs to step `p // ranks`.
    """

    packs: Packs
    rank: np.ndarray  # [packs] int32
    step: np.ndarray  # [packs] int32

    def of_rank(self, rank: int) -> Packs:
        """What a rank gets, step by step."""
        return self.packs.take(np.flatnonzero(self.rank == rank))


def deal_packs(packs: Packs, ranks: int, cost: Cost | None = None) -> RankedPacks:
    """Deal packs to ranks so that each gets as many, and those of one step cost nearly the same.

    Packs are dealt by decreasing cost; in every step the rank with the least so far gets the heaviest.
    Where their number is no multiple of `ranks`, some of the lightest are taken apart and spread evenly
    (`spread`) over as many packs as are missing more. Steps grow lighter: shuffle them for training.

    Args:
        packs: from `pack_sequences`.
        ranks: number of ranks, 1 or more.
        cost: to balance, if not the one that packs were made by.

    Raises:
        UserError: there are fewer pieces than packs to be made.
    """
    ranks = whole_number(ranks, "ranks")
    cost = cost or packs.cost
    packs = _whole_steps(packs, ranks, cost)
    costs = packs.costs_by(cost)
    steps = np.argsort(-costs, kind="stable").reshape(-1, ranks)
    total = np.zeros(ranks)
    for now in steps:  # heaviest first
        by_load = np.argsort(total, kind="stable")
        total[by_load] += costs[now]
        now[by_load] = now.copy()
    step, rank = np.divmod(np.arange(len(packs), dtype=np.int32), np.int32(ranks))
    return RankedPacks(packs.take(steps.ravel()), rank, step)


def _whole_steps(packs: Packs, ranks: int, cost: Cost) -> Packs:
    """As many packs as ranks, or a multiple: the lightest are spread over more where need be."""
    few, more = len(packs) % ranks, ranks
    if few == 0:
        return packs
    want = len(packs) - few + ranks
    pieces = len(packs.sequence)
    if pieces < want:
        raise UserError(
            f"{pieces:,} sequences cannot make {want // ranks:,} packs for each of {ranks:,} ranks",
            fix="use fewer ranks, or a smaller budget with too_long='window'",
        )
    place = np.empty(len(packs), np.int32)
    place[np.argsort(-packs.costs_by(cost), kind="stable")] = np.arange(len(packs))
    numbers, chosen = place[packs.numbers], None
    weights, capacity = packs.cost.weights(packs.lengths, packs.budget)
    least = np.inf
    while True:
        # The more packs are spread, the more evenly; the fewer, the more stay full, which make whole steps.
        kept = len(packs) - few
        apart = np.flatnonzero(numbers >= kept)
        parts, imbalance = _even_parts(weights[apart], want - kept, capacity)
        if imbalance < least:
            least, chosen = imbalance, numbers.copy()
            chosen[apart] = kept + parts
        if least <= NEARLY_EVEN or few == len(packs):
            break
        few, more = min(few + more, len(packs)), 2 * more
    if chosen is None:
        chosen = numbers
        fill_empty(falling_order(weights), chosen, len(packs), want)
    return packs.regrouped(chosen, want)


def _even_parts(weights: np.ndarray, parts: int, most: int) -> tuple[np.ndarray, float]:
    """As `spread`, and the largest total over the mean: infinite where one is above `most`, or empty."""
    chosen, loads = np.zeros(len(weights), np.int32), np.zeros(parts, np.int64)
    fits = len(weights) >= parts and least_loaded(falling_order(weights), weights, most, loads, chosen)
    return chosen, loads.max() / max(1, loads.mean()) if fits else np.inf
