"""Predictions, their intervals, and where they are refused."""

from __future__ import annotations

import math

import numpy as np
import pytest

from behavior.errors import UserError
from models.scaling.laws import ExtrapolationError, FittedLaw, Points, PowerForm, fit_law, required
from models.scaling.laws.cloud import Cloud
from tests.models.scaling.laws.planted import LOSS, METRIC, loss_points, metric_points


@pytest.fixture(scope="module")
def law() -> FittedLaw:
    return fit_law(loss_points(0.005, seed=4), PowerForm(), replicates=60)


def test_predictions_are_near_and_new_runs_vary_more(law: FittedLaw) -> None:
    table = {"parameters_backbone": np.geomspace(2e4, 2e7, 9), "tokens": 3e7}
    found = law.predict(table)
    exact = LOSS.predict(table)
    np.testing.assert_allclose(found.value, exact, rtol=0.01)
    assert (found.low < found.value).all()
    assert (found.value < found.high).all()
    assert (found.run_low < found.low).all()
    assert (found.run_high > found.high).all()
    wider = law.predict(table, level=0.99)
    assert (wider.run_low <= found.run_low).all()
    new = exact * np.exp(0.005 * np.random.default_rng(0).standard_normal((400, 9)))
    inside = ((found.run_low <= new) & (new <= found.run_high)).mean()
    assert 0.8 < inside < 0.99
    again = law.predict(table)
    np.testing.assert_array_equal(again.run_low, found.run_low)


def test_a_saturating_metric_stays_below_its_ceiling() -> None:
    form = PowerForm(("flops",), "ndcg@10", rising=True)
    found = fit_law(metric_points(0.01, seed=2), form, replicates=40)
    interval = found.parameters()["limit"]
    assert interval.low <= 0.2 <= interval.high
    flops = np.geomspace(1e12, 1e18, 5)
    np.testing.assert_allclose(
        found.predict({"flops": flops}).value, METRIC.predict({"flops": flops}), rtol=0.03
    )
    far = found.predict({"flops": 1e30}, extrapolate=math.inf)
    assert far.value[0] == pytest.approx(interval.value, rel=1e-2)


def test_intervals_hold_where_some_draws_fall_below_zero() -> None:
    form = PowerForm(("flops",), "ndcg@10", rising=True)
    found = fit_law(metric_points(0.05, seed=2), form, replicates=40)
    near_zero = {"flops": [3.5e11]}
    assert min(draw.predict(near_zero)[0] for draw in found.draws) < 0 < METRIC.predict(near_zero)[0]
    said = found.predict(near_zero, extrapolate=math.inf)
    assert 0 < said.low[0] < said.value[0] < said.high[0] <= said.run_high[0] < 0.2
    assert 0 < said.run_low[0] < said.value[0]


def test_what_lies_outside_is_refused_unless_asked_for(law: FittedLaw) -> None:
    inside = {"parameters_backbone": [1e4, 3e7, 1e6], "tokens": [3e8, 1e6, 1e7]}
    assert law.predict(inside).value.shape == (3,)
    outside = {"parameters_backbone": 1.2e8, "tokens": 1e7}
    with pytest.raises(ExtrapolationError) as told:
        law.predict(outside)
    assert "4 times outside" in told.value.what
    assert "parameters_backbone 1.2e+08 (measured: 1e+04 to 3e+07)" in told.value.what
    assert "extrapolate=4.004" in (told.value.fix or "")
    with pytest.raises(ExtrapolationError):
        law.predict(outside, extrapolate=3.9)
    for factor in (4.004, math.inf):
        assert law.predict(outside, extrapolate=factor).value[0] == pytest.approx(
            LOSS.predict(outside)[0], rel=0.02
        )


def test_the_cloud_is_a_hull_and_not_a_box() -> None:
    diagonal = {"a": [1.0, 10.0, 100.0], "b": [1.0, 10.0, 100.0]}
    cloud = Cloud.of(diagonal, ("a", "b"))
    assert cloud.ranges == {"a": pytest.approx((1.0, 100.0)), "b": pytest.approx((1.0, 100.0))}
    # (10, 1) is on no way between the points: halfway to the diagonal both must change by sqrt(10).
    factors = cloud.factors({"a": [10.0, 10.0, 1000.0, 31.6], "b": [10.0, 1.0, 1000.0, 31.6]})
    np.testing.assert_allclose(factors, [1.0, math.sqrt(10), 10.0, 1.0], rtol=1e-3)


def test_intervals_of_anything_that_follows(law: FittedLaw) -> None:
    drawn = [draw.predict({"parameters_backbone": 1e6, "tokens": 1e7})[0] for draw in law.draws]
    value = law.law.predict({"parameters_backbone": 1e6, "tokens": 1e7})[0]
    found = law.interval(value, drawn)
    low, high = np.quantile(drawn, [0.05, 0.95])
    assert found.low == pytest.approx(value + math.sqrt(30 / 25) * (low - value))
    assert found.high == pytest.approx(value + math.sqrt(30 / 25) * (high - value))
    assert math.isnan(law.interval(value, []).low)


def test_tables_of_points() -> None:
    rows = [
        {"run": "a", "final": True, "tokens": 10, "loss": 1.5, "backbone": "hstu", "entropy": 2.0},
        {"run": "a", "tokens": 20, "loss": "", "backbone": "hstu", "entropy": -0.1},
        {"run": 7, "tokens": "30", "loss": "2.5", "backbone": "gpt"},
    ]
    points = Points.from_rows(rows)
    assert points.column("tokens").tolist() == [10, 20, 30]
    assert points.column("final")[0] == 1
    np.testing.assert_array_equal(points.column("loss"), [1.5, np.nan, 2.5])
    assert points.runs.tolist() == [1, 1, 0]  # '7' comes before 'a'
    assert points.columns["backbone"].tolist() == ["hstu", "hstu", "gpt"]
    assert len(points.known(["loss"])) == 2
    assert points.where(points.columns["backbone"] == "gpt").column("loss").tolist() == [2.5]
    effective = points.with_effective_tokens("entropy").column("effective_tokens")
    np.testing.assert_array_equal(effective, [5.0, np.nan, np.nan])
    with pytest.raises(UserError, match="not one of numbers"):
        points.column("backbone")
    with pytest.raises(UserError, match="no point has all of"):
        required(points.with_column("flops", np.nan), PowerForm(("flops",)))
    with pytest.raises(ValueError, match="different lengths"):
        Points.of({"a": [1], "b": [1, 2]})
    assert Points.from_rows([{"a": 1}, {"a": 2}]).runs.tolist() == [0, 1]


def test_points_of_a_csv_file(tmp_path) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "points.csv"
    path.write_text("run,loss,final\na,1.5,True\nb,,False\n")
    points = Points.from_csv(path)
    assert points.columns["run"].tolist() == ["a", "b"]
    assert points.column("final").tolist() == [1, 0]
    path.write_text("run,loss\na,1.5,7\n")
    with pytest.raises(UserError, match="more fields than the header"):
        Points.from_csv(path)
    with pytest.raises(UserError, match="cannot be read"):
        Points.from_csv(tmp_path / "none.csv")
