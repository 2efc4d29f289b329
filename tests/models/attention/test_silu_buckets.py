"""Buckets of 32-bit differences, by cells of float32 (`models.attention.silu.buckets`)."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.attention.bias import BUCKET_STARTS, time_bucket
from tests.models.interpreted import DEVICE

triton = pytest.importorskip("triton", reason="triton is not installed")
pytestmark = pytest.mark.usefixtures("interpreted")


def differences() -> torch.Tensor:
    """Around all boundaries and powers of two, where float32 rounds, all small ones, and any."""
    generator = torch.Generator().manual_seed(0)
    near = torch.arange(-70, 71)
    places = torch.tensor([*(start for start in BUCKET_STARTS if start < 2**31), *(2**k for k in range(32))])
    drawn = torch.randint(0, 2**31 - 1, (20_000,), generator=generator)
    found = torch.cat([(places[:, None] + near).flatten(), torch.arange(3000), drawn, drawn >> 7])
    return found[(found >= 0) & (found < 2**31 - 1)]


def test_every_bucket_is_that_of_whole_seconds() -> None:
    from tests.models.attention.bucket_kernels import narrow_buckets

    given = differences()
    found = narrow_buckets(given.int().to(DEVICE))
    assert torch.equal(found.cpu().long(), time_bucket(given))


def test_a_cell_has_one_boundary_at_most() -> None:
    """And all that a kernel may read are there: of 2^31, the absolute value of the least int32, too."""
    from models.attention.silu.buckets import bucket_cells

    cells = bucket_cells()
    assert len(cells) == (int(np.float32(2**31).view(np.int32)) >> 21) + 1
    boundaries = [boundary for boundary, _ in cells if boundary < 2**31 - 1]
    assert boundaries == sorted(set(boundaries))
    assert set(boundaries) < set(BUCKET_STARTS)
