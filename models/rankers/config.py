"""Settings of rankers without a backbone."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from behavior.config import Config


class RankersConfig(Config):
    """How rankers without a backbone are fitted."""

    dim: int = Field(16, ge=1, description="dimension of the vectors of logistic, fm, ffm, dcn and din")
    hidden: list[int] = Field(
        [128, 64], min_length=1, description="widths of the hidden layers of dcn and din"
    )
    cross_layers: int = Field(3, ge=1, description="cross layers of dcn")
    history: int = Field(50, ge=1, description="most recent events that din attends to")
    dropout: float = Field(0.2, ge=0.0, lt=1.0, description="dropout behind hidden layers of dcn and din")
    learning_rate: float = Field(1e-3, gt=0.0, description="learning rate of Adam")
    weight_decay: float = Field(1e-6, ge=0.0, description="L2 penalty on the vectors of ids and features")
    batch_rows: int = Field(2048, ge=1, description="rows of a step")
    epochs: int = Field(20, ge=1, description="most epochs; the best one on validation counts")
    patience: int = Field(2, ge=1, description="epochs without a better validation after which training ends")
    trees: int = Field(1000, ge=1, description="most trees of lightgbm; the best number on validation counts")
    leaves: int = Field(63, ge=2, description="leaves of a tree of lightgbm")
    device: Literal["cpu", "cuda"] = Field(
        "cpu", description="where logistic, fm, ffm, dcn and din are trained; cuda: a GPU"
    )
    seed: int = Field(0, ge=0, description="of first weights, orders and dropout")
