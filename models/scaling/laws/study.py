"""All laws of a table of points: each backbone on each data set, judged on points left out; for a report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from behavior.errors import UserError
from models.scaling.laws.budget import PER_TOKEN, Choice, best_shape
from models.scaling.laws.cloud import ExtrapolationError
from models.scaling.laws.fitted import LEVEL, REPLICATES, FittedLaw, fit_law, required
from models.scaling.laws.frontier import Frontier, TrainingCost
from models.scaling.laws.goodness import Compared, Mask, compare, halves, largest
from models.scaling.laws.law import Form
from models.scaling.laws.performance import PerformanceForm
from models.scaling.laws.plain import PlainForm
from models.scaling.laws.points import RUN, Points
from models.scaling.laws.power import PowerForm
from models.scaling.laws.shapes import between, shapes_of

PARAMETERS, TOKENS, FLOPS, LOSS = "parameters_backbone", "tokens", "flops", "loss"
LOSS_LAW = "loss in parameters and tokens"
SHAPE_LAW = "loss in blocks, width and tokens"
_BUDGETS = 5


@dataclass(frozen=True)
class LawStudy:
    """What one backbone's points on one data set say.

    Attributes:
        dataset, backbone: whose points; empty where the table does not tell.
        metric: that the laws of metrics are of.
        points, runs: how many there are.
        laws: that could be fitted, by name.
        compared: in-sample and held-out goodness of the laws of the metric, and of those of the loss.
        frontier: of the loss in parameters and tokens, where there is one.
        choices: the best blocks and width for some budgets, by the law of the loss in blocks, width and
            tokens.
        reasons: why a law could not be fitted, by its name.
    """

    dataset: str
    backbone: str
    metric: str
    points: int
    runs: int
    laws: Mapping[str, FittedLaw]
    compared: tuple[Compared, ...]
    frontier: Frontier | None
    choices: tuple[Choice, ...] = ()
    reasons: Mapping[str, str] = field(default_factory=dict)

    def record(self, level: float = LEVEL) -> dict[str, Any]:
        """As plain values (JSON): laws with intervals, the rows of the comparison, the frontier."""
        return {
            **{name: getattr(self, name) for name in ("dataset", "backbone", "metric", "points", "runs")},
            "level": level,
            "laws": {name: law.record(level) for name, law in self.laws.items()},
            "compared": [row for one in self.compared for row in one.rows()],
            "frontier": None if self.frontier is None else _frontier_record(self.frontier, level),
            "choices": [choice.record() for choice in self.choices],
            "reasons": dict(self.reasons),
        }


def check_replicates(replicates: int) -> None:
    """Refuse a bootstrap that says nothing of a spread.

    Raises:
        UserError: it has less than two replicates.
    """
    if replicates < 2:
        raise UserError(
            f"intervals of laws need two bootstrap replicates or more, not {replicates}",
            where=f"replicates = {replicates}",
            fix="leave it out for 200, or name 2 or more",
        )


def study_laws(points: Points, metric: str = "ndcg@10", *, replicates: int = REPLICATES) -> list[LawStudy]:
    """Fit all laws to the points of each backbone on each data set.

    Laws of the loss take the points of a run up to the final one: later ones are overfitted. Those of the
    metric take the final point of each run. Where the table has `rate_chosen`, runs with other learning rates
    are left out. What cannot be fitted is told by `LawStudy.reasons`, and stops nothing.

    Args:
        points: with `run`, `parameters_backbone`, `tokens`, `flops`, `loss`, `blocks`, `width`, the metric; a
            missing column costs the laws that need it. `dataset`, `backbone`, `final`, `rate_chosen` and
            `unique_events` are used where they are there.
        metric: a column such as `ndcg@10`.
        replicates: of each bootstrap.
    """
    if "rate_chosen" in points.columns:
        points = points.where(points.column("rate_chosen") == 1)
    check_replicates(replicates)
    return [_study(own, dataset, backbone, metric, replicates) for dataset, backbone, own in _groups(points)]


def until_final(points: Points) -> Points:
    """The points of each run up to the one with `final`; all points where none is marked."""
    if "final" not in points.columns:
        return points
    final, step, runs = points.column("final") == 1, points.column(TOKENS), points.runs
    last = np.full(runs.max(initial=-1) + 1, np.inf)
    last[runs[final]] = step[final]
    return points.where(step <= last[runs])


def finals(points: Points) -> Points:
    """The final point of each run; all points where none is marked."""
    if "final" not in points.columns:
        return points
    return points.where(points.column("final") == 1)


def _groups(points: Points) -> Iterator[tuple[str, str, Points]]:
    names = [points.columns.get(name) for name in ("dataset", "backbone")]
    keys = np.array(
        [[str(values[row]) if values is not None else "" for values in names] for row in range(len(points))]
    ).reshape(-1, 2)
    for dataset, backbone in np.unique(keys, axis=0) if len(keys) else []:
        kept = (keys[:, 0] == dataset) & (keys[:, 1] == backbone)
        yield str(dataset), str(backbone), points.where(kept)


def _study(points: Points, dataset: str, backbone: str, metric: str, replicates: int) -> LawStudy:
    laws: dict[str, FittedLaw] = {}
    reasons: dict[str, str] = {}
    compared: list[Compared] = []
    for of, forms in ((LOSS, _loss_forms(points)), (metric, _metric_forms(metric))):
        for name, form in forms.items():
            try:
                chosen = required(until_final(points) if of == LOSS else finals(points), form)
                laws[name] = fit_law(chosen, form, replicates=replicates)
                compared += compare(chosen, {name: form}, _splits(chosen))
            except UserError as error:
                reasons[name] = error.what
    frontier = None
    if LOSS_LAW in laws:
        try:
            chosen = required(until_final(points), PowerForm((PARAMETERS, TOKENS, FLOPS)))
            frontier = Frontier(laws[LOSS_LAW], TrainingCost.of(chosen))
        except UserError as error:
            reasons["frontier"] = error.what
    choices: tuple[Choice, ...] = ()
    if SHAPE_LAW in laws:
        try:
            choices = _choices(laws[SHAPE_LAW], until_final(points))
        except UserError as error:
            reasons["best shapes"] = error.what
    runs = len(np.unique(points.columns[RUN]))
    return LawStudy(
        *(dataset, backbone, metric, len(points), runs),
        *(laws, tuple(compared), frontier, choices, reasons),
    )


def _choices(law: FittedLaw, points: Points) -> tuple[Choice, ...]:
    """The best shapes for budgets within those that were spent, of shapes within those that were trained."""
    candidates = shapes_of(points, *(list(between(points.column(name))) for name in ("blocks", "width")))
    each, tokens = candidates.column(PER_TOKEN), law.cloud.ranges[TOKENS]
    choices = []
    for flops in np.geomspace(each.min() * tokens[0], each.max() * tokens[1], _BUDGETS + 2)[1:-1]:
        with suppress(ExtrapolationError):  # the points may leave a hole there
            choices.append(best_shape(law, candidates, float(flops)))
    return tuple(choices)


def _loss_forms(points: Points) -> dict[str, Form]:
    forms: dict[str, Form] = {
        LOSS_LAW: PowerForm((PARAMETERS, TOKENS), LOSS),
        SHAPE_LAW: PowerForm(("blocks", "width", TOKENS), LOSS, joint=2),
        "loss in compute": PowerForm((FLOPS,), LOSS),
    }
    if "unique_events" in points.columns and len(np.unique(points.column("unique_events"))) > 1:
        # With one data set of one size, epochs and tokens are the same thing.
        forms["loss in parameters and tokens, epochs apart"] = PowerForm(
            (PARAMETERS, TOKENS), LOSS, repeats=True
        )
    return forms


def _metric_forms(metric: str) -> dict[str, Form]:
    return {
        f"{metric} in blocks and width (performance law)": PerformanceForm(metric),
        f"{metric} in compute, saturating": PowerForm((FLOPS,), metric, rising=True),
        f"{metric} in parameters, saturating": PowerForm((PARAMETERS,), metric, rising=True),
        f"{metric} in parameters, plain power law": PlainForm((PARAMETERS,), metric),
    }


def _splits(points: Points) -> dict[str, Mask]:
    splits = {"half of the runs": halves(points)}
    if PARAMETERS in points.columns:
        splits["largest quarter of the sizes"] = largest(points, PARAMETERS)
    return splits


def _frontier_record(frontier: Frontier, level: float) -> dict[str, Any]:
    low, high = frontier.range()
    record: dict[str, Any] = {
        "cost": vars(frontier.cost),
        "exponents": {name: found.record() for name, found in frontier.exponents(level).items()},
        "range": None if np.isnan(low) else [low, high],
        "best": [],
    }
    if not np.isnan(low):
        # The ends may round to just outside of the cloud.
        budgets = np.geomspace(low, high, 7)
        record["best"] = [frontier.best(float(c), level, extrapolate=1.01).record() for c in budgets]
    return record
