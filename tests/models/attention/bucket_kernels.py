"""A kernel that finds buckets; imported once the interpreter is on, where there is no GPU."""
# mypy: allow-untyped-defs
# ruff: noqa: N803

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from models.attention.silu.buckets import find_narrow_bucket
from models.attention.silu.times import bucket_boundaries

_BLOCK = 1024


@triton.jit
def _find(differences, boundaries, found, count, BLOCK: tl.constexpr):
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    difference = tl.load(differences + place, mask=place < count, other=0)
    tl.store(found + place, find_narrow_bucket(difference, boundaries), mask=place < count)


def narrow_buckets(differences: Tensor) -> Tensor:
    """[count] int32, of int32 differences."""
    found = torch.empty_like(differences)
    boundaries, _ = bucket_boundaries(differences.device)
    count = len(differences)
    _find[(-(-count // _BLOCK),)](differences, boundaries, found, count, BLOCK=_BLOCK)
    return found
