"""Packing: sequences a second and fill, and what it saves on real lengths; three tables.

    LRM_DATA=... python benchmarks/packing.py            all tables
    python benchmarks/packing.py --only speed            no data needed
    python benchmarks/packing.py --quick                 a look: 20,000 sequences, three runs

One thread on one core; a time is the median of --runs calls after one that compiles. The C++ peer is measured
where it is installed: pip install lightbinpack.

Costs are those of an HSTU layer of width d = 256: the products with matrices take 5 d^2 multiplications a
token, causal attention takes n^2 d for n tokens. In units of d that is `Cost(1280, 1)`.
"""

from __future__ import annotations

import argparse
import heapq
import os
import time
from bisect import bisect_left, insort
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from rich.console import Console
from rich.table import Table

from behavior import prepare_tables
from behavior.packing.pack import (
    Cost,
    NextFit,
    deal_packs,
    fill_packs,
    pack_in_order,
    pack_lengths,
    pack_sequences,
    spread,
)
from behavior.packing.packs import pieces_of

BUDGET = 2048
COST = Cost(1280, 1)
RANKS = 8
SETS = (("ml-1m", 200, 4096), ("completejourney", 2048, 8192), ("taobao", 200, 4096))
"""Ready specs, whose names are those of the folders under $LRM_DATA; max_length; tokens of a pack."""
SECTIONS = ("speed", "loader", "real")


def log_normal_lengths(sequences: int) -> np.ndarray:
    """Like the lengths of a log: median 90, mean 147, from 1 to 2,048. [sequences] int64"""
    lengths = np.random.default_rng(0).lognormal(4.5, 1.0, sequences)
    return np.clip(lengths, 1, BUDGET).astype(np.int64)


def seconds(call: Callable[[], Any], runs: int) -> float:
    """Median time of a call."""
    call()
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return median(times)


def best_fit_in_python(lengths: list[int], budget: int) -> list[int]:
    """The algorithm of `pack_lengths` as one would write it in plain Python: sort, bisect, heaps of packs."""
    packs, opened = [0] * len(lengths), 0
    spaces: list[int] = []  # free space that some pack has, rising
    numbers: list[list[int]] = [[] for _ in range(budget + 1)]  # heaps of packs by free space
    for item in sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True):
        length = lengths[item]
        place = bisect_left(spaces, length)
        if place < len(spaces):
            free = spaces[place]
            pack = heapq.heappop(numbers[free])
            if not numbers[free]:
                del spaces[place]
        else:
            free, pack, opened = budget, opened, opened + 1
        if not numbers[free - length]:
            insort(spaces, free - length)
        heapq.heappush(numbers[free - length], pack)
        packs[item] = pack
    return packs


def streamed(lengths: np.ndarray, size: int) -> np.ndarray:
    """`pack_in_order`, batch by batch."""
    stream = NextFit(BUDGET)
    return np.concatenate([stream.add(lengths[at : at + size]) for at in range(0, len(lengths), size)])


class Speed(NamedTuple):
    """One way to pack, and how many packs it makes."""

    name: str
    call: Callable[[], Any]
    packs: Callable[[Any], int]
    budget: float = BUDGET
    cost: Cost = Cost()


def ways(lengths: np.ndarray) -> Iterator[Speed]:
    """What the table of speed compares."""
    arrow, listed = pa.array(lengths, pa.int32()), lengths.tolist()
    heavy = float(COST.of([BUDGET])[0])
    rough = Cost(COST.linear / 10, COST.quadratic / 10)  # tenths are no fractions of a power of two

    def last(numbers: Any) -> int:
        return int(np.max(numbers)) + 1

    yield Speed("pack_lengths, int64", lambda: pack_lengths(lengths, BUDGET), last)
    yield Speed("pack_lengths, Arrow int32", lambda: pack_lengths(arrow, BUDGET), last)
    yield Speed("pack_sequences: grouped by pack", lambda: pack_sequences(lengths, BUDGET), len)
    yield Speed("pack_lengths, whole costs", lambda: pack_lengths(lengths, heavy, COST), last, heavy, COST)
    yield Speed(
        "pack_lengths, other costs", lambda: pack_lengths(lengths, heavy / 10, rough), last, heavy / 10, rough
    )
    yield Speed("pack_in_order", lambda: pack_in_order(lengths, BUDGET), last)
    yield Speed("NextFit, batches of 1,000", lambda: streamed(lengths, 1000), last)
    yield Speed("best fit, plain Python", lambda: best_fit_in_python(listed, BUDGET), last)
    try:
        import lightbinpack
    except ImportError:
        return
    yield Speed("best fit, lightbinpack obfd (C++)", lambda: lightbinpack.obfd(listed, BUDGET), len)


