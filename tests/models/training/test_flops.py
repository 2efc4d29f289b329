"""Peaks of devices, by their names."""

from __future__ import annotations

import torch

from models.training.flops import peak_flops, peak_flops_of


def test_peaks_go_by_name_and_number_format() -> None:
    assert peak_flops_of("NVIDIA H100 80GB HBM3", "bf16-mixed", tf32=False) == 989e12
    assert peak_flops_of("NVIDIA H100 80GB HBM3", "32-true", tf32=True) == 495e12
    assert peak_flops_of("NVIDIA H100 80GB HBM3", "32-true", tf32=False) == 67e12
    assert peak_flops_of("NVIDIA H100 PCIe", "bf16-mixed", tf32=False) == 756e12
    assert peak_flops_of("NVIDIA A100-SXM4-80GB", "bf16-mixed", tf32=False) == 312e12
    assert peak_flops_of("NVIDIA GeForce GTX 1080", "bf16-mixed", tf32=False) is None
    assert peak_flops(torch.device("cpu"), "bf16-mixed") is None
