"""Points of laws that are known."""

from __future__ import annotations

import numpy as np

from models.scaling.laws import PerformanceLaw, Points, PowerLaw, Term

LOSS = PowerLaw(3.0, (Term("parameters_backbone", 50.0, 0.35), Term("tokens", 200.0, 0.30)))
METRIC = PowerLaw(0.2, (Term("flops", 40.0, 0.2),), rising=True)
PERFORMANCE = PerformanceLaw(w1=-0.1, w2=-0.2, w3=-0.35, w4=-0.2, b=0.3)
"""Best at .5^(1/-.35) = 7.2 blocks and a width of 32."""


def sizes(parameters: int = 6, tokens: int = 5) -> dict[str, np.ndarray]:
    """A grid of sizes of model and data."""
    n, d = np.geomspace(1e4, 3e7, parameters), np.geomspace(1e6, 3e8, tokens)
    return {"parameters_backbone": np.repeat(n, tokens), "tokens": np.tile(d, parameters)}


def loss_points(noise: float = 0.0, seed: int = 0, law: PowerLaw = LOSS, **grid: int) -> Points:
    """Losses with a relative error."""
    table = sizes(**grid)
    exact = law.predict(table)
    error = np.random.default_rng(seed).standard_normal(len(exact))
    flops = 7.0 * table["parameters_backbone"] ** 0.95 * table["tokens"]
    return Points.of({**table, "flops": flops, "loss": exact * np.exp(noise * error)})


def metric_points(noise: float = 0.0, seed: int = 0, points: int = 24) -> Points:
    """A metric that saturates in compute, with a relative error."""
    flops = np.geomspace(1e12, 1e18, points)
    error = np.random.default_rng(seed).standard_normal(points)
    return Points.of({"flops": flops, "ndcg@10": METRIC.predict({"flops": flops}) * np.exp(noise * error)})


def performance_points(
    noise: float = 0.0, seed: int = 0, law: PerformanceLaw = PERFORMANCE, data: tuple[float, ...] = (1e6,)
) -> Points:
    """A metric by blocks, width and data, with an absolute error."""
    blocks, width, tokens = (
        values.ravel().astype(float)
        for values in np.meshgrid([2, 4, 8, 12, 16, 32], [16, 24, 32, 64, 96, 128], data)
    )
    table = {"blocks": blocks, "width": width, "effective_tokens": tokens}
    error = np.random.default_rng(seed).standard_normal(len(blocks))
    return Points.of({**table, "ndcg@10": law.predict(table) + noise * error})
