"""Start kernels with little Python: Triton binds and inspects each argument of each call, which for small
batches takes longer than the kernel."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from models.attention.triton.step import INTERPRETED, VARYING
from models.attention.triton.tuning import Shape

_compiled: dict[tuple[object, ...], Any] = {}


def start(kernel: Any, grid: tuple[int, int], shape: Shape | None, arguments: dict[str, object]) -> None:
    """Run `kernel` on a grid; arguments by name, in any order."""
    ordered = [arguments[name] for name in kernel.arg_names]
    device = next(value.device for value in ordered if isinstance(value, Tensor))
    if device.type == "cuda" and device.index != torch.cuda.current_device():
        with torch.cuda.device(device):
            return start(kernel, grid, shape, arguments)
    options = {} if shape is None else shape.options()
    if INTERPRETED:
        kernel[grid](*ordered, **options)
        return
    key = (kernel, shape, device.index, *map(_kind, kernel.arg_names, ordered))
    if key in _compiled:
        _compiled[key][(*grid, 1)](*ordered)
    else:
        _compiled[key] = kernel[grid](*ordered, **options)


def _kind(name: str, value: object) -> object:
    """What of an argument the compiler looks at."""
    if isinstance(value, Tensor):
        return value.dtype, value.data_ptr() % 16 == 0
    return None if name in VARYING or isinstance(value, float) else value
