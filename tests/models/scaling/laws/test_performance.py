"""The Performance Law, and laws compared."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from scipy.optimize import curve_fit

from behavior.errors import UserError
from models.scaling.laws import (
    PerformanceForm,
    PerformanceLaw,
    PlainForm,
    PowerForm,
    compare,
    fit_law,
    halves,
    held_out,
    largest,
    leave_sizes_out,
)
from models.scaling.laws.goodness import goodness
from tests.models.scaling.laws.planted import PERFORMANCE, loss_points, performance_points

FORM = PerformanceForm()


def by_formula(law: PerformanceLaw, n: float, d: float, data: float | None = None) -> float:
    """Equation by equation in plain Python."""
    depth = law.w1 * (math.log(n**law.w3) + law.p1 / n**law.w3)
    width = law.w2 * (math.log(d**law.w4) + law.p1 / d**law.w4)
    of_data = 0.0 if data is None or law.w5 is None else math.log(data**law.w5) + law.p2 / data**law.w5
    return depth + width - of_data + law.b


def test_predictions_are_those_of_the_formula() -> None:
    law = PerformanceLaw(0.1, -0.2, 0.3, -0.4, 0.5, w5=0.02)
    table = {"blocks": [2.0, 8.0], "width": [16.0, 64.0], "effective_tokens": [1e5, 1e7]}
    rows = zip(*table.values(), strict=True)
    np.testing.assert_allclose(law.predict(table), [by_formula(law, *row) for row in rows])
    alone = PERFORMANCE.predict({"blocks": 4.0, "width": 32.0})
    assert alone[0] == pytest.approx(by_formula(PERFORMANCE, 4.0, 32.0))
    with pytest.raises(UserError, match="the law needs 'effective_tokens'"):
        law.predict({"blocks": 2, "width": 16})


def test_the_best_size_is_where_the_formula_is_highest() -> None:
    blocks = np.geomspace(1, 100, 20_001)
    found = blocks[np.argmax(PERFORMANCE.predict({"blocks": blocks, "width": 32.0}))]
    assert PERFORMANCE.best_blocks == pytest.approx(found, rel=1e-3)
    assert PERFORMANCE.best_width == pytest.approx(0.5 ** (1 / -0.2))
    # With a weight above 0 the same number is the worst.
    assert PerformanceLaw(0.02, -0.03, -0.3, -0.2, 0.3).best_blocks is None


def test_exponents_that_overflow_are_no_error() -> None:
    """A bootstrap replicate of measured sizes that sends the search beyond 32^200."""
    blocks = [2, 2, 4, 4, 4, 8, 8, 8, 8, 16, 16, 24, 32, 32]
    width = [32, 48, 32, 48, 96, 48, 64, 96, 128, 32, 96, 48, 64, 96]
    ndcg = [1326, 1577, 1357, 1543, 1761, 1531, 1607, 1734, 1949, 1285, 1716, 1478, 1414, 1370]
    table = {"blocks": np.array(blocks, np.float64), "width": np.array(width, np.float64)}
    y = np.array(ndcg) / 1e4
    begin = PerformanceLaw(w1=-0.00503, w2=0.0988, w3=-0.816, w4=0.378, b=0.000257)
    found = FORM.fit(table, y, np.ones(14), begin)
    assert goodness(found.predict(table), y, np.arange(14)).r2 > 0.6


def test_a_planted_law_is_found() -> None:
    exact = fit_law(performance_points(), FORM, replicates=1)
    assert exact.in_sample.r2 == pytest.approx(1)
    assert exact.law.parameters() == pytest.approx(PERFORMANCE.parameters(), rel=1e-3)
    noisy = fit_law(performance_points(0.0005, seed=1), FORM, replicates=40)
    for name, value in PERFORMANCE.parameters().items():
        interval = noisy.parameters(0.98)[name]
        assert interval.low <= value <= interval.high, name
    record = json.loads(json.dumps(noisy.record()))
    assert record["law"]["best_blocks"] == pytest.approx(PERFORMANCE.best_blocks, rel=0.2)


def test_leverage_is_how_far_a_point_draws_the_law() -> None:
    points = performance_points(0.0003, seed=6)
    table = {name: points.column(name) for name in FORM.columns}
    y = points.column("ndcg@10")
    law = FORM.fit(table, y, np.ones(36))
    leverage = FORM.leverage(law, table)
    assert leverage.sum() == pytest.approx(5)  # one for each parameter
    for point in (0, 14, 35):
        nudged = y.copy()
        nudged[point] += 1e-5
        moved = FORM.fit(table, nudged, np.ones(36), law).predict(table)[point] - law.predict(table)[point]
        assert moved / 1e-5 == pytest.approx(leverage[point], rel=0.1)


def test_no_search_over_all_parameters_together_fits_better() -> None:
    points = performance_points(0.002, seed=4)
    inputs = np.stack([points.column("blocks"), points.column("width")])
    y = points.column("ndcg@10")

    def formula(inputs: np.ndarray, *free: float) -> np.ndarray:
        return PerformanceLaw(*free).predict({"blocks": inputs[0], "width": inputs[1]})

    law = fit_law(points, FORM, replicates=0).law
    ours = ((y - formula(inputs, *law.parameters().values())) ** 2).sum()
    for start in (np.ones(5), list(PERFORMANCE.parameters().values()), [-0.1, -0.1, -0.5, -0.5, 0.1]):
        found, _ = curve_fit(formula, inputs, y, start, maxfev=20_000)
        assert ours <= ((y - formula(inputs, *found)) ** 2).sum() * (1 + 1e-6)


def test_the_data_term_is_found_on_several_data_sets() -> None:
    law = PerformanceLaw(-0.1, -0.2, -0.35, -0.2, 0.6, w5=-0.01)
    points = performance_points(law=law, data=(1e5, 1e6, 1e7))
    form = PerformanceForm(data="effective_tokens")
    found = fit_law(points, form, replicates=1)
    assert found.law.parameters() == pytest.approx(law.parameters(), rel=1e-2)
    assert found.in_sample.r2 > fit_law(points, FORM, replicates=1).in_sample.r2


def test_what_no_performance_law_can_say_is_told() -> None:
    points = performance_points()
    with pytest.raises(UserError, match="its term is part of the constant"):
        fit_law(points, PerformanceForm(data="effective_tokens"))
    few = points.where(points.column("blocks") <= 4)
    with pytest.raises(UserError, match="three numbers of blocks at least"):
        fit_law(few, FORM)
    with pytest.raises(UserError, match="no column 'hr@10'"):
        fit_law(points, PerformanceForm("hr@10"))


def test_a_plain_power_law_is_a_line_of_logarithms() -> None:
    draw = np.random.default_rng(0)
    points = loss_points().with_column("ndcg@10", draw.uniform(0.1, 0.2, 30))
    law = fit_law(points, PlainForm(("parameters_backbone", "tokens")), replicates=1).law
    n, d, y = (np.log(points.column(name)) for name in ("parameters_backbone", "tokens", "ndcg@10"))
    expected = np.linalg.lstsq(np.stack([n, d, np.ones(30)], 1), y, rcond=None)[0]
    found = law.parameters()
    assert found["exponent of parameters_backbone"] == pytest.approx(expected[0])
    assert found["exponent of tokens"] == pytest.approx(expected[1])
    assert found["constant"] == pytest.approx(math.exp(expected[2]))
    predicted = law.predict({"parameters_backbone": np.exp(n), "tokens": np.exp(d)})
    np.testing.assert_allclose(np.log(predicted), np.stack([n, d, np.ones(30)], 1) @ expected)


def test_goodness_by_hand() -> None:
    found = goodness(np.array([1.0, 2.0, 4.0]), np.array([2.0, 2.0, 5.0]), np.array([0, 0, 1]))
    assert (found.points, found.runs) == (3, 2)
    assert found.r2 == pytest.approx(1 - 2 / 6)
    assert found.error == pytest.approx(math.sqrt(2 / 3))
    assert found.relative_error == found.bias == pytest.approx((0.5 + 0 + 0.2) / 3)
    assert goodness(np.array([1.0]), np.array([2.0]), np.array([0])).record()["r2"] is None


def test_splits_leave_runs_and_sizes_out_whole() -> None:
    points = loss_points()
    twice = points.with_column("run", np.arange(30) // 2)
    half = halves(twice, seed=1)
    assert half.sum() in (14, 16)
    assert (half[::2] == half[1::2]).all()
    assert (halves(twice, seed=2) != half).any()
    large = largest(points, "parameters_backbone", 0.4)
    sizes = np.unique(points.column("parameters_backbone"))
    assert set(points.column("parameters_backbone")[large]) == set(sizes[-2:])
    assert largest(points, "parameters_backbone", 0.01).sum() == 5


def test_fits_on_some_points_are_judged_on_the_others() -> None:
    points = loss_points(0.005, seed=5)
    out = largest(points, "parameters_backbone")
    both = held_out(points, PowerForm(), out)
    assert (both.in_sample.points, both.held_out.points) == (25, 5)
    alone = fit_law(points.where(~out), PowerForm(), replicates=0)
    assert both.law == alone.law
    table = {name: points.column(name)[out] for name in ("parameters_backbone", "tokens")}
    off = points.column("loss")[out] - alone.law.predict(table)
    assert both.held_out.error == pytest.approx(math.sqrt((off**2).mean()))
    assert leave_sizes_out(points, PowerForm(), "tokens").r2 > 0.99
    with pytest.raises(UserError, match="no points are left out"):
        held_out(points, PowerForm(), np.zeros(30, bool))


def test_laws_beside_each_other() -> None:
    points = performance_points(0.0005, seed=2).with_column("parameters_backbone", 1.0)
    size = 12 * points.column("blocks") * points.column("width") ** 2
    points = points.with_column("parameters_backbone", size)
    forms = {"performance": FORM, "plain": PlainForm(), "of nothing": PowerForm(("tokens",), "loss")}
    splits = {"half": halves(points), "largest": largest(points, "parameters_backbone")}
    performance, plain, nothing = compare(points, forms, splits)  # type: ignore[arg-type]
    assert performance.whole is not None
    assert plain.whole is not None
    assert performance.whole.r2 > 0.9 > plain.whole.r2
    rows = performance.rows()
    assert [row["split"] for row in rows] == ["half", "largest"]
    assert rows[0]["in-sample R2"] > 0.9
    assert rows[0]["held-out R2"] > 0.8
    assert rows[0]["in-sample points"] + rows[0]["held-out points"] == 36
    assert nothing.whole is None
    assert "no column 'tokens'" in nothing.notes[0]
    assert nothing.rows()[0]["held-out R2"] is None
