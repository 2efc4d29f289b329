"""Calibration: whether actions come as often as predicted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Float64Array = npt.NDArray[np.float64]

BUCKETS = 20
"""Of equal width in the predicted probability."""


@dataclass(frozen=True)
class Calibration:
    """Rows by predicted probability: buckets of equal width, the last of which includes 1."""

    rows: Float64Array  # [buckets]
    predicted: Float64Array  # [buckets] sums of probabilities
    positives: Float64Array  # [buckets] sums of labels

    @classmethod
    def of(cls, probability: npt.NDArray, labels: npt.NDArray, buckets: int = BUCKETS) -> Calibration:
        """Count rows.

        Args:
            probability: [rows] from 0 to 1.
            labels: [rows] 0 or 1.
            buckets: how many.
        """
        p = np.asarray(probability, np.float64)
        place = np.minimum((p * buckets).astype(np.int64), buckets - 1)
        weights = (np.ones(len(p)), p, np.asarray(labels, np.float64))
        rows, predicted, positives = (
            np.bincount(place, each, buckets).astype(np.float64) for each in weights
        )
        return cls(rows, predicted, positives)

    def __add__(self, other: Calibration) -> Calibration:
        return Calibration(
            self.rows + other.rows, self.predicted + other.predicted, self.positives + other.positives
        )

    def expected_error(self) -> float:
        """Expected calibration error: the mean over rows of |mean prediction - rate| of their bucket (Naeini
        et al., 2015; Guo et al., 2017, 1706.04599)."""
        return float(np.abs(self.predicted - self.positives).sum() / self.rows.sum())

    def ratio(self) -> float | None:
        """Expected over observed actions (He et al., 2014); 1 is calibrated; None without any action."""
        positives = float(self.positives.sum())
        return float(self.predicted.sum()) / positives if positives else None

    def table(self) -> list[dict[str, Any]]:
        """Buckets with a row: `from`, `to`, `rows`, mean `predicted` probability, `observed` rate."""
        buckets = len(self.rows)
        return [
            {
                "from": number / buckets,
                "to": (number + 1) / buckets,
                "rows": int(self.rows[number]),
                "predicted": float(self.predicted[number] / self.rows[number]),
                "observed": float(self.positives[number] / self.rows[number]),
            }
            for number in np.flatnonzero(self.rows).tolist()
        ]
