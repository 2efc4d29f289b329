"""The panels of a data set's picture."""

from __future__ import annotations

import textwrap
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, date2num
from matplotlib.ticker import (
    EngFormatter,
    LogLocator,
    MaxNLocator,
    NullFormatter,
    PercentFormatter,
    StrMethodFormatter,
)

from behavior.printable import printable
from behavior.spec.dataset_spec import TICKS_PER_SECOND
from behavior.summary.event_sample import EventSample

_DATES_END = 60_000_000_000
"""Seconds to the year 3871: Matplotlib's dates end not long after; later times are drawn as numbers."""
_SHOWN = 8
"""Behaviors and domains with a bar of their own."""
_POINTS = 1_000
"""Points of a curve: more are not seen."""
_NAME, _LINE = 20, 40
"""Characters of a behavior's or domain's name, and of a line in the panel of facts."""
_COLORS = ("#3b6ea5", "#e08214", "#4d9221", "#b2456e", "#7b5ea7", "#8c6d46", "#2a9d8f", "#c9a227", "#999999")


def draw_lengths(axes: Axes, lengths: dict[str, Any]) -> None:
    """Bars over the bins of stats.json: each twice as wide as the one before, and so alike on a log axis."""
    bins = lengths["histogram"]
    left = [entry["from"] for entry in bins]
    users = [entry["number"] for entry in bins]
    axes.bar(left, users, width=left, align="edge", color=_COLORS[0], ec="white")
    axes.set_xscale("log", base=2)
    axes.axvline(lengths["mean"], color=_COLORS[1], ls="--", label=f"mean {lengths['mean']:,.1f}")
    axes.xaxis.set_major_locator(LogLocator(base=2, numticks=8))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    _count_axis(axes.yaxis)
    axes.set_ylim(0, max(users, default=1) * 1.2)  # room for the legend
    axes.legend(frameon=False, loc="upper right")
    _label(axes, "sequence lengths", "events of a user (log scale)", "users")


def draw_popularity(axes: Axes, counts: np.ndarray) -> None:
    """Events of each item by rank: a straight line is a power law."""
    ranks = _spread(len(counts))
    axes.loglog(ranks + 1, counts[ranks], color=_COLORS[0], lw=2)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(EngFormatter(sep=""))
        axis.set_minor_formatter(NullFormatter())
    axes.grid(alpha=0.3)
    _label(axes, "item popularity", "rank of the item (log scale)", "events (log scale)")


def draw_concentration(axes: Axes, counts: np.ndarray) -> None:
    """Share of events by share of items, most frequent first; on the diagonal all items are alike."""
    shares = np.concatenate(([0.0], np.cumsum(counts) / max(counts.sum(), 1)))
    places = np.unique(np.linspace(0, len(counts), min(_POINTS, len(counts) + 1)).astype(int))
    axes.plot(places / max(len(counts), 1), shares[places], color=_COLORS[0], lw=2)
    axes.plot([0, 1], [0, 1], color="#bbbbbb", ls=":")
    if len(counts):
        top = max(1, round(len(counts) / 10))
        label = f"top {top:,} of {len(counts):,}: {shares[top]:.0%} of the events"
        axes.plot([top / len(counts)], [shares[top]], "o", color=_COLORS[1], label=label)
        axes.legend(frameon=False, loc="lower right")
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.set(xlim=(0, 1), ylim=(0, 1.02))
    axes.grid(alpha=0.3)
    _label(axes, "how events are spread", "share of items, most frequent first", "share of events")


def draw_time(axes: Axes, sample: EventSample, behaviors: dict[str, int], unit: str) -> None:
    """Events of each behavior over time, one upon the other, in the colors of the bars of behaviors."""
    times = sample.edges.astype(float)
    if abs(sample.edges).max() < _DATES_END * TICKS_PER_SECOND[unit]:
        times = date2num(sample.edges.astype(f"datetime64[{unit}]"))
        locator = AutoDateLocator(minticks=3, maxticks=7)
        axes.xaxis.set_major_locator(locator)
        axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    names, heights = _largest(behaviors, sample.over_time)
    colors = [_COLORS[place] for place in range(len(names))]
    below = np.zeros(sample.over_time.shape[1], np.int64)
    for name, height, color in zip(names, heights, colors, strict=True):
        axes.stairs(below + height, times, baseline=below, fill=True, color=color, label=_short(name))
        below = below + height
    axes.set_xlim(times[0], times[-1])
    _count_axis(axes.yaxis)
    axes.set_ylim(0, max(below.max(), 1) * (1.05 if len(names) == 1 else 1.3))  # room for the legend
    if len(names) > 1:
        axes.legend(frameon=False, fontsize=8, loc="upper left", ncols=3)
    _label(axes, f"events over time{sample.note}", "time (UTC)", f"events in each {sample.width}")


