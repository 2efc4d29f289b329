"""Compute-optimal sizes, and the best shape for a budget."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from behavior.errors import UserError
from models.scaling.laws import (
    ExtrapolationError,
    FittedLaw,
    Frontier,
    PerformanceForm,
    Points,
    PowerForm,
    TrainingCost,
    best_shape,
    fit_law,
)
from tests.models.scaling.laws.planted import LOSS, loss_points, performance_points


@pytest.fixture(scope="module")
def law() -> FittedLaw:
    return fit_law(loss_points(0.003, seed=6), PowerForm(), replicates=60)


def test_the_cost_of_training_is_that_of_the_points() -> None:
    points = loss_points()
    cost = TrainingCost.of(points)
    assert (cost.factor, cost.exponent) == pytest.approx((7.0, 0.95))
    assert cost.error < 1e-9
    assert cost.flops(1e6, cost.tokens(1e6, 1e15)) == pytest.approx(1e15)
    one = points.where(points.column("parameters_backbone") == 1e4)
    assert TrainingCost.of(one).exponent == 1.0
    with pytest.raises(UserError, match="must be above 0"):
        TrainingCost.of(points.with_column("flops", 0.0))


def test_the_closed_form_is_the_minimum_along_a_budget() -> None:
    exact = fit_law(loss_points(), PowerForm(), replicates=3)
    frontier = Frontier(exact, TrainingCost.of(loss_points()))
    for flops in (1e13, 1e14):
        best = frontier.best(flops)

        def loss(logarithm: float, flops: float = flops) -> float:
            n = math.exp(logarithm)
            tokens = flops / (7.0 * n**0.95)
            return float(LOSS.predict({"parameters_backbone": n, "tokens": tokens})[0])

        found = minimize_scalar(loss, bracket=(math.log(1e4), math.log(1e7)))
        assert best.parameters.value == pytest.approx(math.exp(found.x), rel=0.01)
        assert best.loss.value == pytest.approx(found.fun, rel=1e-4)
        assert 7.0 * best.parameters.value**0.95 * best.tokens.value == pytest.approx(flops)


def test_exponents_of_the_frontier_are_the_slopes_along_it(law: FittedLaw) -> None:
    frontier = Frontier(law, TrainingCost.of(loss_points()))
    low, high = frontier.range()
    assert 1e10 < low < high < 1e18
    found = frontier.exponents()
    budgets = np.geomspace(low * 1.01, high / 1.01, 2)
    first, last = (frontier.best(float(flops)) for flops in budgets)
    steps = math.log(budgets[1] / budgets[0])
    limit = law.law.parameters()["limit"]
    for name, one, other in (
        ("parameters", first.parameters.value, last.parameters.value),
        ("tokens", first.tokens.value, last.tokens.value),
        ("loss", last.loss.value - limit, first.loss.value - limit),
    ):
        assert found[name].value == pytest.approx(math.log(other / one) / steps, rel=1e-6)
    planted = 0.30 / (0.35 + 0.95 * 0.30)
    assert found["parameters"].low <= planted <= found["parameters"].high
    assert first.parameters.low < first.parameters.value < first.parameters.high
    assert json.loads(json.dumps(first.record()))["flops"] == pytest.approx(budgets[0])
    with pytest.raises(ExtrapolationError):
        frontier.best(high * 100)
    assert frontier.best(high * 100, extrapolate=math.inf).loss.value < last.loss.value


def test_a_frontier_needs_a_law_of_parameters_and_tokens() -> None:
    cost = TrainingCost.of(loss_points())
    with pytest.raises(UserError, match="follows from a law of the loss"):
        Frontier(fit_law(loss_points(), PowerForm(("flops",)), replicates=1), cost)
    joint = PowerForm(("parameters_backbone", "flops", "tokens"), joint=2, starts=1)
    with pytest.raises(UserError, match="follows from a law of the loss"):
        Frontier(fit_law(loss_points(), joint, replicates=0), cost)


def candidates() -> Points:
    blocks, width = (v.ravel().astype(float) for v in np.meshgrid([2, 4, 8, 16], [16, 32, 64, 256, 4096]))
    parameters = 12 * blocks * width**2
    return Points.of(
        {
            "blocks": blocks,
            "width": width,
            "parameters_backbone": parameters,
            "flops_per_token": 7.0 * parameters**0.95,
        }
    )


def test_the_best_shape_is_the_one_of_the_lowest_loss(law: FittedLaw) -> None:
    table = candidates()
    flops = 3e13
    choice = best_shape(law, table, flops)
    n = table.column("parameters_backbone")
    tokens = flops / table.column("flops_per_token")
    inside = (n >= 1e4) & (n <= 3e7) & (tokens >= 1e6) & (tokens <= 3e8)
    np.testing.assert_array_equal(choice.judged, inside)
    loss = np.where(inside, LOSS.predict({"parameters_backbone": n, "tokens": tokens}), np.inf)
    # The fitted law may prefer a neighbor that is as good to a thousandth.
    assert loss[choice.best] < loss.min() * 1.001
    assert choice.shape["tokens"] == pytest.approx(tokens[choice.best])
    assert choice.prediction.run_low[0] < loss[choice.best] < choice.prediction.run_high[0]
    assert choice.chance.sum() == pytest.approx(1)
    assert choice.best in choice.near
    assert np.isnan(choice.value[~inside]).all()
    record = json.loads(json.dumps(choice.record()))
    assert record["shape"]["blocks"] == table.column("blocks")[choice.best]
    assert record["not_judged"] == (~inside).sum()


def test_tokens_may_be_fewer_than_the_budget_pays_for(law: FittedLaw) -> None:
    free, bound = (best_shape(law, candidates(), 1e14, most_tokens=most) for most in (np.inf, 3e6))
    assert bound.shape["tokens"] == 3e6
    assert bound.shape["parameters_backbone"] > free.shape["parameters_backbone"]
    assert bound.prediction.value[0] > free.prediction.value[0]


def test_a_metric_is_maximized_by_blocks_and_width() -> None:
    points = performance_points(0.0003, seed=3)
    law = fit_law(points, PerformanceForm(), replicates=30)
    choice = best_shape(law, candidates(), 1e15)
    assert (choice.shape["blocks"], choice.shape["width"]) == (8.0, 32.0)


def test_candidates_that_cannot_be_judged_are_told(law: FittedLaw) -> None:
    huge = candidates().where(candidates().column("width") == 4096)
    with pytest.raises(ExtrapolationError, match="no candidate can be judged at 1e\\+13 FLOPs"):
        best_shape(law, huge, 1e13)
    assert best_shape(law, huge, 1e13, extrapolate=math.inf).judged.all()
    with pytest.raises(UserError, match="no candidates"):
        best_shape(law, huge.where(np.zeros(4, bool)), 1e13)
    with pytest.raises(UserError, match="no column 'flops_per_token'"):
        best_shape(law, Points.of({"blocks": [1.0]}), 1e13)
