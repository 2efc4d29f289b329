"""Does effective data explain more than tokens do? Laws of several data sets, beside each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from behavior.errors import UserError
from behavior.quality.result import ENTROPIES, DataQuality
from models.scaling.laws.goodness import Compared, Mask, compare, halves
from models.scaling.laws.law import Form
from models.scaling.laws.performance import PerformanceForm
from models.scaling.laws.points import Points
from models.scaling.laws.power import PowerForm

TOKENS = "tokens"
MEASURES = (TOKENS, *[f"{TOKENS} / {entropy}" for entropy in ENTROPIES])
"""What is tried as D."""


def with_data_quality(points: Points, qualities: Mapping[str, DataQuality]) -> Points:
    """Points with a column for each entropy of their data set, and `tokens / ENTROPY` where it is above 0.

    Args:
        points: with `dataset` and `tokens`.
        qualities: of the data sets, by the names in that column (`behavior.quality.measure_quality`).

    Raises:
        UserError: the quality of a data set is not given.
    """
    names = points.columns.get("dataset", np.full(len(points), ""))
    unknown = sorted({str(name) for name in names} - set(qualities))
    if unknown:
        raise UserError(f"the quality of the data set '{unknown[0]}' is not given")
    tokens = points.column(TOKENS)
    for entropy in ENTROPIES:
        values = np.array([qualities[str(name)].value(entropy) for name in names], np.float64)
        above = np.where(values > 0, values, np.nan)
        points = points.with_column(entropy, values).with_column(f"{TOKENS} / {entropy}", tokens / above)
    return points


def compare_data(
    points: Points,
    metric: str = "ndcg@10",
    measures: Sequence[str] = MEASURES,
    splits: Mapping[str, Mask] | None = None,
) -> list[Compared]:
    """Laws of the metric (the Performance Law) and of the loss with one measure of data or another as D.

    All laws are fitted to the same points: those that are known in every measure that is known at all.

    Args:
        points: of one backbone, on several data sets or fractions (`with_data_quality`).
        metric: that the Performance Law is of.
        measures: columns that are tried as D.
        splits: which points are left out, by name; default: half of the runs.

    Raises:
        UserError: there is no such metric or measure.
    """
    usable = [name for name in measures if np.isfinite(points.column(name)).any()]
    needed = ["parameters_backbone", "blocks", "width", metric, "loss"]
    known = points.known([*usable, *(name for name in needed if name in points.columns)])
    forms: dict[str, Form] = {f"{metric}, no data": PerformanceForm(metric)}
    for name in usable:
        forms[f"{metric}, D = {name}"] = PerformanceForm(metric, data=name)
    for name in usable:
        forms[f"loss, D = {name}"] = PowerForm(("parameters_backbone", name), "loss")
    return compare(known, forms, splits or {"half of the runs": halves(known)})
