"""The numbers of a column that a fit counts."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from behavior.features.columns import canonical
from behavior.spec.dataset_spec import Feature


def weighted(
    feature: Feature, values: pa.Array, weights: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Finite numbers that have a weight.

    Returns:
        The numbers (float64), their weights (int64), and their places among the values (int64).
    """
    column = canonical(feature, values)
    used = column.is_valid().to_numpy(zero_copy_only=False)
    times = np.ones(len(column), np.int64) if weights is None else np.asarray(weights).astype(np.int64)
    places = np.flatnonzero(used & (times > 0))
    numbers = column.take(pa.array(places)).to_numpy(zero_copy_only=False)
    return numbers, times[places], places
