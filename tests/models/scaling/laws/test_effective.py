"""Laws with tokens, and with effective tokens."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from behavior.errors import UserError
from behavior.quality import DataQuality, quality_of_arrays
from behavior.quality.result import Estimate
from models.scaling.laws import Points, compare_data, with_data_quality
from tests.models.scaling.laws.planted import PERFORMANCE

ENTROPY = "lempel_ziv_entropy"


def quality(entropy: float) -> DataQuality:
    found = quality_of_arrays(np.array([0, 3]), np.array([0, 1, 0]), replicates=0)
    estimates = {name: Estimate(-1.0, None, None) for name in found.estimates}
    return replace(found, estimates=estimates | {ENTROPY: Estimate(entropy, None, None)})


def planted() -> Points:
    """Data sets of equal tokens and different entropies; metric and loss follow tokens / entropy."""
    law = replace(PERFORMANCE, b=0.6, w5=-0.02)
    draw = np.random.default_rng(0)
    rows = []
    for dataset, entropy in (("a", 1.0), ("b", 2.0), ("c", 4.0), ("d", 8.0)):
        for blocks in (2.0, 8.0, 32.0):
            for width in (16.0, 48.0, 128.0):
                for tokens in (1e6, 4e6):
                    shape = {"blocks": blocks, "width": width, "effective_tokens": tokens / entropy}
                    n = 12 * blocks * width**2
                    loss = 3 + 50 * n**-0.35 + 200 * (tokens / entropy) ** -0.3
                    metric = law.predict(shape)[0] + 0.0005 * draw.standard_normal()
                    rows.append(
                        {"dataset": dataset, **shape, "tokens": tokens, "parameters_backbone": n}
                        | {"ndcg@10": metric, "loss": loss * np.exp(0.001 * draw.standard_normal())}
                    )
    return Points.from_rows(rows)


QUALITIES = {name: quality(entropy) for name, entropy in zip("abcd", (1.0, 2.0, 4.0, 8.0), strict=True)}


def test_columns_of_data_quality() -> None:
    points = with_data_quality(planted(), QUALITIES)
    np.testing.assert_allclose(points.column(f"tokens / {ENTROPY}"), points.column("effective_tokens"))
    assert np.isnan(points.column("tokens / approximate_entropy")).all()  # it is negative
    with pytest.raises(UserError, match="quality of the data set 'd' is not given"):
        with_data_quality(planted(), {name: QUALITIES[name] for name in "abc"})


def test_what_explains_the_planted_points_is_found() -> None:
    compared = {one.name: one for one in compare_data(with_data_quality(planted(), QUALITIES))}
    assert list(compared) == [
        "ndcg@10, no data",
        "ndcg@10, D = tokens",
        f"ndcg@10, D = tokens / {ENTROPY}",
        "loss, D = tokens",
        f"loss, D = tokens / {ENTROPY}",
    ]
    for of in ("ndcg@10", "loss"):
        plain, effective = (compared[f"{of}, D = {name}"] for name in ("tokens", f"tokens / {ENTROPY}"))
        assert plain.whole is not None
        assert effective.whole is not None
        assert effective.whole.r2 > 0.98 > 0.9 > plain.whole.r2
        [row] = effective.rows()
        assert row["held-out R2"] > 0.95 > plain.rows()[0]["held-out R2"]
        assert effective.whole.points == plain.whole.points == 72
