"""Mixed precision: bfloat16 where torch's autocast puts it, TF32 for the float32 products that are left."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch

from models.gpu.config import Precision


def pick_precision(name: Precision, device: torch.device) -> Literal["32-true", "bf16-mixed"]:
    """The precision of a setting; `auto` is bf16-mixed on a GPU that multiplies bfloat16 itself (compute
    capability 8.0 and later), and 32-true elsewhere."""
    if name != "auto":
        return name
    has_it = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return "bf16-mixed" if has_it else "32-true"


@contextmanager
def mixed_precision(device_type: str, *, enabled: bool = True, cache_enabled: bool = True) -> Iterator[None]:
    """For the forward pass of training in `bf16-mixed`.

    Losses are computed in float32 within it, with their gradients. A GPU may round what it multiplies for
    them to TF32: queries were bfloat16 before. Evaluation is not within it.

    Args:
        device_type: cpu or cuda.
        enabled: False: nothing changes.
        cache_enabled: see `torch.autocast`; False where a CUDA graph is captured by hand.
    """
    if not enabled:
        yield
        return
    before = torch.get_float32_matmul_precision()
    if device_type == "cuda":
        torch.set_float32_matmul_precision("high")
    try:
        with torch.autocast(device_type, torch.bfloat16, cache_enabled=cache_enabled):
            yield
    finally:
        torch.set_float32_matmul_precision(before)
