"""The packs of sequences: fewest (best fit decreasing), or in input order (next fit)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from behavior.errors import UserError
from behavior.packing.balance import RankedPacks, deal_packs, fill_packs, spread
from behavior.packing.cost import TOKENS, Cost, checked_lengths
from behavior.packing.kernels import best_fit_decreasing
from behavior.packing.lengths import LARGEST, checked
from behavior.packing.packs import Packs, grouped, pieces_of
from behavior.runtime.compiled import compiled

__all__ = [
    "Cost",
    "NextFit",
    "Packs",
    "RankedPacks",
    "deal_packs",
    "fill_packs",
    "pack_in_order",
    "pack_lengths",
    "pack_sequences",
    "spread",
]


def pack_lengths(lengths: Any, budget: float, cost: Cost = TOKENS) -> np.ndarray:
    """Put sequences into the fewest packs, by best fit in decreasing order of length.

    Best fit decreasing needs at most 11/9 of the fewest packs possible and four more (Johnson 1973), in
    practice hardly one more. Equal lengths go in input order, each into the pack with the least free space
    that holds it, among equal ones into the lowest number; packs are numbered as they are opened. So the
    result depends on nothing but the arguments. Time is linear in the number of sequences, and n log n in
    that of different lengths.

    Args:
        lengths: tokens of each sequence; or lists, whose lengths are taken. [sequences] integer; numpy or
            Arrow
        budget: what a pack may cost: a number of tokens, unless there is a `cost`.
        cost: of a sequence. Costs that are not integers are rounded up a little, see `Cost.weights`.

    Returns:
        The number of each sequence's pack, counted from 0. [sequences] int32

    Raises:
        UserError: a sequence is above the budget; a length is negative, null or not an integer; a budget
            is not above 0.
    """
    return best_fit_decreasing(*cost.weights(lengths, budget))


def pack_in_order(lengths: Any, budget: float, cost: Cost = TOKENS) -> np.ndarray:
    """Put sequences into packs in input order: each into the open pack or, where it does not fit, a new one.

    Next fit needs less than twice the fewest packs possible (Johnson 1973). Arguments, result and errors are
    those of `pack_lengths`; pack numbers never fall.
    """
    weights, capacity = cost.weights(lengths, budget)
    return _next_fit(weights, capacity, capacity)[0]


@dataclass
class NextFit:
    """`pack_in_order` for a stream: lengths come batch by batch, and the open pack is carried on.

    However the stream is cut into batches, packs are the same. The state is `pack` and `used`.

    Attributes:
        budget: what a pack may cost.
        cost: of a sequence.
        pack: number of the open pack: no later sequence joins one below.
        used: weight in the open pack (`Cost.weights`).
    """

    budget: float
    cost: Cost = TOKENS
    pack: int = 0
    used: int = 0

    def __post_init__(self) -> None:
        self.cost.longest(self.budget)  # the budget is checked at once

    def add(self, lengths: Any) -> np.ndarray:
        """Pack the next sequences of the stream.

        Args:
            lengths: as in `pack_lengths`.

        Returns:
            The number of each sequence's pack, counted from the start of the stream. [sequences] int64

        Raises:
            UserError: as `pack_lengths` does; the batch is not packed then, and the stream can go on.
        """
        weights, capacity = self.cost.weights(lengths, self.budget)
        packs, opened, free = _next_fit(weights, capacity, capacity - self.used)
        numbers = packs + np.int64(self.pack)
        self.pack, self.used = self.pack + int(opened), capacity - int(free)
        return numbers


def pack_sequences(
    lengths: Any,
    budget: float,
    cost: Cost = TOKENS,
    *,
    in_order: bool = False,
    too_long: Literal["error", "window"] = "error",
) -> Packs:
    """Put sequences into packs, cut where they are longer than a pack if that is wished for.

    Args:
        lengths, budget, cost: as in `pack_lengths`.
        in_order: pack in input order (`pack_in_order`) instead of into the fewest packs (`pack_lengths`).
        too_long: what becomes of a sequence above the budget. `error`: it is one; `window`: it is cut into
            pieces as long as the budget allows. They end with the newest event, so that the oldest piece is
            the short one; every event is in exactly one piece.

    Returns:
        The packs: pieces of each, in input order, and a method that packs Arrow lists.

    Raises:
        UserError: as `pack_lengths` does; not even one event fits into a pack.
    """
    if too_long not in ("error", "window"):
        raise UserError(f"unknown too_long={too_long!r}", fix="use 'error' or 'window'")
    longest = cost.longest(budget)
    if too_long == "window" and longest == 0:
        raise UserError(f"not even one event fits into a pack of {budget:,}", fix="use a larger budget")
    whole = checked(lengths, LARGEST) if too_long == "window" else checked_lengths(lengths, budget, cost)
    sequence, start, stop = pieces_of(whole, longest)
    pack = pack_in_order if in_order else pack_lengths
    numbers = pack(stop - start, budget, cost)
    order, offsets = grouped(numbers, int(numbers.max(initial=-1)) + 1)
    if len(sequence) == len(whole):  # none was cut, and so there is less to put in order
        sequence, start = order, np.zeros(len(order), np.int32)
    else:
        sequence, start = sequence[order], start[order]
    return Packs(sequence, start, stop[order], offsets, budget, cost)


@compiled
def _next_fit(weights: np.ndarray, budget: int, free: int) -> tuple[np.ndarray, int, int]:
    """In input order, with one pack open; numbers count from the pack that is open at first.

    Args:
        weights: [items] int32
        budget: of a pack.
        free: what the open pack has left.

    Returns:
        The pack of each item ([items] int32), the number of the open pack and what it has left.
    """
    packs = np.empty(len(weights), np.int32)
    number = 0
    for item in range(len(weights)):
        if weights[item] > free:
            number += 1
            free = budget
        free -= weights[item]
        packs[item] = number
    return packs, number, free
