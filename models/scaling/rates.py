"""The learning rate of each size: the best of those tried, or carried over from smaller sizes by a power law.

Under maximal update parametrization the best rate of Adam falls with the width (Yang et al. 2022, arXiv
2203.03466); under the usual one both width and depth move it. So the rule is a power law in both, its powers
given or fitted, and never one rate for all.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from models.scaling.grid import RateRule, ScaleGrid, Size

Shape = tuple[str, int | None, int | None]
"""Backbone, blocks, width."""

Outcome = Callable[[Size, float], float | None]
"""How good a search run was, higher is better; minus infinity where it failed, None where it is not done."""


@dataclass(frozen=True)
class Asked:
    """A run that a grid asks for."""

    size: Size
    rate: float | None
    """None: that of the recipe."""
    searches: bool
    """Whether it is one of those that find a rate out."""


@dataclass(frozen=True)
class Resolved:
    """What is known of a grid's runs so far."""

    runs: list[Asked]
    """Those whose rate is known, searches first, in the order they are to be run in."""
    waiting: list[Size]
    """Sizes whose rate follows from runs that are not done."""
    rates: dict[Shape, float]
    """The rate of each shape, where it is known."""
    hopeless: list[Shape]
    """Shapes for which no rate can be found: every run that would tell has failed."""


def resolve(grid: ScaleGrid, outcome: Outcome) -> Resolved:
    """Which runs a grid asks for, as far as is known.

    Args:
        grid: the grid.
        outcome: of its search runs.
    """
    sizes, rule = grid.sizes(), grid.learning_rate
    if rule is None:
        return Resolved([Asked(size, None, searches=False) for size in sizes], [], {}, [])
    first = {size.shape: first_size(grid, size) for size in sizes}
    searched = [shape for shape in first if is_searched(grid, rule, shape)]
    runs = [Asked(first[shape], rate, searches=True) for shape in searched for rate in rule.rates]
    rates: dict[Shape, float] = {}
    hopeless: list[Shape] = []
    for backbone in grid.backbones:
        own = [shape for shape in searched if shape[0] == backbone]
        found = {shape: [outcome(first[shape], rate) for rate in rule.rates] for shape in own}
        settled = {
            s: [v for v in values if v is not None] for s, values in found.items() if None not in values
        }
        best = {shape: _best(rule.rates, values) for shape, values in settled.items()}
        rates |= {shape: value for shape, value in best.items() if value is not None}
        hopeless += [shape for shape, value in best.items() if value is None]
        others = [shape for shape in first if shape[0] == backbone and shape not in own]
        if len(settled) == len(own):
            known = {shape: refined(rule.rates, settled[shape]) for shape in own if best[shape] is not None}
            rates |= carried_over(rule, known, others)
            hopeless += [] if known else others
    final = [Asked(size, rates[size.shape], searches=False) for size in sizes if size.shape in rates]
    done = {(run.size, run.rate) for run in runs}
    runs += [run for run in final if (run.size, run.rate) not in done]
    known_to_be = {*rates, *hopeless}
    tried = {first[shape] for shape in searched}  # whatever rate is the best, its run is there
    waiting = [size for size in sizes if size.shape not in known_to_be and size not in tried]
    return Resolved(runs, waiting, rates, hopeless)


def first_size(grid: ScaleGrid, size: Size) -> Size:
    """The size of the same shape that rates are tried with: first length and seed, most data."""
    axes = grid.axes(size.backbone)
    length = axes.lengths[0] if axes.lengths else None
    return Size(*size.shape, length, max(axes.data), axes.seeds[0])


def is_searched(grid: ScaleGrid, rule: RateRule, shape: Shape) -> bool:
    """Whether a shape tries all rates itself."""
    if rule.rule == "each":
        return True
    axes = grid.axes(shape[0])
    small = (sorted(set(axes.blocks))[: rule.blocks], sorted(set(axes.widths))[: rule.widths])
    return all(value is None or value in few for value, few in zip(shape[1:], small, strict=True))


def _best(rates: Sequence[float], values: Sequence[float]) -> float | None:
    value, rate = max(zip(values, rates, strict=True), key=lambda pair: pair[0])
    return None if value == -math.inf else rate


def refined(rates: Sequence[float], values: Sequence[float]) -> float:
    """The best rate between those tried: where the parabola through the best one and its neighbors, over the
    logarithm of the rate, is highest. At an end of the rates, the end.

    Args:
        rates: in any order.
        values: how good each was; minus infinity where it failed.
    """
    pairs = sorted(zip(rates, values, strict=True))
    place = max(range(len(pairs)), key=lambda index: pairs[index][1])
    around = pairs[place - 1 : place + 2] if place else []
    if len(around) < 3 or any(value == -math.inf for _, value in around):
        return pairs[place][0]
    logs = np.log([rate for rate, _ in around])
    curve, slope, _ = np.polyfit(logs, [value for _, value in around], 2)
    if curve >= 0.0:
        return pairs[place][0]
    return float(np.exp(np.clip(-slope / (2.0 * curve), logs[0], logs[-1])))


def carried_over(rule: RateRule, known: dict[Shape, float], others: Sequence[Shape]) -> dict[Shape, float]:
    """Rates of other shapes: `c * width^a * blocks^b`, to three digits.

    `c`, and the powers that the rule leaves open, are fitted to the known logarithms by least squares; a
    power that known shapes say nothing of, since all have one width, is 0.

    Args:
        rule: the powers.
        known: best rates, of one backbone.
        others: shapes of that backbone.
    """
    if not known or not others:
        return {}
    sizes = np.array([list(_logs(shape)) for shape in known])
    target = np.log(list(known.values()))
    powers = [rule.depth_power, rule.width_power]
    given = np.array([0.0 if power is None else power for power in powers])
    open_ = np.array([power is None for power in powers])
    middle = sizes.mean(0)
    left = target - target.mean() - (sizes - middle) @ given
    fitted, *_ = np.linalg.lstsq((sizes - middle) * open_, left, rcond=None)
    power = given + fitted * open_
    return {
        shape: float(f"{np.exp(target.mean() + (np.array(list(_logs(shape))) - middle) @ power):.3g}")
        for shape in others
    }


def _logs(shape: Shape) -> Iterator[float]:
    return (0.0 if value is None else math.log(value) for value in shape[1:])
