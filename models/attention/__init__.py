"""Attention on flat tokens: one function, several kernels, masks and biases that are not tensors."""

from models.attention.bias import RelativeBias, RelativeTime, time_bucket
from models.attention.decay import TimeDecay
from models.attention.dispatch import attention, find_kernel, kernel_table
from models.attention.masks import Causal, LocalWindow, Mask, SemiLocal
from models.attention.sequences import Sequences

__all__ = [
    "Causal",
    "LocalWindow",
    "Mask",
    "RelativeBias",
    "RelativeTime",
    "SemiLocal",
    "Sequences",
    "TimeDecay",
    "attention",
    "find_kernel",
    "kernel_table",
    "time_bucket",
]
