"""What users and items are like on average, and matrix factorization of what is left, by least squares."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from behavior.runtime.compiled import compiled

Int64Array = npt.NDArray[np.int64]
Ids = npt.NDArray[np.integer]
Float64Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Biases:
    """`mean + user[u] + item[i]`: shrunk means of users and items (Koren, Bell and Volinsky, 2009, eq. 3)."""

    mean: float
    user: Float64Array  # [users]
    item: Float64Array  # [items]

    def predict(self, user: Ids, item: Ids) -> Float64Array:
        """[rows]."""
        found: Float64Array = self.mean + self.user[user] + self.item[item]
        return found


def fit_biases(
    user: Int64Array, item: Int64Array, target: Float64Array, users: int, items: int, strength: float
) -> Biases:
    """Ridge regression on user and item, to its optimum by alternating least squares.

    Minimizes `sum (y - mean - b_u - b_i)^2 + strength (sum b_u^2 + sum b_i^2)`, `mean` that of all rows.
    Those without rows have bias 0.

    Args:
        user, item: [rows] from 0.
        target: [rows].
        users, items: how many there are.
        strength: rows that the mean of all counts for.
    """
    mean = float(target.mean()) if len(target) else 0.0
    b_user, b_item = np.zeros(users), np.zeros(items)
    of_user, of_item = np.bincount(user, minlength=users), np.bincount(item, minlength=items)
    for _ in range(_BIAS_SWEEPS):
        before = b_item
        b_item = np.bincount(item, target - mean - b_user[user], items) / np.maximum(
            of_item + strength, 1e-12
        )
        b_user = np.bincount(user, target - mean - b_item[item], users) / np.maximum(
            of_user + strength, 1e-12
        )
        if np.abs(b_item - before).max(initial=0.0) < 1e-4:
            break
    return Biases(mean, b_user, b_item)


_BIAS_SWEEPS = 60


@dataclass(frozen=True)
class Factors:
    """`user[u] . item[i]`."""

    user: Float64Array  # [users, dim]
    item: Float64Array  # [items, dim]

    def predict(self, user: Ids, item: Ids) -> Float64Array:
        """[rows]."""
        found: Float64Array = np.einsum("rd,rd->r", self.user[user], self.item[item])
        return found


def factorize(
    user: Int64Array,
    item: Int64Array,
    residual: Float64Array,
    users: int,
    items: int,
    *,
    dim: int,
    penalty: float,
    sweeps: int = 12,
    seed: int = 0,
) -> Factors:
    """Matrix factorization by alternating least squares (Koren, Bell and Volinsky, 2009).

    Minimizes `sum (r - p_u . q_i)^2 + penalty (sum |p_u|^2 + sum |q_i|^2)`; each sweep solves for all users,
    then for all items. Those without rows have the vector 0.

    Args:
        user, item: [rows] from 0.
        residual: [rows] what is to be explained.
        users, items: how many there are.
        dim: of the vectors.
        penalty: ridge.
        sweeps: how often.
        seed: of the items' first vectors.
    """
    q = np.random.default_rng(seed).normal(0.0, 0.1, (items, dim))
    p = np.zeros((users, dim))
    of_users, of_items = _Side.of(user, users, item, residual), _Side.of(item, items, user, residual)
    for _ in range(sweeps):
        p = of_users.solve(q, penalty)
        q = of_items.solve(p, penalty)
    return Factors(p, q)


@dataclass(frozen=True)
class _Side:
    """Rows by their owner, a user or an item."""

    begin: Int64Array  # [owners + 1] where each owner's rows begin
    other: Int64Array  # [rows] the other side's number
    residual: Float64Array  # [rows]

    @classmethod
    def of(cls, owner: Int64Array, owners: int, other: Int64Array, residual: Float64Array) -> _Side:
        order = np.argsort(owner, kind="stable")
        begin = np.concatenate([[0], np.cumsum(np.bincount(owner, minlength=owners))])
        return cls(begin, other[order], residual[order])

    def solve(self, vectors: Float64Array, penalty: float) -> Float64Array:
        """[owners, dim] the ridge regression of each owner's residuals on the vectors of the other side."""
        return _solve(self.begin, self.other, self.residual, vectors, penalty)


@compiled
def _solve(
    begin: np.ndarray, other: np.ndarray, residual: np.ndarray, vectors: np.ndarray, penalty: float
) -> np.ndarray:
    owners, dim = len(begin) - 1, vectors.shape[1]
    found = np.zeros((owners, dim))
    for owner in range(owners):
        start, stop = begin[owner], begin[owner + 1]
        if start == stop:
            continue
        own = vectors[other[start:stop]]
        # (X'X + aI)^-1 X' = X'(XX' + aI)^-1: the smaller of both systems.
        few = stop - start < dim
        gram = own @ own.T if few else own.T @ own
        for place in range(len(gram)):
            gram[place, place] += penalty
        if few:
            found[owner] = own.T @ np.linalg.solve(gram, residual[start:stop])
        else:
            found[owner] = np.linalg.solve(gram, own.T @ residual[start:stop])
    return found
