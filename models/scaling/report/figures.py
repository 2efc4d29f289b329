"""The plots of points: quality against depth, loss against compute, learning rates, speed."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from models.scaling.points import Point
from models.scaling.report.svg import colors_of, figure_of

_MOST_COLUMNS = 3
_MOST_TICKS = 8


def draw_blocks(points: Sequence[Point], metric: str) -> Figure | None:
    """The metric at the chosen checkpoint against the number of blocks: for each backbone a line a width."""
    final = [point for point in points if point["final"] and point["rate_chosen"] and metric in point]
    backbones = list(dict.fromkeys(point["backbone"] for point in final))
    if len({point["blocks"] for point in final}) < 2:
        return None
    columns = min(_MOST_COLUMNS, len(backbones))
    figure, axes = figure_of(columns, -(-len(backbones) // columns))
    widths = sorted({point["width"] for point in final})
    shades = matplotlib.colormaps["viridis"](np.linspace(0.0, 0.9, len(widths)))
    for axis, backbone in zip(axes, backbones, strict=False):
        for width, shade in zip(widths, shades, strict=True):
            means = _means(
                [p for p in final if (p["backbone"], p["width"]) == (backbone, width)], "blocks", metric
            )
            if means:
                axis.plot([*means], [*means.values()], marker="o", ms=4, color=shade, label=f"width {width}")
        axis.set_xscale("log", base=2)
        ticks = sorted({point["blocks"] for point in final})
        axis.set_xticks(ticks, [str(tick) for tick in ticks])
        axis.set_title(backbone)
        axis.set_xlabel("blocks")
    axes[0].set_ylabel(f"{metric.upper()}, validation")
    axes[0].legend(fontsize=8)
    _share_y(axes[: len(backbones)])
    for axis in axes[len(backbones) :]:
        axis.set_visible(False)
    return figure


def draw_compute(points: Sequence[Point], name: str, label: str, *, lower: bool) -> Figure | None:
    """A value against training FLOPs at every validation, and the best that was reached for so much.

    Args:
        points: all of them.
        name: of the value.
        label: of the axis.
        lower: whether lower is better.
    """
    known = [p for p in points if p["rate_chosen"] and _number(p.get(name)) and _number(p.get("flops"))]
    if len(known) < 2:
        return None
    figure, (axis,) = figure_of(1, height=4.4, width=7.5)
    for backbone, color in colors_of([point["backbone"] for point in points]).items():
        own = [point for point in known if point["backbone"] == backbone]
        if not own:
            continue
        for run in dict.fromkeys(point["run"] for point in own):
            course = sorted((p["flops"], p[name]) for p in own if p["run"] == run)
            axis.plot(*zip(*course, strict=True), color=color, lw=0.5, alpha=0.35)
        ends = [point for point in own if point["final"]]
        axis.scatter([p["flops"] for p in ends], [p[name] for p in ends], s=14, color=color, zorder=3)
        reached = frontier_of([(p["flops"], p[name]) for p in own], lower=lower)
        axis.step(*zip(*reached, strict=True), where="post", color=color, lw=2, label=backbone)
    axis.set_xscale("log")
    axis.set_xlabel("training FLOPs")
    axis.set_ylabel(label)
    axis.legend(fontsize=8)
    return figure


def frontier_of(pairs: Sequence[tuple[float, float]], *, lower: bool) -> list[tuple[float, float]]:
    """Of costs and values those that are better than everything cheaper, in order.

    >>> frontier_of([(1.0, 5.0), (2.0, 6.0), (3.0, 4.0)], lower=True)
    [(1.0, 5.0), (3.0, 4.0)]
    """
    found: list[tuple[float, float]] = []
    for cost, value in sorted(pairs, key=lambda pair: (pair[0], pair[1] if lower else -pair[1])):
        if not found or (value < found[-1][1] if lower else value > found[-1][1]):
            found.append((cost, value))
    return found


def draw_rates(points: Sequence[Point], metric: str) -> Figure | None:
    """The metric against the learning rate, of every size that tried several."""
    tried = _tried(points, metric)
    if not tried:
        return None
    backbones = list(dict.fromkeys(size[0] for size in tried))
    columns = min(_MOST_COLUMNS, len(backbones))
    figure, axes = figure_of(columns, -(-len(backbones) // columns))
    for axis, backbone in zip(axes, backbones, strict=False):
        for size, course in sorted((s, o) for s, o in tried.items() if s[0] == backbone):
            axis.plot(*zip(*course, strict=True), marker="o", ms=4, label=f"{size[1]} x {size[2]}")
        axis.set_xscale("log")
        rates = sorted({rate for course in tried.values() for rate, _ in course})
        if len(rates) <= _MOST_TICKS:
            axis.set_xticks(rates, [f"{rate:g}" for rate in rates], rotation=45, fontsize=8)
            axis.minorticks_off()
        axis.set_title(backbone)
        axis.set_xlabel("learning rate")
        axis.legend(fontsize=7, title="blocks x width", title_fontsize=7)
    axes[0].set_ylabel(f"{metric.upper()}, validation")
    for axis in axes[len(backbones) :]:
        axis.set_visible(False)
    return figure


def at_an_end(points: Sequence[Point], metric: str) -> str:
    """Sizes that tried several learning rates and were best with the lowest or the highest, in words."""
    found = []
    for (backbone, blocks, width, *_), course in sorted(_tried(points, metric).items()):
        best, _ = max(course, key=lambda pair: pair[1])
        if best in (course[0][0], course[-1][0]):
            found.append(f"{backbone} {blocks} x {width} ({best:g})")
    return ", ".join(found)


def late_starts(points: Sequence[Point]) -> str:
    """Sizes whose loss at the first validation was above that of the smallest model, in words.

    They had hardly begun to learn then, whatever they reached: the learning rate may be too high. Laws of
    size do not describe them.
    """
    chosen = [point for point in points if point["rate_chosen"] and _number(point.get("loss"))]
    first: dict[str, Point] = {}
    for point in sorted(chosen, key=lambda point: point["step"]):
        first.setdefault(point["run"], point)
    found = []
    for data in dict.fromkeys(point["dataset"] for point in first.values()):
        own = [point for point in first.values() if point["dataset"] == data]
        smallest = min(own, key=lambda point: (point["parameters_backbone"], point["loss"]))
        late = [point for point in own if point["loss"] > smallest["loss"]]
        found += [f"{p['backbone']} {p['blocks']} x {p['width']} ({p['learning_rate']:g})" for p in late]
    return ", ".join(sorted(found))


def _tried(points: Sequence[Point], metric: str) -> dict[tuple[Any, ...], list[tuple[float, float]]]:
    """Rates and what came of them, in order, of every size that tried several."""
    sizes: dict[tuple[Any, ...], list[tuple[float, float]]] = defaultdict(list)
    for point in points:
        if point["final"] and metric in point:
            sizes[_size(point)].append((point["learning_rate"], point[metric]))
    return {size: sorted(own) for size, own in sizes.items() if len({rate for rate, _ in own}) > 1}


def draw_speed(points: Sequence[Point]) -> Figure | None:
    """Tokens a second against parameters of the backbone."""
    final = [p for p in points if p["final"] and _number(p.get("tokens")) and _number(p.get("seconds"))]
    final = [point for point in final if point["seconds"] > 0]
    if not final:
        return None
    figure, (axis,) = figure_of(1, height=3.8, width=7.5)
    for backbone, color in colors_of([point["backbone"] for point in points]).items():
        own = [point for point in final if point["backbone"] == backbone]
        axis.scatter(
            [p["parameters_backbone"] for p in own],
            [p["tokens"] / p["seconds"] for p in own],
            s=[8 + 1.5 * p["blocks"] for p in own],
            color=color,
            alpha=0.7,
            label=backbone,
        )
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_xlabel("parameters of the backbone (larger marks: more blocks)")
    axis.set_ylabel("tokens a second, validations included")
    axis.legend(fontsize=8)
    return figure


def draw_bars(title: str, lines: Sequence[Mapping[str, Any]], metric: str) -> Figure:
    """An ablation: the mean of each line, its deviation over seeds and its seeds."""
    figure, (axis,) = figure_of(1, height=0.8 + 0.32 * len(lines), width=7.5)
    places = range(len(lines))
    axis.barh(
        places,
        [line[metric] for line in lines],
        xerr=[line.get(f"{metric} sd") or 0.0 for line in lines],
        color="#0072b2",
        alpha=0.75,
    )
    axis.set_yticks(places, [str(line["line"]) for line in lines], fontsize=8)
    axis.invert_yaxis()
    low = min(line[metric] for line in lines)
    axis.set_xlim(left=max(0.0, 0.8 * low))
    axis.set_xlabel(f"{metric.upper()}, test")
    axis.set_title(title, fontsize=10)
    return figure


def _means(points: Sequence[Point], by: str, metric: str) -> dict[Any, float]:
    groups: dict[Any, list[float]] = defaultdict(list)
    most = max((point["data_fraction"] for point in points), default=1.0)
    for point in points:
        if point["data_fraction"] == most:
            groups[point[by]].append(point[metric])
    return {key: statistics.fmean(values) for key, values in sorted(groups.items())}


def _size(point: Point) -> tuple[Any, ...]:
    names = ("backbone", "blocks", "width", "length", "data_fraction", "seed")
    return tuple(point[name] for name in names)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not math.isnan(value)


def _share_y(axes: Sequence[Any]) -> None:
    ends = [axis.get_ylim() for axis in axes]
    for axis in axes:
        axis.set_ylim(min(low for low, _ in ends), max(high for _, high in ends))