def speed(console: Console, sequences: int, runs: int) -> None:
    lengths = log_normal_lengths(sequences)
    assert best_fit_in_python(lengths.tolist(), BUDGET) == pack_lengths(lengths, BUDGET).tolist()
    table = Table(title=f"{sequences:,} log-normal lengths, mean {lengths.mean():.0f}, budget {BUDGET:,}")
    for column in ("", "ms", "million sequences/s", "time ratio", "packs", "fill"):
        table.add_column(column, justify="left" if not column else "right")
    first = None
    for way in ways(lengths):
        slow = "Python" in way.name or "C++" in way.name
        took = seconds(way.call, min(runs, 3) if slow else runs)
        first = first or took
        packs = way.packs(way.call())
        fill = way.cost.of(lengths).sum() / (packs * way.budget)
        table.add_row(
            way.name,
            f"{1000 * took:,.1f}",
            f"{sequences / took / 1e6:,.2f}",
            f"{took / first:,.1f}",
            f"{packs:,}",
            f"{fill:.3%}",
        )
    # Every weight another one: nothing is placed together, and the time is n log n.
    heavy = np.random.default_rng(0).permutation(sequences).astype(np.int32) * (2**30 // sequences)
    took = seconds(lambda: pack_lengths(heavy, 2**30), runs)
    table.add_row(
        "pack_lengths, no two alike", f"{1000 * took:,.1f}", f"{sequences / took / 1e6:,.2f}", "", "", ""
    )
    console.print(table)


def loader(console: Console, runs: int) -> None:
    """The calls of a loader's step: a pool over the next packs, a batch over ranks."""
    table = Table(title="one step of a loader, log-normal lengths")
    for column in ("pool", "packs", "budget", "fill_packs", "fill", "max/mean", "spread over packs"):
        table.add_column(column, justify="right")
    for pool, packs, budget in ((300, 8, 4096), (1000, 8, 8192), (1000, 64, 2048), (10_000, 256, 4096)):
        lengths = log_normal_lengths(pool)
        chosen = fill_packs(lengths, budget, packs)
        loads = np.bincount(chosen[chosen >= 0], weights=lengths[chosen >= 0], minlength=packs)
        table.add_row(
            f"{pool:,}",
            f"{packs}",
            f"{budget:,}",
            f"{1e6 * seconds(lambda: fill_packs(lengths, budget, packs), 20 * runs):,.0f} us",  # noqa: B023
            f"{loads.mean() / budget:.2%}",
            f"{loads.max() / loads.mean():.4f}",
            f"{1e6 * seconds(lambda: spread(lengths, packs), 20 * runs):,.0f} us",  # noqa: B023
        )
    console.print(table)


class Batches(NamedTuple):
    """What a way to batch makes of a data set, in the order of training."""

    name: str
    fill: float
    """Real tokens of all that are computed."""
    costs: np.ndarray
    """[batches] of what is computed, padding too."""
    ranked: bool = False
    """Whether eight in a row are a step that was balanced."""


def padded(name: str, lengths: np.ndarray, sizes: np.ndarray) -> Batches:
    """Batches of so many sequences each, in order, padded to the longest of each."""
    starts = np.concatenate((np.zeros(1, np.int64), np.cumsum(sizes)[:-1]))
    longest = np.maximum.reduceat(lengths, starts)
    return Batches(name, lengths.sum() / (longest * sizes).sum(), COST.of(longest) * sizes)


def compare(lengths: np.ndarray, max_length: int, budget: int) -> Iterator[Batches]:
    """Ways to batch sequences of up to max_length tokens, about `budget` of them in a batch."""
    order = np.random.default_rng(0).permutation(len(lengths))
    count = budget // max_length
    sizes = np.full(-(-len(lengths) // count), count)
    sizes[-1] = len(lengths) - sizes[:-1].sum()
    yield padded("padded, random batches", lengths[order], sizes)
    rising = np.sort(lengths)
    sizes, start = [], 0
    while start < len(rising):
        # As many as fit when all are as long as the last.
        widths = rising[start : start + budget] * np.arange(1, len(rising[start : start + budget]) + 1)
        sizes.append(int(np.searchsorted(widths, budget, side="right")))
        start += sizes[-1]
    yield padded("padded, sorted by length", rising, np.array(sizes))
    in_order = pack_sequences(lengths[order], budget, in_order=True)
    yield Batches("next fit", in_order.tokens.mean() / budget, in_order.costs_by(COST))
    by_tokens = pack_sequences(lengths[order], budget)
    yield Batches("best fit, tokens", by_tokens.fill, by_tokens.costs_by(COST))
    # As much work in a pack as before, so that there are as many of them.
    heavy = max(by_tokens.costs_by(COST).mean(), COST.of([max_length])[0])
    by_cost = pack_sequences(lengths[order], heavy, COST)
    yield Batches("best fit, cost", by_cost.fill, by_cost.costs)
    for name, packs in (("best fit, tokens; dealt", by_tokens), ("best fit, cost; dealt", by_cost)):
        dealt = deal_packs(packs, RANKS, COST).packs
        yield Batches(name, dealt.fill, dealt.costs_by(COST), ranked=True)


def step_costs(batches: Batches) -> np.ndarray:
    """[steps, ranks]; what is not dealt comes in random order, and what makes no whole step is left out."""
    costs = batches.costs
    if not batches.ranked:
        costs = np.random.default_rng(0).permutation(costs)
    return costs[: len(costs) // RANKS * RANKS].reshape(-1, RANKS)


def real(console: Console, data: Path) -> None:
    for name, max_length, budget in SETS:
        sequences = prepare_tables(name, data / name).sequences
        whole = np.diff(sequences.column("item").combine_chunks().offsets.to_numpy()).astype(np.int32)
        _, start, stop = pieces_of(whole, max_length)
        lengths = stop - start
        table = Table(
            title=f"{name}: {lengths.sum():,} events, {len(whole):,} sequences (mean {whole.mean():.0f}, "
            f"longest {whole.max():,}) in {len(lengths):,} windows of up to {max_length:,}, budget {budget:,}"
        )
        for column in ("", "batches", "fill", "cost max/mean", "step mean", "step worst", "work"):
            table.add_column(column, justify="left" if not column else "right")
        useful = COST.of(lengths).sum()
        for batches in compare(lengths, max_length, budget):
            steps = step_costs(batches)
            uneven = steps.max(axis=1) / steps.mean(axis=1)
            # All that is computed, and the waiting for the heaviest of each step, over what is of use.
            wait = steps.max(axis=1).sum() * RANKS / steps.sum()
            table.add_row(
                batches.name,
                f"{len(batches.costs):,}",
                f"{batches.fill:.2%}",
                f"{batches.costs.max() / batches.costs.mean():.3f}",
                f"{uneven.mean():.4f}",
                f"{uneven.max():.4f}",
                f"{batches.costs.sum() / useful * wait:.3f}",
            )
        console.print(table)
    console.print(
        "fill: real tokens of those computed, or of the budgets; "
        f"step: max/mean of the costs of {RANKS} ranks; work: cost of all steps, each\n"
        f"as long as its heaviest rank, over that of the real tokens evenly shared. Cost: {COST}."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--sequences", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--only", choices=SECTIONS, help="one of the tables")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    if options.quick:
        options.sequences, options.runs = 20_000, 3
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    console = Console(width=130)
    wanted = [options.only] if options.only else SECTIONS
    if "speed" in wanted:
        speed(console, options.sequences, options.runs)
    if "loader" in wanted:
        loader(console, options.runs)
    if "real" in wanted:
        if "LRM_DATA" in os.environ:
            real(console, Path(os.environ["LRM_DATA"]))
        else:
            console.print("real lengths: LRM_DATA is not set; it names the folder of the public data sets")


if __name__ == "__main__":
    main()
