"""Bootstrap confidence intervals of means over users.

Users are resampled with replacement, as many as there are (Efron, 1979); a 95 % interval ends at the 2.5th
and the 97.5th percentile of the means of the resamples. Users with equal metrics are one value drawn more
often, which is exact, and with one target a user makes thousands of resamples of a million users a matter of
seconds; where users have many targets and all differ, of minutes.
"""

from __future__ import annotations

import numpy as np

from models.evaluation.metrics import Float64Array, UserMetrics

CONFIDENCE = 0.95
SEED = 0
# Draws of a value made at once.
_CELLS = 1 << 24


def resampled_means(values: Float64Array, resamples: int, seed: int = SEED) -> Float64Array:
    """Means over users of bootstrap resamples.

    Args:
        values: [users, metrics]; at least one user.
        resamples: how often.
        seed: of the resampling.

    Returns:
        [resamples, metrics].
    """
    distinct, counts = np.unique(values, axis=0, return_counts=True)
    generator = np.random.default_rng(seed)
    at_once = max(1, _CELLS // len(counts))
    means = []
    for begin in range(0, resamples, at_once):
        draws = min(at_once, resamples - begin)
        drawn = generator.multinomial(len(values), counts / len(values), size=draws)
        means.append(drawn @ distinct / len(values))
    return np.concatenate(means)


def intervals(metrics: UserMetrics, resamples: int) -> dict[str, list[float]]:
    """The 95 % interval of each mean over users: lower and upper end; empty where there are no users."""
    if not len(metrics.values):
        return {}
    ends = _ends(resampled_means(metrics.values, resamples))
    return dict(zip(metrics.names, ends, strict=True))


def paired_difference(ours: UserMetrics, theirs: UserMetrics, resamples: int) -> dict[str, dict[str, object]]:
    """The difference, ours less theirs, of two rankers on the same users, by a paired bootstrap.

    Returns:
        For each metric `difference` (of the means), `interval` (95 %) and `share_below_zero` (of the
        resamples).

    Raises:
        ValueError: the users or the metrics are not the same, or there are none.
    """
    if ours.names != theirs.names or not np.array_equal(ours.user, theirs.user) or not len(ours.user):
        raise ValueError("two rankers are compared by the same metrics on the same users")
    differences = ours.values - theirs.values
    means = resampled_means(differences, resamples)
    return {
        name: {"difference": float(mean), "interval": ends, "share_below_zero": float(below)}
        for name, mean, ends, below in zip(
            ours.names, differences.mean(0), _ends(means), (means < 0).mean(0), strict=True
        )
    }


def _ends(means: Float64Array) -> list[list[float]]:
    """[metrics][lower, upper] ends of the intervals."""
    tail = (1.0 - CONFIDENCE) / 2
    ends: list[list[float]] = np.quantile(means, [tail, 1.0 - tail], axis=0).T.tolist()
    return ends
