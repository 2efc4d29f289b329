"""Every setting of a training run."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from behavior.config import Config, apply_overrides, parse_config
from models.backbones.config import BackboneConfig
from models.data.loading.config import LoaderConfig
from models.evaluation.config import EvaluationConfig
from models.evaluation.metrics import metric_names
from models.gpu.config import DeviceName
from models.inputs.config import EmbeddingConfig
from models.losses.config import LossConfig
from models.optim.config import OptimizerConfig
from models.recipes import load_recipe

DEFAULT_RECIPE = "default"


class ModelConfig(BackboneConfig):
    """The backbone, and what it is shown of a sequence."""

    max_length: int = Field(200, ge=1, description="events of history the model sees, N")
    time: Literal["known", "unknown"] = Field(
        "known",
        description="whether a query knows the time of what it predicts, in training and evaluation alike",
    )


class TrainConfig(Config):
    """The course of a training."""

    epochs: int = Field(101, ge=1, description="passes over the training data")
    max_minutes: float | None = Field(
        None, gt=0.0, description="stop after so many minutes of training altogether"
    )
    batch_sequences: int = Field(128, ge=1, description="sequences in a step, on all devices together")
    batch_tokens: int | None = Field(
        None,
        ge=1,
        description="instead of batch_sequences: events in a step, on all devices together, in whole "
        "sequences",
    )
    accumulate: int = Field(
        1,
        ge=1,
        description="parts that a step is worked through in, one by one: less memory, same gradient",
    )
    seed: int = Field(0, ge=0, description="seed of weights, order, dropout and negatives")
    validate_every_epochs: int = Field(1, ge=1, description="epochs from one validation to the next")
    select_by: str = Field(
        "ndcg@10", description="validation metric of the checkpoint that is kept as the best"
    )
    patience: int | None = Field(
        None, ge=1, description="stop after so many validations without a better one; none: go on"
    )
    checkpoint_every_steps: int = Field(
        500, ge=1, description="steps between checkpoints; one is also made at every epoch's end"
    )
    log_every_steps: int = Field(10, ge=1, description="steps between reports of the loss")
    device: DeviceName = Field("auto", description="auto: a GPU where there is one")
    devices: Annotated[int, Field(ge=1)] | Literal["auto"] = Field(
        1, description="devices of this machine to train on together; auto: every GPU"
    )
    item_table: Literal["replicated", "sharded"] = Field(
        "replicated",
        description="where the table of items is: whole on every device, or its rows divided among devices",
    )
    precision: Literal["32-true", "bf16-mixed"] = Field(
        "32-true", description="number format of the forward pass"
    )
    compile: bool = Field(False, description="whether torch.compile fuses what stands between attentions")
    cuda_graphs: bool | Literal["auto"] = Field(
        False,
        description="whether steps are recorded, once for each size, and replayed on the GPU without Python: "
        "for models that are bound by launches; auto: where that is possible",
    )

    @model_validator(mode="after")
    def _divides_into_parts(self) -> TrainConfig:
        if self.batch_tokens is None and self.batch_sequences % self.accumulate:
            raise ValueError(
                f"batch_sequences ({self.batch_sequences}) is no multiple of accumulate ({self.accumulate})"
            )
        return self


class RunConfig(Config):
    """A training run. `lrm train --set section.key=value` changes any of these."""

    model: ModelConfig = Field(ModelConfig(), description="the backbone")
    embedding: EmbeddingConfig = Field(EmbeddingConfig(), description="how events become token vectors")
    loss: LossConfig = Field(LossConfig(), description="what is minimised")
    optimizer: OptimizerConfig = Field(OptimizerConfig(), description="how")
    train: TrainConfig = Field(TrainConfig(), description="for how long, and in what portions")
    loader: LoaderConfig = Field(LoaderConfig(), description="how samples are cut, shuffled and read")
    evaluation: EvaluationConfig = Field(EvaluationConfig(), description="how rankings are judged")

    @model_validator(mode="after")
    def _selects_by_a_metric(self) -> RunConfig:
        known = metric_names(self.evaluation.cutoffs)
        if self.train.select_by not in known:
            raise ValueError(
                f"train.select_by is '{self.train.select_by}'; evaluation.cutoffs gives {', '.join(known)}"
            )
        return self


def load_config(recipe: str | Path = DEFAULT_RECIPE, overrides: Iterable[str] = ()) -> RunConfig:
    """A recipe with settings changed.

    Args:
        recipe: name of one that ships with the package, or path of a YAML file.
        overrides: `section.key=value` settings.

    Raises:
        UserError: the recipe is not known, or a setting is wrong; names the nearest key.
    """
    overrides = list(overrides)
    data = load_recipe(recipe)
    parse_config(RunConfig, data, where=f"recipe {recipe}")
    return parse_config(RunConfig, apply_overrides(data, overrides), where=" ".join(["--set", *overrides]))
