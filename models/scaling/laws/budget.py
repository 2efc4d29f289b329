"""The best shape of a model for a budget: which of some candidates, and what it will reach."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from behavior.errors import UserError
from models.scaling.laws.cloud import ExtrapolationError, in_cloud
from models.scaling.laws.fitted import LEVEL, FittedLaw, Prediction
from models.scaling.laws.law import Array
from models.scaling.laws.points import Points

PER_TOKEN = "flops_per_token"


@dataclass(frozen=True)
class Choice:
    """The best of some shapes for a budget.

    Attributes:
        flops: the budget.
        best: the number of the best candidate, by the table that was given.
        shape: its columns, `tokens` that the budget pays for among them.
        prediction: of the best shape, with the intervals of the law and of one new run. [1]
        value: predicted for every candidate; NaN for those that cannot be judged. [candidates]
        chance: how often each candidate is the best, of the bootstrap's draws. [candidates]
        judged: which candidates lie where points were measured. [candidates] bool
        level: of the intervals.
    """

    flops: float
    best: int
    shape: dict[str, float]
    prediction: Prediction
    value: Array
    chance: Array
    judged: np.ndarray
    level: float

    @property
    def near(self) -> Array:
        """Candidates that are the best in a draw in twenty or more, the likeliest first."""
        order = np.argsort(-self.chance, kind="stable")
        return np.asarray([number for number in order if self.chance[number] >= 0.05])

    def record(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "flops": self.flops,
            "best": self.best,
            "shape": self.shape,
            "level": self.level,
            "prediction": {name: values[0] for name, values in self.prediction.record().items()},
            "chance": self.chance.tolist(),
            "value": [None if np.isnan(value) else float(value) for value in self.value],
            "not_judged": int((~self.judged).sum()),
        }


def best_shape(
    fitted: FittedLaw,
    candidates: Points,
    flops: float,
    *,
    most_tokens: float = np.inf,
    entropy: float | None = None,
    level: float = LEVEL,
    extrapolate: float = 1.0,
) -> Choice:
    """Choose blocks and width for a budget.

    Each candidate gets as many tokens as the budget pays for, and the law says what it reaches. Candidates
    that lie outside of what was measured are not judged.

    Args:
        fitted: a law of columns that candidates have, and of `tokens`, `flops` or `effective_tokens`.
        candidates: with `flops_per_token` (training, forward and backward) and the columns of the law, such
            as `blocks`, `width` and `parameters_backbone`.
        flops: the budget.
        most_tokens: that there are; a smaller budget is spent on a candidate that would need more.
        entropy: of the data, for a law of `effective_tokens`.
        level: of the intervals.
        extrapolate: see `FittedLaw.predict`.

    Raises:
        UserError: a column is missing, or there is no candidate.
        ExtrapolationError: all of them lie outside of what was measured.
    """
    if not len(candidates):
        raise UserError("there are no candidates to choose from")
    each = candidates.column(PER_TOKEN)
    tokens = np.minimum(flops / each, most_tokens)
    table: dict[str, Any] = {**candidates.columns, "tokens": tokens, "flops": tokens * each}
    if entropy is not None:
        table["effective_tokens"] = tokens / entropy
    judged = in_cloud(fitted.cloud, table, extrapolate)
    if not judged.any():
        nearest = int(np.argmin(fitted.cloud.factors(table)))
        try:
            fitted.cloud.check({name: values[[nearest]] for name, values in table.items()}, extrapolate)
        except ExtrapolationError as error:
            raise ExtrapolationError(
                f"no candidate can be judged at {flops:.3g} FLOPs; of the nearest: {error.what}",
                fix=error.fix,
            ) from None
    kept = np.flatnonzero(judged)
    shown = {name: values[kept] for name, values in table.items()}
    sign = 1.0 if fitted.form.lower_is_better else -1.0
    value = np.full(len(each), np.nan)
    value[kept] = fitted.law.predict(shown)
    best = int(kept[np.argmin(sign * value[kept])])
    wins = np.zeros(len(each))
    for draw in fitted.draws:
        wins[kept[np.argmin(sign * draw.predict(shown))]] += 1
    shape = {name: float(values[best]) for name, values in table.items() if values.dtype.kind == "f"}
    row = {name: values[[best]] for name, values in table.items() if values.dtype.kind == "f"}
    return Choice(
        flops=flops,
        best=best,
        shape=shape,
        prediction=fitted.predict(row, level, extrapolate=extrapolate),
        value=value,
        chance=wins / max(len(fitted.draws), 1),
        judged=judged,
        level=level,
    )
