"""Settings of the optimizer."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from behavior.config import Config
from models.optim.schedule import Schedule


class OptimizerConfig(Config):
    """AdamW (Loshchilov and Hutter, 2019); the defaults are HSTU's."""

    learning_rate: float = Field(1e-3, gt=0.0, description="highest learning rate")
    betas: tuple[float, float] = Field(
        (0.9, 0.98), description="decay of the running gradient and of its square"
    )
    weight_decay: float = Field(0.0, ge=0.0, description="decoupled weight decay")
    decay_on: Literal["all", "linear"] = Field(
        "all",
        description="what decays: all, or linear: matrices of linear layers, no bias, norm or embedding",
    )
    clip_norm: float | None = Field(
        None, gt=0.0, description="longest gradient; none leaves gradients as they are"
    )
    warmup_steps: int = Field(0, ge=0, description="steps over which the learning rate rises in a line")
    schedule: Schedule = Field(
        "constant",
        description="what follows: the same rate, a line or a cosine down to 0 at the end of train.epochs, "
        "or inverse_sqrt: falling with the square root of the step",
    )
    item_table: Literal["adamw", "rowwise_adagrad"] = Field(
        "adamw",
        description="optimizer of the tables of items and their features; rowwise_adagrad: a number a row",
    )
    item_learning_rate: float | None = Field(
        None, gt=0.0, description="highest learning rate of rowwise_adagrad; empty: learning_rate"
    )
