"""The inner half of variable projection (Golub and Pereyra 1973): the best coefficients of given exponents.

`y = c_0 + sum_k s c_k x_k^(-a_k)`, all c >= 0 and s = 1 or -1, where a term may be the product of several
columns' powers: given the exponents a, the coefficients c are found by non-negative least squares, reweighted
to Huber's loss of `ln(prediction / y)` (Gauss-Newton).
"""

from __future__ import annotations

import numpy as np

from behavior.runtime.compiled import compiled


@compiled
def _huber(residual: float, delta: float) -> float:
    size = abs(residual)
    return 0.5 * size * size if size <= delta else delta * (size - 0.5 * delta)


@compiled
def objective(
    columns: np.ndarray, coefficients: np.ndarray, y: np.ndarray, weight: np.ndarray, delta: float
) -> float:
    """Weighted sum of Huber's loss of `ln(prediction / y)`.

    Args:
        columns: what the coefficients multiply. [points, coefficients]
        coefficients: [coefficients]
        y: above 0. [points]
        weight: [points]
        delta: where the loss becomes linear.
    """
    total = 0.0
    for point in range(len(y)):
        predicted = 0.0
        for k in range(len(coefficients)):
            predicted += columns[point, k] * coefficients[k]
        # A saturating law may fall below 0 far from the optimum.
        predicted = max(predicted, 1e-6 * y[point])
        total += weight[point] * _huber(np.log(predicted / y[point]), delta)
    return total


@compiled
def _solve(matrix: np.ndarray, right: np.ndarray, chosen: np.ndarray, count: int, out: np.ndarray) -> bool:
    """Cholesky's solution of the chosen rows and columns; False where they are not independent."""
    lower = np.zeros((count, count))
    for i in range(count):
        for j in range(i + 1):
            value = matrix[chosen[i], chosen[j]]
            for k in range(j):
                value -= lower[i, k] * lower[j, k]
            if i == j:
                if value <= 1e-13 * matrix[chosen[i], chosen[i]]:
                    return False
                lower[i, i] = np.sqrt(value)
            else:
                lower[i, j] = value / lower[j, j]
    for i in range(count):
        value = right[chosen[i]]
        for k in range(i):
            value -= lower[i, k] * out[k]
        out[i] = value / lower[i, i]
    for i in range(count - 1, -1, -1):
        value = out[i]
        for k in range(i + 1, count):
            value -= lower[k, i] * out[k]
        out[i] = value / lower[i, i]
    return True


@compiled
def _non_negative(matrix: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Non-negative least squares from the normal equations: the best feasible of all sets of coefficients."""
    size = len(right)
    best = np.zeros(size)
    best_value = 0.0
    chosen = np.empty(size, np.int64)
    out = np.empty(size)
    for subset in range(1, 1 << size):
        count = 0
        for k in range(size):
            if subset >> k & 1:
                chosen[count] = k
                count += 1
        if not _solve(matrix, right, chosen, count, out):
            continue
        value = 0.0
        feasible = True
        for i in range(count):
            feasible = feasible and out[i] >= 0
            value -= out[i] * right[chosen[i]]
        if feasible and value < best_value:
            best_value = value
            best[:] = 0
            for i in range(count):
                best[chosen[i]] = out[i]
    return best


@compiled
def columns_of(exponents: np.ndarray, z: np.ndarray, sign: float, term_of: np.ndarray) -> np.ndarray:
    """The floor's column of ones and those of the terms.

    Args:
        exponents: [columns]
        z: logarithms, less their mean. [points, columns]
        sign: 1 for a law that falls to its floor, -1 for one that rises to its ceiling.
        term_of: the number of each column's term, from 0. [columns]

    Returns:
        [points, 1 + terms]
    """
    terms = term_of.max() + 1
    columns = np.ones((len(z), terms + 1))
    powers = np.empty(terms)
    for point in range(len(z)):
        powers[:] = 0
        for k in range(len(exponents)):
            powers[term_of[k]] -= exponents[k] * z[point, k]
        for term in range(terms):
            columns[point, term + 1] = sign * np.exp(powers[term])
    return columns


@compiled
def project(
    exponents: np.ndarray,
    z: np.ndarray,
    y: np.ndarray,
    weight: np.ndarray,
    sign: float,
    term_of: np.ndarray,
    delta: float,
    steps: int,
    coefficients: np.ndarray,
) -> float:
    """The best coefficients of given exponents; the objective.

    Args:
        exponents, z, sign, term_of: see `columns_of`.
        y, weight, delta: see `objective`.
        steps: of reweighting, at most.
        coefficients: on return, the best. [1 + terms]
    """
    columns = columns_of(exponents, z, sign, term_of)
    size = columns.shape[1]
    matrix = np.empty((size, size))
    right = np.empty(size)
    reached = np.inf
    for step in range(steps):
        matrix[:] = 0
        right[:] = 0
        for point in range(len(y)):
            scale, target, w = 1 / y[point], 1.0, weight[point]
            if step:
                predicted = 0.0
                for k in range(size):
                    predicted += columns[point, k] * coefficients[k]
                predicted = max(predicted, 1e-6 * y[point])
                residual = np.log(predicted / y[point])
                scale, target = 1 / predicted, 1 - residual
                if abs(residual) > delta:
                    w *= delta / abs(residual)
            for i in range(size):
                left = w * columns[point, i] * scale
                right[i] += left * target
                for j in range(i + 1):
                    matrix[i, j] += left * columns[point, j] * scale
        for i in range(size):
            for j in range(i):
                matrix[j, i] = matrix[i, j]
        found = _non_negative(matrix, right)
        value = objective(columns, found, y, weight, delta)
        if step == 0:
            coefficients[:] = found
            reached = value
            continue
        share = 1.0
        while value > reached and share > 1e-3:
            share /= 2
            value = objective(columns, coefficients + share * (found - coefficients), y, weight, delta)
        if value > reached:
            break
        gain = reached - value
        coefficients[:] = coefficients + share * (found - coefficients)
        reached = value
        if gain <= 1e-9 * reached:
            break
    return reached


@compiled
def project_all(
    starts: np.ndarray,
    z: np.ndarray,
    y: np.ndarray,
    weight: np.ndarray,
    sign: float,
    term_of: np.ndarray,
    delta: float,
) -> np.ndarray:
    """The objective of each of many exponents, roughly: by a few steps of reweighting. [starts]

    Args:
        starts: exponents. [starts, columns]
        z, y, weight, sign, term_of, delta: see `project`.
    """
    coefficients = np.zeros(term_of.max() + 2)
    values = np.empty(len(starts))
    for number in range(len(starts)):
        values[number] = project(starts[number], z, y, weight, sign, term_of, delta, 6, coefficients)
    return values