def draw_shares(axes: Axes, title: str, counts: dict[str, int], *, colored: bool = False) -> None:
    """A bar for each name, with number and share; where colored, as in the panel of time."""
    names, numbers = _largest(counts, np.array(list(counts.values()), np.int64))
    places = np.arange(len(names))
    colors = [_COLORS[place if colored else 0] for place in range(len(names))]
    axes.barh(places, numbers, color=colors)
    axes.set_yticks(places, [_short(name) for name in names])
    most, total = max(int(numbers.max(initial=0)), 1), max(int(numbers.sum()), 1)
    for place, number in enumerate(numbers.tolist()):
        axes.text(number + most * 0.02, place, f"{number:,} ({number / total:.1%})", va="center", fontsize=9)
    axes.set_xlim(0, most * 1.5)  # room for the numbers beside the bars
    axes.set_ylim(max(len(names), 3) - 0.5, -0.5)  # downwards; and two bars are not to fill the panel
    _count_axis(axes.xaxis)
    _label(axes, title, "events", "")


def _largest(totals: dict[str, int], counts: np.ndarray) -> tuple[list[str], np.ndarray]:
    """The names with most events, in their own order, and the rest as one.

    Args:
        totals: name -> events, by which the largest are chosen.
        counts: what is drawn of each name. [names, ...] int64

    Returns:
        Names, and what is drawn of them.
    """
    names = list(totals)
    if len(names) <= _SHOWN:
        return names, counts
    largest = sorted(names, key=lambda name: -totals[name])[:_SHOWN]
    kept = np.array([name in largest for name in names])
    rest = counts[~kept].sum(axis=0, keepdims=True)
    shown = [name for name in names if name in largest]
    return [*shown, f"{len(names) - _SHOWN} others"], np.concatenate((counts[kept], rest))


def draw_facts(axes: Axes, facts: list[tuple[str, str]]) -> None:
    """Names and values as text, in two columns."""
    axes.set_axis_off()
    width = max((len(name) for name, _ in facts), default=0)
    lines: list[str] = []
    for name, value in facts:
        first, *more = textwrap.wrap(value, _LINE) or [""]
        lines += [f"{name:<{width}}  {first}", *(" " * (width + 2) + line for line in more)]
    axes.text(
        0.02,
        0.98,
        _plain("\n".join(lines)),
        transform=axes.transAxes,
        va="top",
        family="monospace",
        fontsize=8.5,
        linespacing=1.5,
        bbox={"boxstyle": "round,pad=0.8", "facecolor": "#f4f4f4", "edgecolor": "#cccccc"},
    )


def _count_axis(axis: Axis) -> None:
    """Whole numbers, in thousands (k) and millions (M) where they are large."""
    axis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    axis.set_major_formatter(EngFormatter(sep=""))


def _spread(size: int) -> np.ndarray:
    """Places from 0 to size - 1 that lie evenly on a log axis. int64"""
    if size <= _POINTS:
        return np.arange(size)
    return np.unique(np.geomspace(1, size, _POINTS).round().astype(np.int64)) - 1


def _label(axes: Axes, title: str, x: str, y: str) -> None:
    axes.set_title(title, fontweight="bold")
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.spines[["top", "right"]].set_visible(False)


def _short(name: str) -> str:
    """A name that leaves room for the bars."""
    return _plain(name if len(name) <= _NAME else f"{name[: _NAME - 3]}...")


def _plain(text: str) -> str:
    """Text that Matplotlib does not take for mathematics, without control characters."""
    return printable(text).replace("$", r"\$")
