"""Least squares against dense solutions of the same problems."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize

from models.rankers.calibration import fit_logistic
from models.rankers.factorization import factorize, fit_biases
from models.rankers.history import fold_in


def ratings(rows: int = 200, users: int = 12, items: int = 9) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    user, item = generator.integers(0, users - 1, rows), generator.integers(1, items, rows)
    return user, item, generator.integers(1, 6, rows).astype(np.float64)


@pytest.mark.parametrize("strength", [0.5, 10.0])
def test_biases_are_the_ridge_regression_on_user_and_item(strength: float) -> None:
    user, item, target = ratings()
    found = fit_biases(user, item, target, 12, 9, strength)
    design = np.zeros((200, 21))
    design[np.arange(200), user] = design[np.arange(200), 12 + item] = 1.0
    gram = design.T @ design + strength * np.eye(21)
    expected = np.linalg.solve(gram, design.T @ (target - target.mean()))
    np.testing.assert_allclose(np.concatenate([found.user, found.item]), expected, atol=2e-3)
    assert found.user[11] == found.item[0] == 0.0  # nobody rated
    rows = design @ expected + target.mean()
    np.testing.assert_allclose(found.predict(user, item), rows, atol=4e-3)


@pytest.mark.parametrize("dim", [3, 20])
def test_a_sweep_of_alternating_least_squares(dim: int) -> None:
    """Users and items have more rows than the vectors numbers, or fewer."""
    user, item, target = ratings()
    residual = target - target.mean()
    found = factorize(user, item, residual, 12, 9, dim=dim, penalty=2.0, sweeps=2, seed=5)
    q = np.random.default_rng(5).normal(0.0, 0.1, (9, dim))
    p = np.zeros((12, dim))
    for _ in range(2):
        for vectors, other, mine, theirs in ((p, q, user, item), (q, p, item, user)):
            for owner in range(len(vectors)):
                own = other[theirs[mine == owner]]
                right = own.T @ residual[mine == owner]
                vectors[owner] = np.linalg.inv(own.T @ own + 2.0 * np.eye(dim)) @ right
    np.testing.assert_allclose(found.user, p, atol=1e-10)
    np.testing.assert_allclose(found.item, q, atol=1e-10)
    np.testing.assert_allclose(found.predict(user, item), (p[user] * q[item]).sum(1), atol=1e-10)


def test_sweeps_lower_the_objective() -> None:
    user, item, target = ratings()
    residual = target - target.mean()

    def objective(sweeps: int) -> float:
        found = factorize(user, item, residual, 12, 9, dim=3, penalty=2.0, sweeps=sweeps)
        error = ((residual - found.predict(user, item)) ** 2).sum()
        return float(error + 2.0 * ((found.user**2).sum() + (found.item**2).sum()))

    values = [objective(sweeps) for sweeps in (1, 2, 4, 8)]
    assert values == sorted(values, reverse=True)
    assert values[-1] < (residual**2).sum()


def test_a_history_is_folded_in() -> None:
    """Each row by a regression of its own, on the events before it that say anything."""
    generator = np.random.default_rng(0)
    offsets = np.array([0, 6, 6, 15])
    item = generator.integers(0, 5, 15)
    residual = generator.normal(size=15)
    residual[[2, 9]] = np.nan
    vectors, penalties = generator.normal(size=(5, 3)), np.array([0.5, 1.0, 2.0])
    rows = [(0, 0), (0, 3), (0, 3), (0, 6), (2, 1), (2, 9)]
    begin = np.array([offsets[sequence] for sequence, _ in rows])
    stop = begin + np.array([events for _, events in rows])
    candidate = generator.integers(0, 5, len(rows))
    found = fold_in(begin, stop, candidate, item, residual, vectors, penalties)
    for row, (first, last) in enumerate(zip(begin, stop, strict=True)):
        known = [event for event in range(first, last) if not np.isnan(residual[event])]
        own = vectors[item[known]]
        w = np.linalg.solve(own.T @ own + np.diag(penalties), own.T @ residual[known])
        assert found[row] == pytest.approx(w @ vectors[candidate[row]], abs=1e-10)
    assert found[0] == 0.0


def test_logistic_calibration_is_the_maximum_of_platts_likelihood() -> None:
    generator = np.random.default_rng(0)
    scores = generator.normal(3.0, 0.5, 400)
    labels = (generator.random(400) < 1 / (1 + np.exp(-(4 * scores - 11)))).astype(np.float32)
    found = fit_logistic(scores, labels)
    positives = labels.sum()
    target = np.where(labels > 0, (positives + 1) / (positives + 2), 1 / (400 - positives + 2))

    def loss(parameters: np.ndarray) -> float:
        z = parameters[0] * scores + parameters[1]
        return float((np.logaddexp(0, z) - target * z).sum())

    best = minimize(
        loss, np.array([1.0, 0.0]), method="Nelder-Mead", options={"maxiter": 5000, "xatol": 1e-9}
    )
    np.testing.assert_allclose(found(scores), best.x[0] * scores + best.x[1], atol=1e-3)


def test_scores_that_say_nothing_give_the_rate() -> None:
    labels = np.array([1, 0, 0, 0] * 25)
    found = fit_logistic(np.full(100, 3.0), labels)(np.array([3.0]))
    assert 1 / (1 + np.exp(-found[0])) == pytest.approx(0.25, abs=0.01)
    apart = fit_logistic(labels * 2.0, labels)(np.array([0.0, 2.0]))
    assert np.isfinite(apart).all()
    assert apart[1] > apart[0]
