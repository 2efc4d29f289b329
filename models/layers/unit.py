"""Vectors of length 1."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from models.layers.kernels import fits_rows

_EPS = 1e-12


def unit_rows(x: Tensor) -> Tensor:
    """`F.normalize(x.float(), dim=-1)`: on a GPU in one kernel, and its gradient in another.

    Sums are in float32. Where kernels run it can be differentiated once.

    Args:
        x: [..., dim].

    Returns:
        float32, of x's shape; rows of zeros stay zeros.
    """
    if not fits_rows(x):
        return F.normalize(x.float(), dim=-1)
    # Not at the top of the file: without a GPU there need be no triton.
    from models.layers.kernels.unit_function import UnitRows

    out: Tensor = UnitRows.apply(x.reshape(-1, x.shape[-1]), _EPS)
    return out.view(x.shape)
