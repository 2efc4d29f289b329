"""What a device could compute at most: the denominator of model FLOPs utilization (MFU)."""

from __future__ import annotations

import torch

# Dense peak in TFLOP/s: bfloat16, TF32, float32. The first name that is part of the device's counts.
_PEAKS: dict[str, tuple[float, float, float]] = {
    "H100 PCIe": (756.0, 378.0, 51.0),
    "H100 NVL": (835.0, 417.0, 60.0),
    "H100": (989.0, 495.0, 67.0),
    "H200": (989.0, 495.0, 67.0),
    "A100": (312.0, 156.0, 19.5),
}


def peak_flops(device: torch.device, precision: str) -> float | None:
    """Peak FLOP/s of a device, without sparsity; None where that is not known.

    Args:
        device: of this process.
        precision: as `train.precision`.
    """
    if device.type != "cuda":
        return None
    return peak_flops_of(
        torch.cuda.get_device_name(device), precision, tf32=torch.backends.cuda.matmul.allow_tf32
    )


def peak_flops_of(name: str, precision: str, *, tf32: bool) -> float | None:
    """The same by a device's name; `tf32` says whether float32 products may be rounded to it."""
    for known, (bf16, rounded, single) in _PEAKS.items():
        if known in name:
            return 1e12 * (bf16 if precision.startswith("bf16") else rounded if tf32 else single)
    return None
