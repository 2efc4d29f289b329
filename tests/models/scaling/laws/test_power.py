"""Power laws: planted ones are found, and no search finds better ones."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import least_squares, nnls

from behavior.errors import UserError
from models.scaling.laws import Points, PowerForm, PowerLaw, Term, effective_of_repeated, fit_law
from models.scaling.laws.projection import columns_of, project
from tests.models.scaling.laws.planted import LOSS, METRIC, loss_points, metric_points

BOTH = PowerForm()


def fitted(form: PowerForm, points: Points) -> PowerLaw:
    table = {name: points.column(name) for name in form.needs}
    return form.fit(table, points.column(form.of), np.ones(len(points)))


@pytest.mark.parametrize(
    ("form", "points", "law"),
    [
        (BOTH, loss_points(), LOSS),
        (PowerForm(("flops",), "ndcg@10", rising=True), metric_points(), METRIC),
        (
            PowerForm(("parameters_backbone",)),
            loss_points(law=PowerLaw(2.0, (Term("parameters_backbone", 9.0, 0.2),))),
            PowerLaw(2.0, (Term("parameters_backbone", 9.0, 0.2),)),
        ),
        (
            PowerForm(("parameters_backbone", "tokens", "flops"), starts=6),
            loss_points(law=replace(LOSS, terms=LOSS.terms)),
            None,
        ),
    ],
    ids=["loss", "metric", "parameters", "three terms"],
)
def test_exact_points_give_the_law_back(form: PowerForm, points: Points, law: PowerLaw | None) -> None:
    found = fitted(form, points)
    table = {name: points.column(name) for name in form.needs}
    np.testing.assert_allclose(found.predict(table), points.column(form.of), rtol=2e-4)
    if law is not None:
        assert found.parameters() == pytest.approx(law.parameters(), rel=1e-3)


@pytest.mark.parametrize("delta", [1e-3, 10.0])
def test_a_fit_is_as_good_as_a_search_over_all_parameters_together(delta: float) -> None:
    points = loss_points(0.01, seed=3)
    n, d, y = (points.column(name) for name in ("parameters_backbone", "tokens", "loss"))

    def residuals(free: np.ndarray) -> np.ndarray:
        e, a, b = np.exp(free[:3])
        return np.log((e + a * (n / 1e6) ** -free[3] + b * (d / 1e7) ** -free[4]) / y)

    start = np.array([np.log(3.0), np.log(0.4), np.log(1.6), 0.35, 0.3])
    best = least_squares(residuals, start, loss="huber", f_scale=delta, xtol=1e-13, ftol=1e-13).cost
    law = fitted(replace(BOTH, delta=delta), points)
    off = np.abs(np.log(law.predict({"parameters_backbone": n, "tokens": d}) / y))
    huber = np.where(off <= delta, off**2 / 2, delta * (off - delta / 2)).sum()
    assert huber <= best * (1 + 1e-4)


def test_the_inner_fit_without_reweighting_is_non_negative_least_squares() -> None:
    draw = np.random.default_rng(0)
    for number in range(20):
        z = draw.normal(size=(30, 2))
        y = np.exp(draw.normal(size=30) * 0.3)
        weight = draw.exponential(size=30)
        exponents = draw.uniform(0.1, 1.0, 2)
        sign = 1.0 if number % 2 else -1.0
        coefficients = np.zeros(3)
        project(exponents, z, y, weight, sign, np.arange(2), 1e9, 1, coefficients)
        columns = columns_of(exponents, z, sign, np.arange(2)) / y[:, None]
        expected, _ = nnls(columns * np.sqrt(weight)[:, None], np.sqrt(weight))
        np.testing.assert_allclose(coefficients, expected, atol=1e-8)


def test_planted_parameters_lie_within_their_intervals() -> None:
    """A short form of `benchmarks/scaling_laws.py`: of the 90 % intervals of ten draws, how many hold."""
    truth = LOSS.parameters()
    hits = dict.fromkeys(truth, 0)
    for seed in range(10):
        found = fit_law(loss_points(0.005, seed), BOTH, replicates=40, seed=seed)
        for name, interval in found.parameters(0.9).items():
            assert interval.low < interval.value < interval.high
            hits[name] += interval.low <= truth[name] <= interval.high
    # Of ten with a chance of 9 in 10 each, fewer than 6 come in one case of a thousand.
    assert min(hits.values()) >= 6, hits


def test_outliers_hardly_matter() -> None:
    points = loss_points(0.002, seed=1)
    y = points.column("loss").copy()
    y[[3, 17]] *= 1.3
    found = fitted(BOTH, points.with_column("loss", y))
    squares = fitted(replace(BOTH, delta=10.0), points.with_column("loss", y))
    for name, value in LOSS.parameters().items():
        if name.startswith("exponent") or name == "limit":
            assert found.parameters()[name] == pytest.approx(value, rel=0.1)
    assert abs(found.limit - LOSS.limit) < abs(squares.limit - LOSS.limit)


def test_blocks_and_width_may_be_factors_of_one_term() -> None:
    blocks, width, tokens = (
        values.ravel().astype(float)
        for values in np.meshgrid([2, 4, 8, 16], [16, 32, 64, 128], np.geomspace(1e6, 1e8, 4))
    )
    planted = PowerLaw(2.0, (Term("blocks", 9.0, 0.2, (("width", 0.5),)), Term("tokens", 200.0, 0.3)))
    table = {"blocks": blocks, "width": width, "tokens": tokens}
    loss = 2.0 + 9.0 * blocks**-0.2 * width**-0.5 + 200.0 * tokens**-0.3
    np.testing.assert_allclose(planted.predict(table), loss)
    form = PowerForm(("blocks", "width", "tokens"), joint=2)
    assert form.free == 6
    found = fitted(form, Points.of({**table, "loss": loss}))
    assert found.parameters() == pytest.approx(planted.parameters(), rel=1e-2)
    assert found.record()["equation"] == "E + A1 blocks^(-a1) width^(-a2) + A2 tokens^(-a3)"
    with pytest.raises(ValueError, match="3 of 2 columns"):
        PowerForm(joint=3)


def test_tokens_of_later_epochs_count_for_less() -> None:
    assert effective_of_repeated(50.0, 100.0, 5.0) == 50.0
    assert effective_of_repeated(100.0, 100.0, 5.0) == pytest.approx(100.0)
    # By the sum of the epochs' shares, in the limit of many small ones.
    share = np.exp(-np.arange(0, 3, 1e-4) / 5.0).sum() * 1e-4
    assert effective_of_repeated(400.0, 100.0, 5.0) == pytest.approx(100 * (1 + share), rel=1e-3)
    assert effective_of_repeated(1e9, 100.0, 5.0) == pytest.approx(600.0)


def test_the_decay_of_repeated_data_is_found() -> None:
    table = {
        "parameters_backbone": np.repeat(np.geomspace(1e4, 1e7, 4), 12),
        "unique_events": np.tile(np.repeat(np.geomspace(1e6, 3e7, 3), 4), 4),
    }
    table["tokens"] = table["unique_events"] * np.tile([0.5, 2.0, 10.0, 60.0], 12)
    planted = replace(LOSS, repeat_decay=8.0)
    points = Points.of({**table, "loss": planted.predict(table)})
    form = PowerForm(repeats=True, starts=2)
    found = fitted(form, points)
    assert found.repeat_decay == pytest.approx(8.0, rel=0.1)
    assert found.limit == pytest.approx(3.0, rel=0.02)
    blind = fitted(replace(form, repeats=False), points)
    off, off_blind = (np.abs(law.predict(table) / points.column("loss") - 1).max() for law in (found, blind))
    assert off < 0.003 < 0.02 < off_blind
    near = form.fit(table, points.column("loss"), np.ones(48), found)
    assert near.repeat_decay == pytest.approx(found.repeat_decay, rel=0.1)


def test_points_of_one_run_are_drawn_together() -> None:
    points = loss_points(0.005, seed=2)
    copies = Points.of(
        {name: np.repeat(values, 3) for name, values in points.columns.items()}
    )  # three checkpoints of each run, all alike
    alone, together = (fit_law(some, BOTH, replicates=20, seed=1) for some in (points, copies))
    assert together.runs == alone.runs == 30
    assert together.widening == alone.widening
    for name, interval in alone.parameters().items():
        assert together.parameters()[name].low == pytest.approx(interval.low, rel=2e-3)
    apart = fit_law(copies.with_column("run", np.arange(90).astype(str)), BOTH, replicates=20, seed=1)
    narrow, wide = (found.parameters()["limit"] for found in (apart, together))
    assert narrow.high - narrow.low < wide.high - wide.low


def test_what_cannot_be_fitted_is_told() -> None:
    points = loss_points()
    with pytest.raises(UserError, match="5 points are too few for the 5 parameters"):
        fit_law(points.where(np.arange(30) < 5), BOTH)
    with pytest.raises(UserError, match="no column 'token'"):
        fit_law(points, PowerForm(("token",)))
    with pytest.raises(UserError, match="values that are not above 0"):
        fit_law(points.with_column("tokens", 0.0), BOTH)
    with pytest.raises(UserError, match="'loss' is unknown in some"):
        fit_law(points.with_column("loss", np.where(np.arange(30), 1.0, np.nan)), BOTH)
    with pytest.raises(ValueError, match="one to three columns"):
        PowerForm(())
    with pytest.raises(ValueError, match="epochs are counted apart"):
        PowerForm(("flops",), repeats=True)


def test_terms_without_effect_and_missing_floors_are_noted() -> None:
    flat = loss_points(law=PowerLaw(2.0, (Term("parameters_backbone", 9.0, 0.2), Term("tokens", 0.0, 0.3))))
    notes = fit_law(flat, BOTH, replicates=2).notes
    assert any("of tokens" in note for note in notes)
    pure = loss_points(law=PowerLaw(0.0, (Term("parameters_backbone", 9.0, 0.2),)))
    found = fit_law(pure, PowerForm(("parameters_backbone",)), replicates=2)
    assert found.law.parameters()["limit"] == pytest.approx(0, abs=1e-3)


def test_a_record_is_json_and_says_everything() -> None:
    record = json.loads(json.dumps(fit_law(loss_points(0.005), BOTH, replicates=10).record()))
    assert record["law"]["equation"] == "E + A1 parameters_backbone^(-a1) + A2 tokens^(-a2)"
    assert record["parameters"]["limit"]["low"] < record["parameters"]["limit"]["high"]
    assert record["runs"] == 30
    assert record["in_sample"]["points"] == 30
    assert record["cloud"]["tokens"] == pytest.approx([1e6, 3e8])
    assert record["replicates"] == 10
