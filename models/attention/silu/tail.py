"""Zeros for the tokens that belong to no sequence, of which only the device knows how many there are."""
# mypy: allow-untyped-defs
# ruff: noqa: N803

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from models.gpu.launch_rows import launch_rows


@triton.jit(do_not_specialize=("rows",))
def tail_kernel(out, end, rows, WIDTH: tl.constexpr, DIM: tl.constexpr, ROWS: tl.constexpr):
    """Zeros for rows from `end` on; programs of rows before it have nothing to do."""
    first = tl.program_id(0) * ROWS
    begin = tl.load(end)
    if first + ROWS > begin:
        row = first + tl.arange(0, ROWS)
        dim = tl.arange(0, DIM)
        place = row.to(tl.int64)[:, None] * WIDTH + dim[None, :]
        inside = ((row >= begin) & (row < rows))[:, None] & (dim < WIDTH)[None, :]
        tl.store(out + place, tl.zeros((ROWS, DIM), out.dtype.element_ty), mask=inside)


def with_zeros_after(out: Tensor, end: Tensor) -> Tensor:
    """The same tensor, [rows, ...], with zeros from a row on.

    Args:
        out: dense; of one without memory, on the meta device, nothing is written.
        end: [1] int64.
    """
    if out.numel() and not out.is_meta:
        launch_rows(tail_kernel, out.shape[0], out[0].numel(), {"out": out, "end": end})
    return out
