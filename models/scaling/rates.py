"""The learning rate of each size: the best of those tried, or carried over from smaller sizes by a power law.

Under maximal update parametrization the best rate of Adam falls with the width (Yang et al. 2022, arXiv
2203.03466); under the usual one both width and depth move it. So the rule is a power law in both, its powers
given or fitted, and never one rate for all.

Few small sizes say little about powers, and an optimum beyond the rates that were tried says less. So a size
whose best rate is the outermost tries further ones; fitted powers are at least -1 and at most 0, since no
theory has the rate grow with the size; and a rate that follows from a fitted power stays within those tried.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy.optimize import lsq_linear

from models.scaling.grid import RateRule, ScaleGrid, Size

Shape = tuple[str, int | None, int | None]
"""Backbone, blocks, width."""

Outcome = Callable[[Size, float], float | None]
"""How good a search run was, higher is better; minus infinity where it failed, None where it is not done."""

_POWERS = (-1.0, 0.0)
"""Of width and depth, where they are fitted: from muP's for the width (and what is safe of depth) to none."""


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
    edges: list[Shape]
    """Shapes whose best rate is the lowest or the highest that they tried: the optimum may lie beyond."""


def resolve(grid: ScaleGrid, outcome: Outcome) -> Resolved:
    """Which runs a grid asks for, as far as is known.

    Args:
        grid: the grid.
        outcome: of its search runs.
    """
    sizes, rule = grid.sizes(), grid.learning_rate
    if rule is None:
        return Resolved([Asked(size, None, searches=False) for size in sizes], [], {}, [], [])
    first = {size.shape: first_size(grid, size) for size in sizes}
    searched = [shape for shape in first if is_searched(grid, rule, shape)]
    searches = {shape: search(rule, partial(outcome, first[shape])) for shape in searched}
    runs = [Asked(first[shape], rate, searches=True) for shape in searched for rate in searches[shape].rates]
    settled = {shape: found for shape, found in searches.items() if found.is_settled}
    rates = {shape: found.best for shape, found in settled.items() if found.best is not None}
    hopeless = [shape for shape, found in settled.items() if found.best is None]
    for backbone in grid.backbones:
        own = [shape for shape in searched if shape[0] == backbone]
        others = [shape for shape in first if shape[0] == backbone and shape not in own]
        if all(shape in settled for shape in own):
            tried = [rate for shape in own for rate in searches[shape].rates]
            known = {
                shape: refined(settled[shape].rates, settled[shape].known) for shape in own if shape in rates
            }
            rates |= carried_over(rule, known, others, tried)
            hopeless += [] if known else others
    final = [Asked(size, rates[size.shape], searches=False) for size in sizes if size.shape in rates]
    done = {(run.size, run.rate) for run in runs}
    runs += [run for run in final if (run.size, run.rate) not in done]
    known_to_be = {*rates, *hopeless}
    tried_out = {first[shape] for shape in searched}  # whatever rate is the best, its run is there
    waiting = [size for size in sizes if size.shape not in known_to_be and size not in tried_out]
    edges = [shape for shape, found in settled.items() if found.is_at_an_end]
    return Resolved(runs, waiting, rates, hopeless, edges)


@dataclass(frozen=True)
class Search:
    """The rates that a shape tries."""

    rates: list[float]
    """Those of the grid in its order, then those beyond them."""
    values: list[float | None]
    """How good each was; minus infinity where it failed, None where it is not done."""

    @property
    def is_settled(self) -> bool:
        """Whether all are done."""
        return None not in self.values

    @property
    def known(self) -> list[float]:
        """How good those were that are done."""
        return [value for value in self.values if value is not None]

    @property
    def best(self) -> float | None:
        """The best rate of a settled search; None: all have failed."""
        return _best(self.rates, self.known)

    @property
    def is_at_an_end(self) -> bool:
        """Whether the best of several is the lowest or the highest."""
        return len(self.rates) > 1 and self.best in (min(self.rates), max(self.rates))


def search(rule: RateRule, outcome: Callable[[float], float | None]) -> Search:
    """The rates that a shape tries: those of the grid, and beyond them while the outermost is the best.

    Args:
        rule: of the grid; a single rate is no search, and not widened.
        outcome: how good a rate was for the shape; see `Outcome`.
    """
    found = Search([*rule.rates], [outcome(rate) for rate in rule.rates])
    for _ in range(rule.widen):
        if not (found.is_settled and found.is_at_an_end):
            break
        rates = sorted(found.rates)
        end, inner = (rates[-1], rates[-2]) if found.best == rates[-1] else (rates[0], rates[1])
        further = float(f"{end * end / inner:.3g}")
        found = Search([*found.rates, further], [*found.values, outcome(further)])
    return found


def first_size(grid: ScaleGrid, size: Size) -> Size:
    """The size of the same shape that rates are tried with: first length and seed, most data."""
    axes = grid.axes(size.backbone)
    length = axes.lengths[0] if axes.lengths else None
    return Size(*size.shape, length, max(axes.data), axes.seeds[0])


def is_searched(grid: ScaleGrid, rule: RateRule, shape: Shape) -> bool:
    """Whether a shape tries all rates itself."""
    if rule.rule == "each":
        return True
    numbers = [{*each} for each in zip(*grid.axes(shape[0]).pairs(), strict=True)]
    few = [
        sorted(each - {None})[:most] for each, most in zip(numbers, (rule.blocks, rule.widths), strict=True)
    ]
    return all(value is None or value in small for value, small in zip(shape[1:], few, strict=True))


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


def carried_over(
    rule: RateRule, known: dict[Shape, float], others: Sequence[Shape], tried: Sequence[float]
) -> dict[Shape, float]:
    """Rates of other shapes: `c * width^a * blocks^b`, to three digits.

    `c`, and the powers that the rule leaves open, are fitted to the known logarithms by least squares, powers
    from -1 to 0; a power that known shapes say nothing of, since all have one width, is 0. Unless both powers
    are given, a rate is at least the lowest and at most the highest that was tried.

    Args:
        rule: the powers.
        known: best rates, of one backbone.
        others: shapes of that backbone.
        tried: rates that its shapes have tried.
    """
    if not known or not others:
        return {}
    sizes = np.array([list(_logs(shape)) for shape in known])
    target = np.log(list(known.values()))
    powers = [rule.depth_power, rule.width_power]
    middle = sizes.mean(0)
    given = np.array([0.0 if power is None else power for power in powers])
    left = target - target.mean() - (sizes - middle) @ given
    open_ = [column for column, power in enumerate(powers) if power is None and np.ptp(sizes[:, column])]
    power = given.copy()
    if open_:
        power[open_] = lsq_linear((sizes - middle)[:, open_], left, _POWERS).x
    found = {
        shape: float(np.exp(target.mean() + (np.array(list(_logs(shape))) - middle) @ power))
        for shape in others
    }
    if None in powers:
        found = {shape: min(max(rate, min(tried)), max(tried)) for shape, rate in found.items()}
    return {shape: float(f"{rate:.3g}") for shape, rate in found.items()}


def _logs(shape: Shape) -> Iterator[float]:
    return (0.0 if value is None else math.log(value) for value in shape[1:])
