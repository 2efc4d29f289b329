"""Shapes that were not trained."""

from __future__ import annotations

import numpy as np
import pytest

from behavior.errors import UserError
from models.scaling.laws import Points, shapes_of
from models.scaling.laws.shapes import between

SHAPES = np.array([(n, d) for d in (16, 32, 64, 128) for n in (2, 4, 8)], np.float64)


def trained(length: float = 200.0, shapes: np.ndarray = SHAPES) -> Points:
    """Parameters of blocks with square matrices, feed-forward layers and norms; FLOPs with attention."""
    blocks, width = shapes.T
    parameters = blocks * (12 * width**2 + 9 * width) + 2 * width
    each = 6 * parameters + 12 * blocks * width * length
    tokens = np.full(len(shapes), 1e6)
    table = {"blocks": blocks, "width": width, "parameters_backbone": parameters, "tokens": tokens}
    return Points.of({**table, "flops": each * tokens})


def test_parameters_and_operations_of_other_shapes() -> None:
    found = shapes_of(trained(), [3, 16], [48, 64])
    assert found.column("blocks").tolist() == [3, 3, 16, 16]
    assert found.column("width").tolist() == [48, 64, 48, 64]
    n, d = found.column("blocks"), found.column("width")
    parameters = n * (12 * d**2 + 9 * d) + 2 * d
    np.testing.assert_allclose(found.column("parameters_backbone"), parameters, rtol=1e-6)
    np.testing.assert_allclose(found.column("flops_per_token"), 6 * parameters + 12 * n * d * 200, rtol=1e-6)


def test_few_shapes_give_no_shape_that_costs_less_than_nothing() -> None:
    """Such as are there when a grid has been stopped."""
    few = np.array([[8, 128], [16, 128], [32, 128], [32, 48]], np.float64)
    found = shapes_of(trained(shapes=few), between(few[:, 0]), between(few[:, 1]))
    exact = trained(shapes=np.stack([found.column("blocks"), found.column("width")], axis=1))
    for name, true in (
        ("parameters_backbone", exact.column("parameters_backbone")),
        ("flops_per_token", exact.column("flops") / 1e6),
    ):
        # What is between four shapes is right to a factor, not to a digit.
        assert (np.abs(np.log(found.column(name) / true)) < np.log(1.5)).all()


def test_points_of_several_lengths_do_not_follow_one_formula() -> None:
    both = [
        {name: values[row] for name, values in points.columns.items()}
        for points in (trained(50), trained(400))
        for row in range(12)
    ]
    with pytest.raises(UserError, match="'flops_per_token' does not follow from blocks and width"):
        shapes_of(Points.from_rows(both), [3], [48])
    with pytest.raises(UserError, match="no point tells"):
        shapes_of(trained().with_column("flops", np.nan), [3], [48])


def test_values_between() -> None:
    assert between([32, 2, 8, 8]).tolist() == [2, 4, 8, 16, 32]
    assert between([3]).tolist() == [3]
