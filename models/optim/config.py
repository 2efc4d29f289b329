"""Settings of the optimizer."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from behavior.config import Config
from models.optim.schedule import Schedule

ItemTableOptimizer = Literal["adamw", "rowwise_adagrad", "sparse_rowwise_adagrad", "sparse_adam"]


class OptimizerConfig(Config):
    """AdamW (Loshchilov and Hutter, 2019); the defaults are HSTU's."""

    learning_rate: float = Field(1e-3, gt=0.0, description="peak learning rate")
    betas: tuple[float, float] = Field(
        (0.9, 0.98),
        description="AdamW's betas: decay rates of the running averages of the gradient and of its square",
    )
    weight_decay: float = Field(0.0, ge=0.0, description="decoupled weight decay")
    item_weight_decay: float | None = Field(
        None,
        ge=0.0,
        description="decoupled weight decay of the embedding table of items alone, whatever decay_on says; "
        "null: as of other embeddings",
    )
    decay_on: Literal["all", "linear"] = Field(
        "all",
        description="parameters with weight decay: all, or linear: weight matrices of linear layers alone "
        "(no biases, norms or embeddings)",
    )
    clip_norm: float | None = Field(
        None,
        gt=0.0,
        description="gradient clipping: maximum norm of the gradient of all parameters; null: no clipping",
    )
    warmup_steps: int = Field(0, ge=0, description="steps of linear learning-rate warm-up")
    schedule: Schedule = Field(
        "constant",
        description="learning rate after warm-up: constant; linear or cosine decay towards 0 at the end of "
        "train.epochs; or inverse_sqrt decay, with the square root of the step",
    )
    logit_learning_rate: float | None = Field(
        None,
        gt=0.0,
        description="peak learning rate of the constants and tables of history, jump and trend logits, few "
        "numbers that every event moves; null: learning_rate",
    )
    item_table: ItemTableOptimizer = Field(
        "adamw",
        description="optimizer of the embedding tables of items and item features: adamw, or "
        "rowwise_adagrad, whose state is one number a row; for the table of items, sparse_rowwise_adagrad "
        "and sparse_adam, which touch only rows that a step looks up, however many there are",
    )
    item_learning_rate: float | None = Field(
        None, gt=0.0, description="peak learning rate of that optimizer, if not adamw; null: learning_rate"
    )

    @property
    def has_sparse_items(self) -> bool:
        """Whether the item table has gradients by row."""
        return self.item_table.startswith("sparse_")
