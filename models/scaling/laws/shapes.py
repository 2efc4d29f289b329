"""Shapes of models that were not trained: what they have and cost, by those that were."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.optimize import nnls

from behavior.errors import UserError
from models.scaling.laws.budget import PER_TOKEN
from models.scaling.laws.law import Array
from models.scaling.laws.points import Points

PARAMETERS = "parameters_backbone"
_TOLERANCE = 0.02


def shapes_of(points: Points, blocks: Sequence[float], widths: Sequence[float]) -> Points:
    """All combinations of some numbers of blocks and widths, as candidates for `best_shape`.

    Parameters and FLOPs a token of a Transformer of any kind are `(1, N) x (1, d, d^2)` with constants, N
    being blocks and d the width: these are found from the points by least squares of relative errors, none of
    them below 0 where that is good enough, so that few points give no candidate that costs less than nothing.

    Args:
        points: of one backbone and length, with `blocks`, `width`, `parameters_backbone`, `tokens`, `flops`.
        blocks, widths: of the candidates.

    Returns:
        With `blocks`, `width`, `parameters_backbone` and `flops_per_token`.

    Raises:
        UserError: a column is missing, or the formula is off by more than 2 % somewhere: points of several
            backbones or lengths.
    """
    known = points.known(["blocks", "width", PARAMETERS, "tokens", "flops"])
    if not len(known):
        raise UserError("no point tells blocks, width, parameters, tokens and FLOPs")
    n, d = (v.ravel().astype(np.float64) for v in np.meshgrid(blocks, widths, indexing="ij"))
    each = known.column("flops") / known.column("tokens")
    sizes = known.column("blocks"), known.column("width")
    return Points.of(
        {
            "blocks": n,
            "width": d,
            PARAMETERS: _extended(*sizes, known.column(PARAMETERS), n, d, PARAMETERS),
            PER_TOKEN: _extended(*sizes, each, n, d, PER_TOKEN),
        }
    )


def between(values: npt.ArrayLike) -> Array:
    """Different values, and the geometric mean of each two neighbors, in whole numbers."""
    found = np.unique(np.asarray(values, np.float64))
    return np.unique(np.concatenate([found, np.rint(np.sqrt(found[1:] * found[:-1]))]))


def _extended(blocks: Array, width: Array, y: Array, n: Array, d: Array, what: str) -> Array:
    basis, scale = _basis(blocks, width) / y[:, None], np.abs(_basis(blocks, width)).max(axis=0)
    target = np.ones(len(y))
    # Shares of what the points have are near 1, whatever the units are: `nnls` has tolerances of its own.
    shares = np.abs(basis).max(axis=0)
    found = nnls(basis / shares, target)[0] / shares
    if np.abs(basis @ found - 1).max() > _TOLERANCE:
        found = np.linalg.lstsq(basis / scale, target, rcond=1e-10)[0] / scale
    off = np.abs(basis @ found - 1).max()
    if off > _TOLERANCE:
        raise UserError(
            f"'{what}' does not follow from blocks and width: it is off by up to {off:.0%}",
            fix="take points of one backbone, length and data set",
        )
    extended = np.asarray(_basis(n, d) @ found)
    if not (extended > 0).all():
        raise UserError(
            f"'{what}' of shapes between those that were trained is not to be told from so few of them",
            fix="train more shapes",
        )
    return extended


def _basis(n: Array, d: Array) -> Array:
    return np.stack([np.ones_like(n), d, d**2, n, n * d, n * d**2], axis=1)
