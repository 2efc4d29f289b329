"""The laws in a report: what was fitted, how far it is from what was measured, and what follows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from models.scaling.laws.points import Points
from models.scaling.laws.study import LOSS, LawStudy, finals, study_laws, until_final
from models.scaling.points import Point
from models.scaling.report.page import Page, Table
from models.scaling.report.svg import colors_of, figure_of

_FEWEST = 4
"""Runs of a backbone below which nothing is fitted."""

Fits = dict[str, dict[str, tuple[np.ndarray, np.ndarray]]]
"""By law and backbone: what was measured, and what the law says."""
Colors = Mapping[str, str]
"""Of backbones, the same in every figure of the page."""


def add_laws(page: Page, points: Sequence[Point], metric: str, replicates: int) -> None:
    """Fit laws to the points, where there are enough, and draw them.

    Args:
        page: the report.
        points: all of them.
        metric: that laws of quality are of.
        replicates: of the bootstrap.
    """
    page.section("Laws")
    enough = _with_enough_runs([point for point in points if point["rate_chosen"]])
    if not enough:
        page.note(f"Laws need {_FEWEST} runs of a backbone with different sizes or amounts of data.")
        return
    table = Points.from_rows(enough)
    studies = study_laws(table, metric, replicates=replicates)
    page.say(
        "Laws are fitted to each backbone on each data set. R2 in-sample is of the points that a law was "
        "fitted to, held out of points that were left out: every other run, or the largest sizes. What a law "
        "says of sizes far beyond what was measured is refused."
    )
    fits = _fits(table, studies)
    colors = colors_of([point["backbone"] for point in points])
    page.plot(_draw_fits(fits, colors), "Predicted against measured", "no law could be fitted")
    page.plot(
        _draw_residuals(fits, colors),
        "Residuals: measured over predicted, less one",
        "no law could be fitted",
    )
    _goodness(page, studies)
    _parameters(page, studies)
    _frontiers(page, studies, colors)
    reasons = [list(reason) for reason in dict.fromkeys(_reasons(studies))]
    if reasons:
        page.say("Not fitted:")
        page.table(Table("laws-not-fitted", ["data", "backbone", "law", "why"], reasons))


def _with_enough_runs(points: Sequence[Point]) -> list[Point]:
    sizes: dict[tuple[Any, str], set[tuple[Any, ...]]] = {}
    for point in points:
        size = tuple(point[name] for name in ("blocks", "width", "length", "data_fraction"))
        sizes.setdefault((point["dataset"], point["backbone"]), set()).add(size)
    return [p for p in points if len(sizes[p["dataset"], p["backbone"]]) >= _FEWEST]


def _fits(table: Points, studies: Sequence[LawStudy]) -> Fits:
    found: Fits = {}
    for study in studies:
        own = np.array([str(name) == study.backbone for name in table.columns["backbone"]])
        own &= np.array([str(name) == study.dataset for name in table.columns["dataset"]])
        for name, fitted in study.laws.items():
            of_loss = fitted.form.of == LOSS
            chosen = until_final(table.where(own)) if of_loss else finals(table.where(own))
            chosen = chosen.known([*fitted.form.needs, fitted.form.of])
            said = fitted.law.predict({column: chosen.column(column) for column in fitted.form.needs})
            measured = chosen.column(fitted.form.of)
            found.setdefault(name, {})[study.backbone] = (measured, np.asarray(said))
    return found


def _draw_fits(fits: Fits, colors: Colors) -> Figure | None:
    if not fits:
        return None
    figure, axes = _against_predicted(fits, colors, lambda measured, said: measured, height=3.4)
    for axis, own in zip(axes, fits.values(), strict=True):
        values = np.concatenate([np.concatenate(pair) for pair in own.values()])
        low, high = float(np.nanmin(values)), float(np.nanmax(values))
        axis.plot([low, high], [low, high], color="#999999", lw=1)
    axes[0].set_ylabel("measured")
    axes[0].legend(fontsize=8)
    return figure


def _draw_residuals(fits: Fits, colors: Colors) -> Figure | None:
    if not fits:
        return None
    figure, axes = _against_predicted(fits, colors, lambda measured, said: measured / said - 1.0, height=2.8)
    for axis in axes:
        axis.axhline(0.0, color="#999999", lw=1)
    return figure


def _against_predicted(
    fits: Fits, colors: Colors, shown: Callable[[np.ndarray, np.ndarray], np.ndarray], *, height: float
) -> tuple[Figure, list[Any]]:
    """A figure, and its axes, one a law: what is shown of measured and predicted values by the latter."""
    columns = min(3, len(fits))
    figure, axes = figure_of(columns, -(-len(fits) // columns), height=height, width=4.2)
    for axis, (name, own) in zip(axes, fits.items(), strict=False):
        for backbone, (measured, said) in own.items():
            points = shown(measured, said)
            axis.scatter(said, points, s=10, color=colors[backbone], alpha=0.7, label=backbone)
        axis.set_title(name, fontsize=9)
        axis.set_xlabel("predicted")
    for axis in axes[len(fits) :]:
        axis.set_visible(False)
    return figure, axes[: len(fits)]


def _reasons(studies: Sequence[LawStudy]) -> Iterator[tuple[str, str, str, str]]:
    """Why a law was not fitted, or not judged on points left out."""
    for study in studies:
        for name, why in study.reasons.items():
            yield study.dataset, study.backbone, name, why
        for one in study.compared:
            for why in one.notes:
                yield study.dataset, study.backbone, one.name, why


def _goodness(page: Page, studies: Sequence[LawStudy]) -> None:
    rows = [
        {"data": study.dataset, "backbone": study.backbone, **row}
        for study in studies
        for one in study.compared
        for row in one.rows()
        if row["in-sample R2"] is not None or row["held-out relative error"] is not None
    ]
    if rows:
        names = list(rows[0])
        page.table(Table("laws-goodness", names, [[row.get(name) for name in names] for row in rows]))


def _parameters(page: Page, studies: Sequence[LawStudy]) -> None:
    rows = [
        [study.dataset, study.backbone, law, name, found.value, _known(found.low), _known(found.high)]
        for study in studies
        for law, fitted in study.laws.items()
        for name, found in fitted.parameters().items()
    ]
    if rows:
        page.say("Parameters of the laws, with intervals of 90 % from a bootstrap over runs:")
        page.table(
            Table("laws", ["data", "backbone", "law", "parameter", "value", "low", "high"], rows), most=60
        )


def _frontiers(page: Page, studies: Sequence[LawStudy], colors: Colors) -> None:
    rows = []
    for study in studies:
        best = (study.record()["frontier"] or {}).get("best", [])
        rows += [{"data": study.dataset, "backbone": study.backbone, **_flat(one)} for one in best]
    figure = _draw_frontier(rows, colors)
    page.plot(figure, "The frontier by the law of the loss", "no law of the loss could be fitted")
    if rows:
        names = list(dict.fromkeys(name for row in rows for name in row))
        page.say("The best size for a budget of training compute, within what was measured:")
        page.table(Table("frontier", names, [[row.get(name) for name in names] for row in rows]))


def _draw_frontier(rows: Sequence[dict[str, Any]], colors: Colors) -> Figure | None:
    """The loss at the best size for each budget, and that size, with their intervals."""
    if not rows:
        return None
    figure, axes = figure_of(2, width=4.6)
    for backbone in dict.fromkeys(row["backbone"] for row in rows):
        own, color = [row for row in rows if row["backbone"] == backbone], colors[backbone]
        budgets = [row["flops"] for row in own]
        for axis, name in zip(axes, ("loss", "parameters"), strict=True):
            axis.plot(budgets, [row[name] for row in own], color=color, label=backbone)
            low, high = ([row[f"{name} {end}"] for row in own] for end in ("low", "high"))
            axis.fill_between(budgets, low, high, color=color, alpha=0.15, lw=0)
    for axis, label in zip(
        axes, ("validation loss, nats a target", "best parameters of the backbone"), strict=True
    ):
        axis.set_xscale("log")
        axis.set_xlabel("training FLOPs")
        axis.set_ylabel(label)
    axes[1].set_yscale("log")
    axes[0].legend(fontsize=8)
    return figure


def _flat(record: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in record.items():
        if isinstance(value, dict):
            found |= {f"{name} {part}".removesuffix(" value"): inner for part, inner in value.items()}
        else:
            found[name] = value
    return found


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value
