"""Floating-point operations of a training step, and what a device could do at most.

What the mathematics of a model needs is counted, a multiplication and an addition as two: not what a kernel
computes twice to save memory, and nothing that is not a matrix product. Model FLOPs utilization (MFU) is
this over the device's peak (Chowdhery et al., 2022, PaLM, appendix B).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import nn

from models.config import RunConfig
from models.tasks.retrieval import RetrievalModel

_FORWARD_AND_BACKWARD = 3.0
"""A matrix product has two more in its backward pass, as large as itself."""
_ATTENTION_FORWARD_AND_BACKWARD = 3.5
"""Attention has two products forward and five backward: scores are not kept."""

# Dense peak in TFLOP/s: bfloat16, TF32, float32. The first name that is part of the device's counts.
_PEAKS: dict[str, tuple[float, float, float]] = {
    "H100 PCIe": (756.0, 378.0, 51.0),
    "H100 NVL": (835.0, 417.0, 60.0),
    "H100": (989.0, 495.0, 67.0),
    "H200": (989.0, 495.0, 67.0),
    "A100": (312.0, 156.0, 19.5),
}


class StepWork(NamedTuple):
    """How much there is to do in a step."""

    tokens: float
    squared_lengths: float
    """Sum of the squares of the sequences' lengths."""
    positions: float
    """Tokens that predict something."""


@dataclass(frozen=True)
class TrainingFlops:
    """Operations of forward and backward pass, by what they grow with."""

    token: float
    """A token: linear layers, 6 an element of their matrices."""
    squared_length: float
    """A squared length: attention, of which the causal half is counted."""
    position: float
    """A predicting position: the scores of the items it is compared with."""

    def of(self, work: StepWork) -> float:
        """Operations of a step."""
        return (
            self.token * work.tokens
            + self.squared_length * work.squared_lengths
            + self.position * work.positions
        )


def training_flops(model: RetrievalModel, config: RunConfig) -> TrainingFlops:
    """Operations of a model and its loss.

    Embedding tables are looked up and count nothing. A backbone that sees more tokens than the batch has
    events is counted as if it did not; negatives from the batch, as if they were all items.
    """
    matrices = sum(part.weight.numel() for part in model.modules() if isinstance(part, nn.Linear))
    backbone = config.model
    # Scores and their product with the values, each 2 * width a pair, and length^2 / 2 pairs.
    settings = backbone.block_settings(backbone.max_length)
    attention = float(settings.heads * (settings.query_dim + settings.num_channels * settings.value_dim))
    items = model.num_items
    if config.loss.kind != "full_softmax" and config.loss.negatives.source == "catalog":
        items = min(items, config.loss.negatives.count)
    return TrainingFlops(
        token=_FORWARD_AND_BACKWARD * 2.0 * matrices,
        squared_length=_ATTENTION_FORWARD_AND_BACKWARD * backbone.blocks * attention,
        position=_FORWARD_AND_BACKWARD * 2.0 * items * backbone.dim,
    )


def peak_flops(device: torch.device, precision: str) -> float | None:
    """What a device can do in a second, without sparsity; None where that is not known.

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
