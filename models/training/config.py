"""Settings of the training loop."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from behavior.config import Config
from models.gpu.config import DeviceName, Precision


class TrainConfig(Config):
    """The training loop."""

    epochs: int = Field(101, ge=1, description="passes over the training data")
    stop_after_epochs: int | None = Field(
        None,
        ge=1,
        description="end after so many of `epochs`, whose learning rate schedule stays: what refitting does; "
        "null: after all of them",
    )
    max_minutes: float | None = Field(
        None,
        gt=0.0,
        description="time limit in minutes, over all resumptions of the run; null: none",
    )
    batch_sequences: int = Field(
        128, ge=1, description="global batch size in sequences: of all devices and micro-batches together"
    )
    batch_tokens: int | None = Field(
        None,
        ge=1,
        description="global batch size as a budget of events, filled with whole sequences; replaces "
        "batch_sequences",
    )
    accumulate: int = Field(1, ge=1, description="gradient accumulation: micro-batches per optimizer step")
    seed: int = Field(0, ge=0, description="random seed of weights, shuffling, dropout and negative sampling")
    validate_every_epochs: int = Field(1, ge=1, description="validation interval in epochs")
    select_by: str = Field("ndcg@10", description="validation metric that chooses the best checkpoint")
    patience: int | None = Field(
        None,
        ge=1,
        description="early stopping: validations without improvement of select_by before training ends; "
        "null: off",
    )
    checkpoint_every_steps: int = Field(
        500, ge=1, description="checkpoint interval in optimizer steps; every epoch ends with one as well"
    )
    log_every_steps: int = Field(10, ge=1, description="logging interval in optimizer steps")
    device: DeviceName = Field("auto", description="auto: a GPU where there is one")
    devices: Annotated[int, Field(ge=1)] | Literal["auto"] = Field(
        1, description="number of devices of this machine for data-parallel training; auto: every GPU"
    )
    item_table: Literal["replicated", "sharded"] = Field(
        "replicated",
        description="item embedding table: a copy on every device, or its rows sharded over the devices",
    )
    precision: Precision = Field(
        "auto",
        description="32-true: float32; bf16-mixed: automatic mixed precision with bfloat16; auto: bf16-mixed "
        "on a GPU that multiplies bfloat16, 32-true elsewhere",
    )
    compile: bool = Field(False, description="compile the backbone's blocks with torch.compile")
    cuda_graphs: bool | Literal["auto"] = Field(
        "auto",
        description="capture training steps as CUDA graphs, one per padded batch shape, and replay them: "
        "kernels are then launched without Python; auto: where that is possible and pays",
    )

    @property
    def epochs_to_train(self) -> int:
        """How many of the schedule's epochs are trained."""
        return min(self.epochs, self.stop_after_epochs or self.epochs)

    @model_validator(mode="after")
    def _divides_into_parts(self) -> TrainConfig:
        if self.batch_tokens is None and self.batch_sequences % self.accumulate:
            raise ValueError(
                f"batch_sequences ({self.batch_sequences}) is no multiple of accumulate ({self.accumulate})"
            )
        return self
