"""AdamW and the course of its learning rate."""

from __future__ import annotations

import math
from typing import Literal

import torch
from pydantic import Field

from behavior.config import Config


class OptimizerConfig(Config):
    """AdamW (Loshchilov and Hutter, 2019); the defaults are HSTU's."""

    learning_rate: float = Field(1e-3, gt=0.0, description="highest learning rate")
    betas: tuple[float, float] = Field(
        (0.9, 0.98), description="decay of the running gradient and of its square"
    )
    weight_decay: float = Field(0.0, ge=0.0, description="decoupled weight decay")
    clip_norm: float | None = Field(
        None, gt=0.0, description="longest gradient; none leaves gradients as they are"
    )
    warmup_steps: int = Field(0, ge=0, description="steps over which the learning rate rises in a line")
    schedule: Literal["constant", "cosine"] = Field(
        "constant",
        description="what follows: the same rate, or a cosine down to 0 at the end of train.epochs",
    )


def build_optimizer(config: OptimizerConfig, module: torch.nn.Module) -> torch.optim.AdamW:
    """AdamW over all parameters of a module, in one fused kernel."""
    return torch.optim.AdamW(
        module.parameters(),
        lr=config.learning_rate,
        betas=config.betas,
        weight_decay=config.weight_decay,
        fused=True,
    )


def learning_rate(config: OptimizerConfig, step: int, progress: float) -> float:
    """The learning rate of a step.

    Args:
        config: the settings.
        step: steps already taken.
        progress: share of the training already done, 0 to 1.
    """
    rate = config.learning_rate
    if step < config.warmup_steps:
        return rate * (step + 1) / config.warmup_steps
    if config.schedule == "cosine":
        return rate * 0.5 * (1.0 + math.cos(math.pi * min(progress, 1.0)))
    return rate
